"""Configurations are resolved when made, and impossible ones refused by name."""

import json

import numpy as np
import pytest

from isolator_jax.errors import ConfigError
from isolator_jax.runs.config import RunConfig


def test_hyperparameters_are_resolved_and_survive_a_round_trip():
    config = RunConfig(backbone="lightgcn", hparams={"layers": "2", "reg": "1e-3"}, modalities=("a", "b"))
    assert config.hparams == {"dim": 64, "learning_rate": 1e-3, "layers": 2, "reg": 1e-3}
    assert RunConfig.from_dict(config.to_dict()) == config


def test_of_another_versions_configuration_the_message_says_what_differs_alone():
    saved = RunConfig(backbone="vbpr").to_dict()
    newer = {name: value for name, value in saved.items() if name not in ("fusion", "knock_out")} | {"warm_up": 3}
    for values, difference in (
        (newer, "lacks knock_out, fusion and has the unknown warm_up: another version"),
        (saved | {"warm_up": 3}, "the configuration has the unknown warm_up: another version"),
    ):
        with pytest.raises(ConfigError, match=difference) as refused:
            RunConfig.from_dict(values)
        assert "similarity_dtype" not in str(refused.value)
    with pytest.raises(ConfigError, match=r"names and values; found \[1\]"):
        RunConfig.from_dict([1])


@pytest.mark.parametrize("value", ["10:15", (10, 15), [10, "15"]])
def test_several_numbers_of_one_hyperparameter_are_written_as_one_text(value):
    config = RunConfig(backbone="smore", hparams={"neighbours": value})
    assert config.hparams["neighbours"] == "10:15" and config.hyperparameters.neighbours == (10, 15)
    assert RunConfig.from_dict(config.to_dict()) == config
    assert RunConfig(backbone="smore", hparams={"neighbours": 7}).hyperparameters.neighbours == (7,)


@pytest.mark.parametrize("value", ["10:", "", "10:0", "10:1.5", "10,15", [True], "9" * 5000])
def test_several_numbers_are_checked_one_by_one(value):
    with pytest.raises(ConfigError, match="hyper-parameter neighbours must be"):
        RunConfig(backbone="smore", hparams={"neighbours": value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vbprr"}, "known: mfbpr"),
        ({"hparams": {"regg": 1}}, "it has dim, learning_rate, reg"),
        ({"hparams": {"reg": "much"}}, "reg must be of type float"),
        ({"hparams": {"dim": 1.5}}, "dim must be of type int"),
        ({"hparams": {"reg": "nan"}}, "reg must be of type float"),
        ({"gamma": float("nan")}, "gamma"),
        ({"alpha": -1.0}, "alpha"),
        ({"patience": 0}, "patience"),
        ({"fusion": "sum"}, "mean, per_modality"),
        ({"data_dir": "somewhere"}, "go together"),
        ({"similarity_dtype": "int8"}, "float32, float16, bfloat16"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_run_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(**{"backbone": "vbpr", **options})


def test_numbers_of_numpy_are_taken_and_written_as_plain_ones():
    config = RunConfig("mfbpr", seed=np.arange(3)[1], gamma=np.float32(1), training_strategy=np.bool_(False))
    assert (
        json.loads(json.dumps(config.to_dict()))
        == RunConfig("mfbpr", seed=1, gamma=1.0, training_strategy=False).to_dict()
    )


def test_the_squared_norms_of_a_batch_are_divided_by_the_batch_size_unless_told_otherwise():
    assert RunConfig("mgcn").hparams["norm_batch"] == 2048
    assert RunConfig("gume", batch_size=512).hparams["norm_batch"] == 512
    assert RunConfig("smore", batch_size=512, hparams={"norm_batch": 64}).hparams["norm_batch"] == 64
    assert "norm_batch" not in RunConfig("freedom", batch_size=512).hparams


@pytest.mark.parametrize(("given", "expected"), [({}, 512), ({"norm_batch": 64}, 64)])
def test_of_a_saved_configuration_with_another_batch_size_they_are_divided_by_that(given, expected):
    saved = RunConfig.from_dict(RunConfig("mgcn", hparams=given).to_dict())
    assert RunConfig("mgcn", batch_size=512, hparams=saved.given_hparams).hparams["norm_batch"] == expected
