"""A backbone of one's own that breaks the contract is refused by name before it trains."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.backbones import BACKBONES, Encoded, Hyperparameters
from isolator_jax.backbones.mfbpr import MFBPR
from isolator_jax.errors import ConfigError
from isolator_jax.runs import make_learner, make_problem, train_run
from isolator_jax.runs.config import RunConfig

CONFIG = {"hparams": {"dim": 4}, "training_strategy": False, "max_epochs": 1}


def with_init(change):
    return {"init": lambda key, dataset, h: change(MFBPR.init(key, dataset, h))}


def with_encode(change):
    return {"encode": lambda params, inputs, h, key=None: change(MFBPR.encode(params, inputs, h, key))}


def with_loss(change):
    return {"loss": lambda *arguments: change(MFBPR.loss(*arguments))}


BROKEN = {
    "more items": (with_encode(lambda x: Encoded(x.users, jnp.concatenate([x.users, x.items]))), "encode must return"),
    "fewer users": (with_encode(lambda x: Encoded(x.users[1:], x.items)), r"users \[\d+, D\] and items"),
    "other widths": (with_encode(lambda x: Encoded(x.users, x.items[:, 1:])), r"got \[\d+, 4\] and \[\d+, 3\]"),
    "a plain tuple": (with_encode(tuple), "encode must return Encoded, got tuple"),
    "a list of parameters": (with_init(lambda x: list(x.values())), "init must return a dict of arrays, got list"),
    "whole numbers": (with_init(lambda x: {**x, "n": np.arange(3)}), r"init's \['n'\] must be .* floats, got int32"),
    "an object": (with_init(lambda x: {**x, "o": {"p": object()}}), r"init's \['o'\]\['p'\] must be .*, got object"),
    "a loss of rows": (with_loss(lambda x: x[None]), r"loss must return a scalar, got shape \[1\]"),
    "no loss": (with_loss(lambda x: None), "loss must return a scalar, got None"),
    "unknown tables": ({"tables": ("usr",)}, "tables names 'usr', which neither"),
    "one name as tables": ({"tables": "user"}, "tables must be a tuple of names, got 'user'"),
    "a list as tables": ({"tables": ["user", "item"]}, r"tables must be a tuple of names, got \['user', 'item'\]"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_breaks_the_contract_is_refused(broken, small_dataset, monkeypatch):
    change, message = BROKEN[broken]
    monkeypatch.setitem(BACKBONES, "mine", dataclasses.replace(MFBPR, label="Mine", **change))
    config = RunConfig("mine", **CONFIG)
    with pytest.raises(ConfigError, match=f"^Mine: .*{message}|^Mine: {message}"):
        learner = make_learner(config, make_problem(config, small_dataset))
        learner.train_epoch(learner.initial_state(0).train)


def test_a_number_among_the_parameters_is_kept_and_read_back(small_dataset, monkeypatch, tmp_path):
    monkeypatch.setitem(BACKBONES, "mine", dataclasses.replace(MFBPR, **with_init(lambda x: {**x, "scale": 1.0})))
    config = RunConfig("mine", **CONFIG)
    problem = make_problem(config, small_dataset)
    train_run(config, problem, tmp_path, checkpoint_every=lambda record: True)
    again = train_run(
        dataclasses.replace(config, max_epochs=2), problem, tmp_path, checkpoint_every=lambda record: True
    )
    assert again["epochs"] == 2


def test_hyper_parameters_without_the_decorator_are_refused(monkeypatch):
    class Mine(Hyperparameters):
        reg: float = 0.5

    monkeypatch.setitem(BACKBONES, "mine", dataclasses.replace(MFBPR, hyperparameters=Mine))
    with pytest.raises(ConfigError, match="Mine must be decorated by hyperparameters: reg is none of its fields"):
        RunConfig("mine")
