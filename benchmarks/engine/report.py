"""The benchmark's results as tables, from what ``run.py`` measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log10
from typing import Any

TITLES = {
    "ours": "**snnergy**",
    "lava": "Lava 0.10, fixed point",
    "lava_in_process": "Lava's models, in one process (ours)",
    "torch_loop": "plain torch loop",
    "jax": "plain JAX scan",
}
CASES = {
    "fc:1": "FC, 1 sample",
    "fc:64": "FC, 64 samples",
    "conv:1": "conv, 1 sample",
    "conv:16": "conv, 16 samples",
}


def title(row: dict[str, Any]) -> str:
    """The simulator, and the path where it was forced."""
    name = TITLES.get(row["peer"], row["peer"])
    return name + (f", {row['path']}" if row.get("path") else "")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)] + [""]


def number(value: float | None) -> str:
    """Three figures, thousands apart."""
    if value is None:
        return "-"
    return f"{round(value, 2 - int(log10(abs(value)))):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell(row: dict[str, Any], case: str) -> float | None:
    return row["cases"].get(case, {}).get("median")


def automatic(rows: list[dict[str, Any]], case: str) -> float | None:
    """Ours by its own choice, on whichever number of cores was faster."""
    found = [cell(r, case) for r in rows if r["peer"] == "ours" and not r.get("path")]
    return max((f for f in found if f), default=None)


def on_one_core(rows: list[dict[str, Any]], case: str) -> float | None:
    """Ours over Lava, each on one core."""
    speeds = {r["peer"]: cell(r, case) for r in rows if r["cores"] == 1 and not r.get("path")}
    ours, lava = speeds.get("ours"), speeds.get("lava")
    return ours / lava if ours and lava else None


def by_simulator(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Peer -> for each case its fastest row, ours by its own choice only."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if not row.get("path"):
            for case in CASES:
                kept = found.setdefault(row["peer"], {})
                if (cell(row, case) or 0) > (cell(kept[case], case) or 0 if case in kept else 0):
                    kept[case] = row
    return found


def side_by_side(rows: list[dict[str, Any]]) -> list[str]:
    best = by_simulator(rows)

    def shown(peer: str, case: str) -> str:
        row = best[peer].get(case)
        if row is None:
            every = [r["cases"].get(case, {}) for r in rows if r["peer"] == peer]
            said = next((c.get("skipped") or c.get("error") for c in every if c), "not run")
            return said.replace("|", "/")[:60]
        speed, ours = cell(row, case) or 0.0, automatic(rows, case)
        ratio = f" ({number(ours / speed)}x)" if ours and peer != "ours" else ""
        return number(speed) + ratio

    def spikes(peer: str) -> str:
        cases = [row["cases"][case] for case, row in best[peer].items()]
        if not cases:
            return "-"
        return "all" if all(c["exact"] for c in cases) else f"{100 * min(c['agreement'] for c in cases):.0f} %"

    def start(peer: str) -> str:
        return number(min((row["start_s"] for row in best[peer].values()), default=None))

    lines = [
        "Samples x timesteps per second, median of the repeats, on one core or all, whichever was faster; in brackets",
        "how many times faster the native engine is. Spikes: the share of the output spikes that are those of the",
        "integers (common / either), in the worst case; simulators in floating point drift apart by rounding.",
        "",
        *table(
            ("simulator", *CASES.values(), "spikes the same", "start s"),
            ((TITLES.get(p, p), *(shown(p, case) for case in CASES), spikes(p), start(p)) for p in best),
        ),
    ]
    notes = {(p, c["neuron"]) for p in best for r in best[p].values() for c in r["cases"].values() if "neuron" in c}
    lines += [f"{TITLES.get(p, p)} has another neuron: it {note}.\n" for p, note in sorted(notes)]
    won = [
        f"{TITLES.get(p, p)} on {label} ({number(speed)} against {number(ours)})"
        for case, label in CASES.items()
        for p, cases in best.items()
        if p != "ours" and case in cases
        if (speed := cell(cases[case], case) or 0.0) > (ours := automatic(rows, case) or 0.0) > 0
    ]
    alone = [f"{number(ratio)} times on {label}" for case, label in CASES.items() if (ratio := on_one_core(rows, case))]
    if alone:
        lines += [
            "Lava runs an OS process for each process of its network, and the table gives it all cores. With one core",
            f"each, the native engine does {' and '.join(alone)} what Lava does.",
            "",
        ]
    if any(r["peer"] == "ours" for r in rows):
        lines += [f"Faster than the native engine: {'; '.join(won) if won else 'none of them, in no case'}.", ""]
    return lines


def each_run(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "Each run: median of wall time, and per second of CPU time, all processes and threads together.",
        "",
        *table(
            ("simulator", "cores", *CASES.values()),
            (
                (
                    title(row),
                    str(row["cores"]),
                    *(f"{number(cell(row, c))} / {number(row['cases'].get(c, {}).get('per_cpu_s'))}" for c in CASES),
                )
                for row in rows
            ),
        ),
    ]


def exact(found: dict[str, Any]) -> list[str]:
    return [
        "Exactness: every spike of every layer against plain int64 arithmetic in numpy; and all samples by every path,",
        "with one thread and two, against one another.",
        "",
        *table(
            ("workload", "samples", "spikes compared", "equal", "paths and threads equal", "firing per step"),
            (
                (
                    name,
                    str(row["samples"]),
                    f"{row['spikes']:,}",
                    "yes" if row["reference"] else "**no**",
                    "yes" if row["paths_and_threads"] else "**no**",
                    ", ".join(f"{100 * r:.1f} %" for r in row["rates"]),
                )
                for name, row in found.items()
            ),
        ),
    ]


def sweep(rows: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(case for row in rows for case in row["cases"]))
    lines = ["Activity of the inputs and of every layer, one sample, one core:", ""]
    for key in ("fc", "conv"):
        cases = [case for case in names if case.startswith(key)]
        head = ("simulator", *(f"{key} {case.partition('@')[2].partition(':')[0]} %" for case in cases))
        chosen = [row for row in rows if any(case in row["cases"] for case in cases)]
        lines += table(head, ((title(row), *(number(cell(row, case)) for case in cases)) for row in chosen))
    return lines


def scaling(found: dict[str, Any]) -> list[str]:
    units = {"neurons": "neurons", "synapses": "synapses", "steps": "steps of a sample", "samples": "samples"}
    lines = ["One core; each with all else held:", ""]
    for name, points in found.items():
        lines += table(
            (units[name], *(f"{p['value']:,}" for p in points)),
            (
                ("samples x timesteps / s", *(number(p["st_s"]) for p in points)),
                ("million neuron updates / s", *(number(p["updates_s"] / 1e6) for p in points)),
            ),
        )
    return lines


def bounds(found: dict[str, Any]) -> list[str]:
    return [
        "What one core can do, in this run: "
        + "; ".join(
            f"{name} {number(v)} {'GB/s' if name.startswith('memory') else 'GOP/s'}"
            for name, v in found["bounds"].items()
        )
        + ".",
        "",
        *table(
            (
                "dense layer, half of the inputs firing",
                "GOP/s",
                "bound",
                "share of it, product",
                "share of it, whole engine",
                "of the best int8 rate seen, product",
                "of the best int8 rate seen, whole engine",
            ),
            (
                (
                    row["layer"],
                    number(row["gops"]),
                    row["bound"],
                    f"{100 * row['share']:.0f} %",
                    f"{100 * row['share_with_neurons']:.0f} %",
                    f"{100 * row['share_of_best']:.0f} %",
                    f"{100 * row['share_of_best_with_neurons']:.0f} %",
                )
                for row in found["layers"]
            ),
        ),
    ]


def presets(rows: list[dict[str, Any]]) -> list[str]:
    def shown(row: dict[str, Any]) -> tuple[str, ...]:
        if "error" in row:
            return (row["preset"], row["error"], *[""] * 8)
        priced = ("-", "-")
        if "priced_seconds" in row:
            spread = ", ".join(number(row[f"energy_uj_p{q}"]) for q in (5, 50, 95))
            priced = (number(row["priced_seconds"]), f"{spread} (least {number(row['energy_uj_p0'])}, "
                      f"most {number(row['energy_uj_p100'])})")  # fmt: skip
        return (
            f"{row['preset']} ({row['model']})", f"{row['samples']:,}", f"{row['neurons']:,}",
            f"{100 * row['spikes_per_neuron_step']:.1f} %", number(row["seconds"]), number(row["samples_s"]),
            number(row["st_s"]), f"{row['peak_mib']:.0f} ({row['peak_mib_before']:.0f} before)", *priced,
        )  # fmt: skip

    head = ("preset", "samples", "neurons", "firing", "s", "samples / s", "samples x timesteps / s", "peak MiB",
            "s with every sample priced", "uJ a sample on Loihi 2, estimated: 5 %, median, 95 %")  # fmt: skip
    return ["SNNergy's networks on real samples of AV digits, all cores:", "", *table(head, map(shown, rows))]


def starts(found: dict[str, Any]) -> list[str]:
    head = ("start", "Python and imports s", "FC to first result s", "conv after it s")
    return table(
        head, ((k, number(r["import_s"]), number(r.get("fc:1")), number(r.get("conv:1"))) for k, r in found.items())
    )


SECTIONS: dict[str, Callable[[Any], list[str]]] = {
    "rows": side_by_side,
    "exact": exact,
    "starts": starts,
    "sweep": sweep,
    "scaling": scaling,
    "bounds": bounds,
    "presets": presets,
}


def markdown(found: dict[str, Any]) -> str:
    """All tables, in the order of SECTIONS."""
    about = found["about"]
    versions = {k: v for row in found.get("rows", []) for k, v in row["versions"].items() if k != "numpy"}
    lines = [
        f"{about['cpu']}, {about['cores']} cores, load {about['load']:.1f} at the start; Python {about['python']}, "
        + ", ".join(f"{k} {v}" for k, v in {"numpy": about["numpy"], **versions}.items())
        + ".",
        "",
    ]
    if found["quick"]:
        lines += ["**A quick run: its times mean nothing.**", ""]
    if found.get("kept"):
        lines += [f"From an earlier run on this machine: {', '.join(found['kept'])}.", ""]
    for key, section in SECTIONS.items():
        if not found.get(key):
            continue
        if isinstance(found[key], dict) and "error" in found[key]:
            lines += [f"{key}: {found[key]['error']}", ""]
            continue
        lines += section(found[key])
    if found.get("rows"):
        lines += each_run(found["rows"])
    lines += [f"Not run: {name}: {reason}\n" for name, reason in found["missing"].items()]
    return "\n".join(lines)


def summary(found: dict[str, Any]) -> str:
    """The table for the README: where and when it was measured, and all simulators side by side."""
    about = found["about"]
    load = f"other load {about['load']:.1f} at the start"
    where = f"{about['cpu']}, {about['cores']} cores, {'quick run' if found['quick'] else 'one run'}, {load}."
    lines = [*side_by_side(found["rows"]), where, ""]
    return "\n".join(lines) + "\n"
