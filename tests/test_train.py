"""Training: an interrupted run goes on bit for bit, the cycle has its shape, distortions stay in range."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")

from snnergy import checkpoint, data  # noqa: E402
from snnergy.config import preset  # noqa: E402
from snnergy.data import avdigits  # noqa: E402
from snnergy.errors import BadInput  # noqa: E402
from snnergy.train import Recipe, distort_audio, distort_image, evaluate, one_cycle, train  # noqa: E402

SMALL = replace(preset("tiny"), dim=16, heads=(1, 1, 1), timesteps=2)


@pytest.fixture(autouse=True)
def short_splits(monkeypatch):
    """60 pairs instead of thousands."""
    whole = data.load
    monkeypatch.setattr(data, "load", lambda spec, samples=60, image_size=None: whole(spec, samples, image_size))


def short(path, **options):
    return train(SMALL, path, **{"seed": 5, "epochs": 2, "pairs": 128, **options})


def states(path):
    return checkpoint.load(path)[0].state_dict()


def test_an_interrupted_run_goes_on_to_the_same_model_bit_for_bit(tmp_path):
    whole = short(tmp_path / "whole.pt")
    asked = iter(range(100))
    part = short(tmp_path / "part.pt", stop=lambda: next(asked) == 3)  # in the second epoch
    assert (part.finished, part.test_accuracy, len(part.history)) == (False, None, 1)
    assert (tmp_path / "part.pt.resume").exists()
    rest = short(tmp_path / "part.pt")
    assert rest.finished and rest.history == whole.history and rest.test_accuracy == whole.test_accuracy
    first, second = states(tmp_path / "whole.pt"), states(tmp_path / "part.pt")
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert (tmp_path / "whole.pt").read_bytes() == (tmp_path / "part.pt").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part.pt", "whole.pt"]


def test_the_old_model_stays_until_the_new_one_is_finished(tmp_path):
    (tmp_path / "m.pt").write_text("old")
    asked = iter(range(100))
    short(tmp_path / "m.pt", stop=lambda: next(asked) == 3)
    assert (tmp_path / "m.pt").read_text() == "old"
    assert short(tmp_path / "m.pt").finished and states(tmp_path / "m.pt")


def test_a_run_that_dies_while_it_is_tested_is_not_trained_again(tmp_path, monkeypatch):
    def die(model, samples):
        if len(samples) == 61:
            raise KeyboardInterrupt
        return 0.5

    whole = data.load
    monkeypatch.setattr(data, "load", lambda spec, image_size: whole(spec, 61 if "test" in spec else 60, image_size))
    monkeypatch.setattr("snnergy.train.evaluate", die)
    with pytest.raises(KeyboardInterrupt):
        short(tmp_path / "m.pt")
    monkeypatch.undo()
    seen = []
    assert short(tmp_path / "m.pt", progress=lambda *call: seen.append(call)).finished and seen == []
    assert [p.name for p in tmp_path.iterdir()] == ["m.pt"]


def test_ctrl_c_leaves_a_state_to_resume_from(tmp_path):
    def interrupt(epoch, epochs, step, steps, loss, accuracy):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        short(tmp_path / "m.pt", progress=interrupt)
    assert len(short(tmp_path / "m.pt", stop=lambda: True).history) == 1


def test_the_seed_decides_the_model(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        short(tmp_path / name, seed=seed, epochs=1, pairs=64)
    a, b, c = (states(tmp_path / name)["readout.linear.weight"] for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_training_leaves_the_callers_random_numbers_alone(tmp_path):
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    short(tmp_path / "m.pt", epochs=1, pairs=64)
    assert torch.equal(torch.rand(2), wanted)


def test_a_state_of_another_run_is_refused(tmp_path):
    short(tmp_path / "m.pt", stop=lambda: (tmp_path / "m.pt.resume").exists())
    with pytest.raises(BadInput) as error:
        short(tmp_path / "m.pt", seed=6)
    assert str(error.value) == f"{tmp_path}/m.pt.resume belongs to a run with another seed"
    assert error.value.help == "delete it, or train without resume"
    assert short(tmp_path / "m.pt", seed=6, epochs=1, resume=False).finished


def test_progress_counts_every_step_and_ends_each_epoch_with_an_accuracy(tmp_path):
    seen = []
    result = short(tmp_path / "m.pt", progress=lambda *call: seen.append(call))
    assert [call[:4] for call in seen] == [(1, 2, 1, 2), (1, 2, 2, 2), (2, 2, 1, 2), (2, 2, 2, 2)]
    assert [call[5] for call in seen] == [None, result.history[0].val_accuracy, None, result.history[1].val_accuracy]


def test_the_checkpoint_says_where_it_comes_from(tmp_path):
    result = short(tmp_path / "m.pt")
    model, meta = checkpoint.load(tmp_path / "m.pt")
    assert (meta["dataset"], meta["seed"], meta["epoch"]) == ("avdigits:test", 5, result.best_epoch)
    assert meta["val_accuracy"] == result.val_accuracy == evaluate(model, data.load("avdigits:val"))
    assert evaluate(model, data.load("avdigits:test")) == result.test_accuracy


def test_a_run_without_progress_stops_early(tmp_path, monkeypatch):
    calls = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr("snnergy.train.evaluate", lambda model, samples: next(calls))
    result = train(SMALL, tmp_path / "m.pt", recipe=Recipe(epochs=9, pairs=64, patience=2))
    assert (len(result.history), result.best_epoch) == (3, 1)


def test_another_image_size_is_trained_on_resized_pairs(tmp_path):
    assert train(replace(SMALL, image_size=48), tmp_path / "m.pt", epochs=1, pairs=64).finished


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(BadInput) as error:
        train(replace(SMALL, classes=6), tmp_path / "m.pt")
    assert str(error.value) == "avdigits has 1 audio and 1 video channel and 10 classes; 'tiny' does not"
    (tmp_path / "file").touch()
    with pytest.raises(BadInput) as error:
        train(SMALL, tmp_path / "file" / "m.pt")
    assert str(error.value) == f"cannot make the folder {tmp_path}/file: File exists"
    with pytest.raises(BadInput) as error:
        train(SMALL, tmp_path / "m.pt", epochs=0)
    assert str(error.value) == "epochs is 0, it must be at least 1"


@given(st.floats(0, 1))
def test_the_cycle_stays_below_its_peak(done):
    assert 0 < one_cycle(done) <= 1


def test_the_cycle_starts_low_peaks_and_ends_lower():
    assert math.isclose(one_cycle(0), 0.04) and one_cycle(0.3) == 1 and math.isclose(one_cycle(1), 1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_distortions_stay_in_range_and_follow_their_generator(seed):
    pool = avdigits.pool("train")
    for distort, clean in ((distort_audio, pool.audio[:9]), (distort_image, pool.video[:9])):
        first, second = (distort(torch.from_numpy(clean), torch.Generator().manual_seed(seed)) for _ in range(2))
        assert first.shape == (9, 1, 32, 32) and first.dtype == torch.float32
        assert first.min() >= 0 and first.max() <= 1
        assert torch.equal(first, second)


def test_distorting_silence_adds_nothing_but_noise():
    sound = distort_audio(torch.zeros(50, 32, 32), torch.Generator().manual_seed(0))
    assert abs(float((sound > 0).float().mean()) - 0.5) < 0.01
