"""AV digits: fixed splits that share nothing, maps and noise as documented, and specs that answer typing errors."""

from __future__ import annotations

import hashlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from snnergy import data
from snnergy.data import avdigits
from snnergy.errors import BadInput

SPLITS = ("train", "val", "test")


def test_the_file_is_the_one_described():
    assert hashlib.sha256(avdigits.FILE.read_bytes()).hexdigest() == data.info("avdigits").sha256


def test_the_licence_notice_lies_beside_the_data():
    notice = avdigits.FILE.with_name("LICENSE.avdigits").read_text()
    assert "Free Spoken Digit Dataset" in notice and "CC BY-SA 4.0" in notice and "Alpaydin" in notice


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_has_the_promised_size_types_and_range(split):
    samples = data.load(f"avdigits:{split}")
    count = data.info("avdigits").splits[split]
    assert len(samples) == len(samples.id) == len(set(samples.id)) == count
    assert samples.audio.shape == samples.video.shape == (count, 1, 32, 32)
    assert (samples.audio.dtype, samples.video.dtype, samples.label.dtype) == (np.float32, np.float32, np.int64)
    for values in (samples.audio, samples.video):
        assert values.min() == 0 and values.max() == 1
    assert np.bincount(samples.label).tolist() == [count // 10] * 10


def test_no_two_splits_share_a_clip_or_an_image():
    pools = [avdigits.pool(split) for split in SPLITS]
    clips = [name for pool in pools for name in pool.audio_id]
    images = [name for pool in pools for name in pool.video_id]
    assert len(clips) == len(set(clips)) == 3000
    assert len(images) == len(set(images)) == 1797


def test_test_speakers_and_writers_are_in_no_other_split():
    def groups(names):
        return {name.split("-")[0] for name in names}

    test, *others = (avdigits.pool(split) for split in ("test", "train", "val"))
    assert groups(test.audio_id) == {"theo", "yweweler"}
    assert groups(test.video_id) == {"form10", "form11", "form12", "form13"}
    for pool in others:
        assert not groups(pool.audio_id) & groups(test.audio_id)
        assert not groups(pool.video_id) & groups(test.video_id)


def test_validation_is_a_small_part_of_the_training_material():
    train, val = avdigits.pool("train"), avdigits.pool("val")
    assert len(val.audio) / (len(val.audio) + len(train.audio)) == 0.08
    assert 0.08 < len(val.video) / (len(val.video) + len(train.video)) < 0.1


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SPLITS), st.integers(1, 300), st.integers(0, 2**32))
def test_a_pair_has_one_class(split, count, seed):
    pool = avdigits.pool(split)
    clip, image, label = pool.pairs(count, np.random.default_rng(seed))
    assert np.array_equal(pool.audio_label[clip], label)
    assert np.array_equal(pool.video_label[image], label)
    assert np.ptp(np.bincount(label, minlength=10)) <= 1


def test_the_test_split_is_the_same_on_every_platform_and_for_ever():
    samples = data.load("avdigits:test")
    digest = hashlib.sha256()
    for part in (samples.audio, samples.video, samples.label):
        digest.update(np.ascontiguousarray(part).astype(part.dtype.newbyteorder("<")).tobytes())
    digest.update("\n".join(samples.id).encode())
    assert digest.hexdigest() == "4d91302f21d4bbe74df4f07a19091c883ebea64cb208347c1194bd0a575e267a"
    assert samples.id[0] == "0:theo-2-20+form13-1689"


def test_fewer_samples_are_the_first_ones():
    few, all_of_them = data.load("avdigits:test", 7), data.load("avdigits:test")
    assert len(few) == 7 and few.id == all_of_them.id[:7]
    assert np.array_equal(few.audio, all_of_them.audio[:7])
    assert np.array_equal(few.video, all_of_them[:7].video)


def test_a_larger_image_is_the_same_image():
    small, large = data.load("avdigits:test", 3), data.load("avdigits:test", 3, image_size=64)
    assert large.video.shape == (3, 1, 64, 64)
    np.testing.assert_allclose(large.video.mean((1, 2, 3)), small.video.mean((1, 2, 3)), atol=1e-3)


def test_noise_has_the_documented_strength():
    samples, pool = data.load("avdigits:test"), avdigits.pool("test")
    clips = dict(zip(pool.audio_id, pool.audio, strict=True))
    images = dict(zip(pool.video_id, pool.video, strict=True))
    names = [name.split(":")[1].split("+") for name in samples.id]
    for noisy, clean, sigma in (
        (samples.audio[:, 0], np.stack([clips[clip] for clip, _ in names]), 0.2),
        (samples.video[:, 0], np.stack([images[image] for _, image in names]), 0.5),
    ):
        black = noisy[clean == 0]  # half of it is clamped: the rest is one side of the bell
        assert abs(np.sqrt(np.mean(black[(black > 0) & (black < 1)] ** 2)) / sigma - 1) < 0.12
        assert abs(np.mean(black > 0) - 0.5) < 0.01


def test_a_map_is_centred_and_its_loudest_cell_is_one():
    mfcc = np.zeros((10, 13), np.int16)
    mfcc[:, 0] = 400
    level = avdigits.log_mel(mfcc)
    assert level.shape == (32, 32)
    assert level[:, :11].max() == level[:, 21:].max() == 0
    assert level[:, 11:21].min() == level.max() == 1


def test_a_long_recording_keeps_its_middle():
    mfcc = np.zeros((50, 13), np.int16)
    mfcc[:, 0] = np.arange(50) * 8
    short = avdigits.log_mel(mfcc[9:41])
    assert np.all(np.diff(avdigits.log_mel(mfcc)[0]) >= 0)
    assert short.max() == 1 and avdigits.log_mel(mfcc).max() < 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 1000))
def test_resizing_stays_between_the_extremes_and_keeps_a_plain_image(before, after, seed):
    image = np.random.default_rng(seed).random((2, before, before))
    resized = avdigits.resize(image, after)
    assert resized.shape == (2, after, after)
    assert image.min() - 1e-12 <= resized.min() and resized.max() <= image.max() + 1e-12
    np.testing.assert_allclose(avdigits.resize(np.full((before, before), 0.25), after), 0.25)


@pytest.mark.parametrize("before", [8, 32])
def test_resizing_is_torchs_bilinear_interpolation(before):
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(0).random((2, before, before))
    wanted = torch.nn.functional.interpolate(torch.from_numpy(image)[:, None], size=(64, 64), mode="bilinear")
    np.testing.assert_allclose(avdigits.resize(image, 64), wanted[:, 0].numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "samples", "message"),
    [
        ("avdigit:test", None, "no data set 'avdigit'; did you mean 'avdigits'?"),
        ("avdigits:tset", None, "no split 'tset' in data set 'avdigits'; did you mean 'test'?"),
        ("avdigits", None, "'avdigits' names no split; there are: train, val, test"),
        ("avdigits:val", 0, "0 samples of avdigits:val asked for; it has 500, and at least 1 is needed"),
        ("avdigits:val", 501, "501 samples of avdigits:val asked for; it has 500, and at least 1 is needed"),
    ],
)
def test_a_wrong_spec_is_answered_in_one_line(spec, samples, message):
    with pytest.raises(BadInput) as error:
        data.load(spec, samples)
    assert str(error.value) == message


def test_an_absurd_size_is_refused():
    with pytest.raises(BadInput) as error:
        data.load("avdigits:test", 1, image_size=100_000)
    assert str(error.value) == "avdigits cannot be resized to 100000 pixels; it has 32 and goes up to 1024"
