"""The search: its trials, its rows, and its choice."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from isolator_jax.errors import ConfigError, RunError
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
    return pd.DataFrame(values, columns=[*columns, "ucbias@20"])


def test_the_choice_is_by_the_mean_over_seeds_and_needs_all_of_them():
    nan = np.nan
    table = rows(
        ("u", 0, 0.1, True, 1.0, 2.0, 1.0, 0.1, 0.50, 0.0),
        ("u", 1, 0.1, True, 1.0, 2.0, 1.0, 0.1, 0.10, 0.0),  # mean 0.3
        ("u", 0, 0.1, True, 1.0, 4.0, 1.0, 0.1, 0.40, 0.02),
        ("u", 1, 0.1, True, 1.0, 4.0, 1.0, 0.1, 0.30, 0.04),  # mean 0.35: chosen
        ("u", 0, 0.2, True, 1.0, 4.0, 1.0, 0.1, 0.90, 0.0),  # its other seed failed
        ("vanilla", 0, 0.2, False, nan, nan, nan, nan, 0.2, 0.0),
        ("vanilla", 1, 0.2, False, nan, nan, nan, nan, 0.2, 0.0),
        ("vanilla", 0, 0.1, False, nan, nan, nan, nan, 0.2, 0.0),
        ("vanilla", 1, 0.1, False, nan, nan, nan, nan, 0.2, 0.0),  # equal: the first stays
    )
    chosen = search.choose(table, ["reg"], seeds=2).set_index("strategy")
    assert list(chosen.index) == ["vanilla", "u"]
    assert chosen.loc["u", ["hparams.reg", "alpha"]].tolist() == [0.1, 4.0]
    assert chosen.loc["u", ["validation recall@20", "validation ucbias@20"]].tolist() == pytest.approx([0.35, 0.03])
    assert chosen.loc["vanilla", "hparams.reg"] == 0.2 and np.isnan(chosen.loc["vanilla", "alpha"])
    # A seed that failed everywhere has no row, and is missing all the same.
    assert search.choose(table[table["seed"] == 0], ["reg"], seeds=2).empty


@pytest.mark.parametrize(
    ("aim", "vanilla", "alpha"),
    [
        ("recall", (0.25, 0.05), 2.0),
        ("recall_no_more_bias", (0.25, -0.05), 4.0),  # sizes are compared
        ("recall_no_more_bias", (0.25, 0.02), 6.0),
        ("recall_no_more_bias", (0.25, 0.005), None),
        ("least_bias_no_less_recall", (0.25, 0.05), 4.0),
        ("least_bias_no_less_recall", (0.15, 0.05), 6.0),
        ("least_bias_no_less_recall", (0.45, 0.05), None),
    ],
)
def test_an_aim_is_held_against_vanilla_for_the_strategies_with_settings_alone(aim, vanilla, alpha):
    nan = np.nan
    table = rows(
        ("u", 0, 0.1, True, 1.0, 2.0, 1.0, 0.1, 0.4, -0.06),
        ("u", 0, 0.1, True, 1.0, 4.0, 1.0, 0.1, 0.3, -0.04),
        ("u", 0, 0.1, True, 1.0, 6.0, 1.0, 0.1, 0.2, 0.01),
        ("d", 0, 0.1, True, 1.0, nan, nan, nan, 0.1, 0.9),
        ("vanilla", 0, 0.1, False, nan, nan, nan, nan, *vanilla),
        ("vanilla", 0, 0.2, False, nan, nan, nan, nan, 0.0, 0.0),  # not the Vanilla that is chosen
    )
    chosen = search.choose(table, ["reg"], aim, seeds=1).set_index("strategy")
    assert list(chosen.index) == (["vanilla", "d", "u"] if alpha else ["vanilla", "d"])
    assert search.without_setting(table, chosen.reset_index()) == ([] if alpha else ["u"])
    if alpha:
        assert chosen.loc["u", "alpha"] == alpha
    if aim != "recall":
        with pytest.raises(RunError, match="no plain BPR trial is complete"):
            search.choose(table[table["strategy"] != "vanilla"], ["reg"], aim, seeds=1)
