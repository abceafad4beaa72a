"""A search whose settings are drawn: what it trains, and what it makes large; nothing is trained here."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.common.search_plan import Plan, ranges_of
from experiments.common.studies import run_studies
from isolator_jax.errors import ConfigError, TrainingInterrupted
from isolator_jax.evaluation import Settings
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.sampler import Range

optuna = pytest.importorskip("optuna", reason="the extra isolator-jax[optuna] is not installed")

SPACE = {"reg": Range(1e-4, 1.0, log=True)}


def plan_in(folder, **changes):
    values = {
        "base": RunConfig(backbone="vbpr"), "grid": {}, "gammas": Range(0.01, 1.0), "seeds": [0, 1], "aim": "recall",
        "settings": Settings((2.0,), (1.0,), (0.1,)), "folder": folder, "space": SPACE, "draws": 12,
    }  # fmt: skip
    return Plan(**values | changes)


class Worker:
    """Trains nothing: a trial's metrics follow from its hyper-parameters; that of reg above 0.5 fails."""

    def __init__(self, most=10**6):
        self.rows, self.most = {}, most

    def take(self, folder, trial):
        if folder not in self.rows:
            if len(self.rows) == self.most:
                raise TrainingInterrupted
            self.rows[folder] = None if trial.hparams["reg"] > 0.5 else rows_of(trial)
        return True

    def run(self, trials):
        for folder, trial in trials.items():
            self.take(folder, trial)


def rows_of(trial):
    recall = 0.3 - 0.02 * abs(np.log(trial.hparams["reg"] / 0.01)) + 0.01 * trial.seed
    nan = np.nan
    trained = {"seed": trial.seed, "hparams.reg": trial.hparams["reg"], "training_strategy": trial.training_strategy}
    if not trial.training_strategy:
        names = {"strategy": "vanilla", "gamma": nan, "alpha": nan, "beta": nan, "iota": nan}
        return pd.DataFrame([{**trained, **names, "recall@20": recall, "ucbias@20": 0.1}])
    names = {"strategy": "u", "gamma": trial.gamma, "alpha": 2.0, "beta": 1.0, "iota": 0.1}
    return pd.DataFrame([{**trained, **names, "recall@20": recall + 0.1 * trial.gamma, "ucbias@20": trial.gamma - 0.5}])


def test_plain_bpr_comes_first_and_an_interrupted_search_draws_what_a_whole_one_does(tmp_path):
    worker = Worker()
    trials = run_studies(plan_in(tmp_path / "whole"), worker, "data")
    kinds = [trial.training_strategy for trial in trials.values()]
    assert kinds == [False] * 24 + [True] * 24 and worker.rows.keys() == trials.keys()
    assert any(rows is None for rows in worker.rows.values())
    regs = np.array([trial.hparams["reg"] for trial in trials.values()])[::2]
    assert len(set(regs[:12])) == 12
    folder = tmp_path / "interrupted"
    for most in (5, 30):
        with pytest.raises(TrainingInterrupted):
            run_studies(plan_in(folder), Worker(most), "data")
    again = run_studies(plan_in(folder), Worker(), "data")
    assert [path.name for path in again] == [path.name for path in trials]


def test_fewer_settings_than_an_earlier_search_drew_are_the_first_of_its(tmp_path):
    def plan(draws):
        return plan_in(tmp_path, gammas=[], seeds=[0], draws=draws)

    with pytest.raises(TrainingInterrupted):
        run_studies(plan(3), Worker(most=2), "data")
    fewer = Worker()
    trials = run_studies(plan(2), fewer, "data")
    assert len(trials) == 2 and list(fewer.rows) == list(trials)
    more = run_studies(plan(3), Worker(), "data")
    assert len(more) == 3 and list(more)[:2] == list(trials)
    assert list(run_studies(plan(2), Worker(), "data")) == list(trials)


def test_the_same_search_on_other_data_has_a_study_of_its_own(tmp_path):
    plan = plan_in(tmp_path, gammas=[], seeds=[0], draws=1)
    for data in ("data", "other data", "data"):
        run_studies(plan, Worker(), data)
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna" / "journal.log"))
    found = optuna.get_all_study_summaries(optuna.storages.JournalStorage(journal))
    assert [summary.n_trials for summary in found] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("aim", "sought"), [("recall", 1.0), ("recall_no_more_bias", 0.6), ("least_bias_no_less_recall", 0.5)]
)
def test_gamma_is_drawn_for_the_aim(tmp_path, aim, sought):
    plan = plan_in(tmp_path, aim=aim, draws=30, seeds=[0], space={}, grid={"reg": ["0.01"]})
    trials = run_studies(plan, Worker(), "data")
    gammas = [trial.gamma for trial in trials.values() if trial.training_strategy]
    # Plain BPR has one setting here. What is drawn crowds where the aim is.
    assert len(trials) == 31 and np.mean(np.abs(np.array(gammas[20:]) - sought) < 0.25) >= 0.6


def test_ranges_are_of_the_types_of_the_hyperparameters_and_in_their_bounds(tmp_path):
    assert ranges_of("vbpr", {"dim": Range(8.0, 64.0), "gamma": Range(0.1, 1.0)})["dim"].whole
    for space, message in (
        ({"dim": Range(8.5, 64.0)}, "its bounds"),
        ({"nothing": Range(0.0, 1.0)}, "no hyper-parameter nothing"),
    ):
        with pytest.raises(ConfigError, match=message):
            ranges_of("vbpr", space)
    with pytest.raises(ConfigError, match="learning_rate"):
        plan_in(tmp_path, space={"learning_rate": Range(-1.0, 1.0)}).check()
    with pytest.raises(ConfigError, match="gamma"):
        plan_in(tmp_path, gammas=Range(-1.0, 1.0)).check()
    with pytest.raises(ConfigError, match="40000 trials are more than 10000"):
        plan_in(tmp_path, draws=10_000).check()
    assert not list(Path(tmp_path).iterdir())
