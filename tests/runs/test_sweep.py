"""The search: its trials, its rows, and its choice."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from isolator_jax.errors import ConfigError
from isolator_jax.evaluation import Settings
from isolator_jax.runs import sweep as search
from isolator_jax.runs.config import RunConfig

BASE = RunConfig(backbone="vbpr", hparams={"dim": 8})
GRID = {"reg": ["0.1", "0.01"], "learning_rate": ["0.001", "0.01", "0.1"]}


def test_trials_are_the_product_and_their_names_differ():
    trials = search.make_trials(BASE, GRID, gammas=[0.1, 1.0], seeds=[0, 7])
    assert len(trials) == 2 * 3 * (1 + 2) * 2
    names = [search.trial_name(trial, GRID) for trial in trials]
    assert len(set(names)) == len(trials)
    assert names[0] == "plain,reg=0.1,learning_rate=0.001,seed=0"
    assert "gamma=1,reg=0.01,learning_rate=0.1,seed=7" in names
    assert all(trial.hparams["dim"] == 8 for trial in trials)
    assert {trial.hparams["reg"] for trial in trials} == {0.1, 0.01}


def test_a_search_from_a_plain_run_trains_what_a_search_trains():
    plain = dataclasses.replace(BASE, training_strategy=False)
    assert search.make_trials(plain, GRID, [0.1, 1.0], [0]) == search.make_trials(BASE, GRID, [0.1, 1.0], [0])


def test_inference_settings_cost_no_training():
    trials = search.make_trials(BASE, {}, gammas=[0.001, 0.01, 0.1, 1.0], seeds=[0])
    assert len(trials) == 5
    assert search.naive_trainings(trials, Settings()) == 1 + 4 * 100


def test_unknown_hyperparameters_are_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="layers"):
        search.make_trials(BASE, {"layers": ["2"]}, gammas=[0.1], seeds=[0])


def rows(*values):
    columns = ["strategy", "seed", "hparams.reg", "training_strategy", "gamma", "alpha", "beta", "iota", "recall@20"]
    return pd.DataFrame(values, columns=columns)


def test_the_choice_is_by_the_mean_over_seeds_and_needs_all_of_them():
    nan = np.nan
    table = rows(
        ("u", 0, 0.1, True, 1.0, 2.0, 1.0, 0.1, 0.50),
        ("u", 1, 0.1, True, 1.0, 2.0, 1.0, 0.1, 0.10),  # mean 0.3
        ("u", 0, 0.1, True, 1.0, 4.0, 1.0, 0.1, 0.40),
        ("u", 1, 0.1, True, 1.0, 4.0, 1.0, 0.1, 0.30),  # mean 0.35: chosen
        ("u", 0, 0.2, True, 1.0, 4.0, 1.0, 0.1, 0.90),  # its other seed failed
        ("vanilla", 0, 0.2, False, nan, nan, nan, nan, 0.2),
        ("vanilla", 1, 0.2, False, nan, nan, nan, nan, 0.2),
        ("vanilla", 0, 0.1, False, nan, nan, nan, nan, 0.2),
        ("vanilla", 1, 0.1, False, nan, nan, nan, nan, 0.2),  # equal: the first stays
    )
    chosen = search.choose(table, ["reg"]).set_index("strategy")
    assert list(chosen.index) == ["vanilla", "u"]
    assert chosen.loc["u", ["hparams.reg", "alpha"]].tolist() == [0.1, 4.0]
    assert chosen.loc["u", "validation recall@20"] == pytest.approx(0.35)
    assert chosen.loc["vanilla", "hparams.reg"] == 0.2 and np.isnan(chosen.loc["vanilla", "alpha"])
