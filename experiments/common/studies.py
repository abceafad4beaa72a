"""A search whose settings Optuna draws: a study of plain BPR, then one of the training strategy."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from isolator_jax.runs import sweep as search
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.sampler import Study
from isolator_jax.strategies import BASELINE

from .search_plan import Plan
from .worker import Worker


def run_studies(
    plan: Plan, worker: Worker, fingerprint: str, stop: Callable[[], bool] = lambda: False
) -> dict[Path, RunConfig]:
    """Draws the settings of a search and runs what nobody else runs of their trainings, until all have ended.

    A setting of plain BPR is worth Vanilla's Recall@20, one with gamma what U's best setting of alpha, beta
    and iota reaches of the aim, held against the chosen Vanilla; both on validation, means over the seeds.

    Args:
      plan: the search.
      worker: what takes its trials.
      fingerprint: of the data.
      stop: whether to end, asked while another worker holds the studies.

    Returns:
      The trainings of all settings by their folders, in the order of the draws.
    """
    trials: dict[Path, RunConfig] = {}
    of_vanilla: list[pd.DataFrame] = []
    for trained in plan.kinds:
        study, most = _study(plan, trained, fingerprint, stop), plan.draws_of(trained=trained)
        _run_study(plan, study, most, worker, of_vanilla)
        for setting in study.settings(most).values():  # an earlier search may have drawn more
            trials |= plan.trials_of(setting)
        worker.run(trials)
        rows = [worker.rows[folder] for folder in trials]
        of_vanilla = [found[found["strategy"] == BASELINE] for found in rows if found is not None]
    return trials


def _study(plan: Plan, trained: bool, fingerprint: str, stop: Callable[[], bool]) -> Study:
    """What the values of a study depend on names it: plain BPR's are the same whatever is searched of U."""
    config = plan.base.to_dict()
    of = {
        "config": {name: value for name, value in config.items() if name not in ("data_dir", "training_strategy")},
        "data_fingerprint": fingerprint,
        "seeds": plan.seeds,
    }
    if trained:
        of |= {"settings": plan.settings, "aim": plan.aim}
    name = "training strategy" if trained else "plain BPR"
    return Study(plan.folder / "optuna", name, of, plan.space_of(trained=trained), plan.sampler_seed, stop)


def _run_study(plan: Plan, study: Study, most: int, worker: Worker, of_vanilla: list[pd.DataFrame]) -> None:
    while True:
        ended, open_settings = len(worker.rows), study.open(most)
        for number, setting in open_settings.items():
            trials = plan.trials_of(setting)
            if all([worker.take(folder, trial) for folder, trial in trials.items()]):
                study.tell(number, _value(plan, trials, worker, of_vanilla))
        if study.draw(most):
            continue
        if not open_settings:
            return
        if len(worker.rows) == ended and (held := study.open(most)):
            worker.wait(len(held))


def _value(
    plan: Plan, trials: Mapping[Path, RunConfig], worker: Worker, of_vanilla: list[pd.DataFrame]
) -> float | None:
    """What a setting is worth; None where a training failed or no setting of U qualifies."""
    rows = [worker.rows[folder] for folder in trials]
    if any(found is None for found in rows):
        return None
    return search.value(pd.concat([*of_vanilla, *rows], ignore_index=True), plan.searched, plan.aim, trials.values())
