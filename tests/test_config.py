"""The presets and what a `ModelConfig` refuses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from snnergy.config import PRESETS, ModelConfig, preset
from snnergy.errors import BadInput


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_its_own_name_and_survives_a_dict(name):
    config = preset(name)
    assert config.name == name
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_a_near_miss_is_answered_with_the_preset_meant():
    with pytest.raises(BadInput) as error:
        preset("tinny")
    assert str(error.value) == "no preset 'tinny'; did you mean 'tiny'?"


def test_a_name_like_no_preset_is_answered_with_all_of_them():
    with pytest.raises(BadInput) as error:
        preset("???")
    assert str(error.value) == "no preset '???'; there are: tiny, chip, paper, paper512"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 40}, "model config: image_size is 40, it must be a multiple of 16"),
        ({"image_size": 32.0}, "model config: image_size is 32.0, it must be a whole number from 16 to 4096"),
        ({"dim": 66}, "model config: dim is 66, it must be a multiple of 4"),
        ({"timesteps": 0}, "model config: timesteps is 0, it must be a whole number from 1 to 4096"),
        ({"classes": True}, "model config: classes is True, it must be a whole number from 2 to 1000000"),
        ({"heads": (1, 2)}, "model config: heads is (1, 2), it must be three whole numbers from 1 to 65536"),
        ({"heads": (1, 2, 5)}, "model config: 5 heads do not divide a stage 64 channels wide"),
        ({"blocks": (0, 0, 999)}, "model config: blocks is (0, 0, 999), it must be three whole numbers from 0 to 64"),
        ({"beta": 1.5}, "model config: beta is 1.5, it must be a number from 0 to 1"),
        ({"beta": float("nan")}, "model config: beta is nan, it must be a number from 0 to 1"),
        ({"threshold": 0.0}, "model config: threshold is 0.0, it must be a finite number above 0"),
        ({"threshold": float("inf")}, "model config: threshold is inf, it must be a finite number above 0"),
        ({"name": 3}, "model config: name is 3, it must be a string"),
        ({"downsample": "maxpool"}, "model config: downsample is 'maxpool', it must be one of stride, pool"),
        ({"modalities": []}, "model config: modalities is [], it must be one of both, audio, video"),
    ],
)
def test_a_value_out_of_bounds_names_the_bounds(change, message):
    with pytest.raises(BadInput) as error:
        replace(preset("tiny"), **change)
    assert str(error.value) == message


def test_an_unknown_key_is_an_error_with_a_suggestion():
    plain = {**preset("tiny").to_dict(), "treshold": 1.0}
    with pytest.raises(BadInput) as error:
        ModelConfig.from_dict(plain)
    assert str(error.value) == "model config: unknown key 'treshold'; did you mean 'threshold'?"


def test_a_missing_key_is_an_error():
    plain = preset("tiny").to_dict()
    del plain["dim"]
    with pytest.raises(BadInput) as error:
        ModelConfig.from_dict(plain)
    assert str(error.value) == "model config: the key 'dim' is missing"


@pytest.mark.parametrize(
    ("change", "streams", "directions"),
    [
        ({}, ("audio", "video"), ("audio_from_video", "video_from_audio")),
        ({"fusion": "audio_from_video"}, ("audio", "video"), ("audio_from_video",)),
        ({"fusion": "none"}, ("audio", "video"), ()),
        ({"modalities": "video"}, ("video",), ()),
    ],
)
def test_streams_and_directions_follow_modalities_and_fusion(change, streams, directions):
    config = replace(preset("tiny"), **change)
    assert (config.streams, config.directions) == (streams, directions)


def test_config_and_data_load_without_torch():
    code = "import sys, snnergy.config, snnergy.data; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
