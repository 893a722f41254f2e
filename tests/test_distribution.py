"""Every sample's counters and prices are those of a run of that sample alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import random_quantnet
from hypothesis import given
from hypothesis import strategies as st
from mapping import SEEDS, looped, quantity, scattered

from snnergy.deploy import engine
from snnergy.deploy.activity import Activity
from snnergy.deploy.count import Counter, count
from snnergy.deploy.counts import COUNTERS
from snnergy.deploy.distribution import Meter, joined
from snnergy.deploy.place import place
from snnergy.deploy.price import price
from snnergy.deploy.report import RunFacts, document
from snnergy.deploy.report_file import read
from snnergy.deploy.report_page import html
from snnergy.deploy.report_text import spread
from snnergy.deploy.schedule import balance
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile, load

LOIHI2 = load("loihi2")


def inputs(net: QuantNet, rng: np.random.Generator, samples: int, streamed: bool) -> dict[str, Any]:
    steps = (net.steps,) if streamed else ()
    return {s.name: rng.integers(0, 1 << s.bits, (samples, *steps, *s.shape)) for s in net.sources}


@given(SEEDS, st.integers(1, 4), st.booleans())
def test_every_sample_counts_as_it_does_alone(seed: int, samples: int, streamed: bool) -> None:
    rng = np.random.default_rng(seed)
    net = looped(seed)
    placement, schedule = scattered(net, rng, LOIHI2), balance(net)
    x = inputs(net, rng, samples, streamed)
    counter = Counter(placement, net, schedule, LOIHI2)
    run = engine.run(net, x, observe=counter.each, threads=1)
    found = {name: np.concatenate([c.by[name] for c in run.observed], axis=1) for name in COUNTERS}
    links = np.concatenate([c.links for c in run.observed])
    for k in range(samples):
        alone = engine.run(net, {name: values[k : k + 1] for name, values in x.items()}).activity
        wanted = count(alone, placement, net, schedule, LOIHI2)
        here = slice(k * net.steps, (k + 1) * net.steps)
        for name in COUNTERS:
            np.testing.assert_array_equal(found[name][:, here], wanted.by[name], err_msg=name)
        np.testing.assert_array_equal(links[here], wanted.links)
    together = count(run.activity, placement, net, schedule, LOIHI2)
    assert sum(c.input_bytes for c in run.observed) == together.input_bytes


BYTES = replace(
    LOIHI2,
    energy_pj=replace(LOIHI2.energy_pj, input_byte=quantity(10, 20, 30), output_byte=quantity(500, 700, 900)),
    power_mw=replace(LOIHI2.power_mw, io=quantity(50, 60, 70)),
)


@pytest.mark.parametrize(("threads", "profile"), [(1, LOIHI2), (2, LOIHI2), (2, BYTES)], ids=["1", "2", "bytes"])
def test_prices_of_the_samples_are_those_of_runs_alone_and_average_to_the_report(
    threads: int, profile: Profile
) -> None:
    net, _ = random_quantnet(4)
    rng = np.random.default_rng(4)
    x = inputs(net, rng, 5, True)
    placement, schedule = place(net, balance(net), LOIHI2), balance(net)
    meter = Meter(Counter(placement, net, schedule, profile), profile)
    run = engine.run(net, x, observe=meter.measure, threads=threads)
    assert len(run.observed) == threads
    found = joined(run.observed)

    def report(activity: Activity) -> Any:
        return price(activity, placement, net, schedule, profile)

    for k in range(5):
        alone = report(engine.run(net, {name: values[k : k + 1] for name, values in x.items()}).activity)
        for name, interval in (
            ("energy_pj", alone.total_pj), ("dynamic_pj", alone.dynamic_pj), ("latency_ns", alone.latency_ns)
        ):  # fmt: skip
            got = getattr(found, name)[k]
            np.testing.assert_allclose(got, [interval.low, interval.nominal, interval.high], rtol=1e-12)
    np.testing.assert_allclose(found.part_pj.sum(axis=1), found.dynamic_pj[:, 1], rtol=1e-12)
    whole = report(run.activity)
    by_part = dict.fromkeys(found.parts, 0.0)
    for node, energy in whole.per_layer().items():
        by_part[whole.parts[node]] += float(energy[:, 1].sum())
    np.testing.assert_allclose(found.part_pj.mean(axis=0), [by_part[part] for part in found.parts], rtol=1e-12)
    mean = found.dynamic_pj.mean(axis=0)
    np.testing.assert_allclose(
        mean, [whole.dynamic_pj.low, whole.dynamic_pj.nominal, whole.dynamic_pj.high], rtol=1e-12
    )
    assert found.latency_ns[:, 1].mean() >= whole.latency_ns.nominal * (1 - 1e-12)


def test_the_report_says_what_the_samples_say(tmp_path: Path) -> None:
    net, _ = random_quantnet(4)
    rng = np.random.default_rng(4)
    placement, schedule = place(net, balance(net), LOIHI2), balance(net)
    counter = Counter(placement, net, schedule, LOIHI2)
    run = engine.run(net, inputs(net, rng, 40, True), observe=Meter(counter, LOIHI2).measure)
    samples = joined(run.observed)
    report = price(run.activity, placement, net, schedule, LOIHI2, counter)
    file = tmp_path / "r.json"
    file.write_text(json.dumps(document(report, RunFacts("native", distribution=samples))))
    doc = read(file)
    found, energy = doc["distribution"], samples.energy_pj[:, 1]
    assert [found["energy"][f"p{q}"] for q in (0, 50, 100)] == [energy.min(), np.median(energy), energy.max()]
    assert sum(found["histogram"]["samples"]) == 40
    assert [row["energy_pj"] for row in found["costliest"]] == sorted(energy, reverse=True)[:5]
    assert spread(doc, "energy") in html(doc)
    assert "From sample to sample" not in html(document(report, RunFacts("lava")))
