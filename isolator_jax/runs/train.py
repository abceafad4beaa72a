"""A training run on disk: prepare, train with checkpoints, evaluate."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from isolator_jax import processes
from isolator_jax.backbones import Encoded
from isolator_jax.data import Dataset
from isolator_jax.errors import NothingSaved, RunError, TrainingDiverged, TrainingInterrupted
from isolator_jax.evaluation import consistency_groups
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.folder import (
    begin_run,
    check_run_folder,
    read_report,
    vanilla_folder,
    write_report,
)
from isolator_jax.runs.learner import make_learner
from isolator_jax.runs.lock import Place, locked
from isolator_jax.runs.metrics import MetricsFile
from isolator_jax.runs.problem import Problem, evaluate_problem
from isolator_jax.strategies import BASELINE, Strategy, strategies_of_run
from isolator_jax.training import Checkpoints, EpochRecord, FitState, finished, fit

# Larger values are named where a run diverges.
_UNUSUAL_FEATURE = 1e4
# What a report measures.
_SPLITS = ("validation", "test")


def strategies_of(config: RunConfig, with_content: bool) -> dict[str, Strategy]:
    """The inference strategies a run's model is evaluated under (`strategies.strategies_of_run`)."""
    return strategies_of_run(vars(config), trained=config.training_strategy, with_content=with_content)


def time_to_save(seconds: float) -> Callable[[EpochRecord], bool]:
    """Says after an epoch whether so many seconds have passed since it last said yes, or since now."""
    last = time.monotonic()

    def due(record: EpochRecord) -> bool:
        nonlocal last
        if time.monotonic() - last < seconds:
            return False
        last = time.monotonic()
        return True

    return due


def train_run(
    config: RunConfig,
    problem: Problem,
    run_dir: str | Path,
    *,
    checkpoint_every: Callable[[EpochRecord], bool],
    cache_dir: str | Path | None = None,
    splits: Sequence[str] = _SPLITS,
    on_epoch: Callable[[FitState, EpochRecord], None] = lambda state, record: None,
    stop: Callable[[], bool] = lambda: False,
    lock: bool = True,
) -> dict[str, Any]:
    """Trains, or resumes and finishes, the run of a folder, and writes its report.

    Args:
      config: the run's configuration.
      problem: its data, from `make_problem`.
      run_dir: the run folder; made if missing.
      checkpoint_every: whether to save a checkpoint after an epoch; the final state is
        always saved. When checkpoints are made does not change the result.
      cache_dir: where nearest-neighbour lists are kept; None for `run_dir/cache`.
      splits: which splits the report evaluates the best epoch on.
      on_epoch: called after each epoch.
      stop: asked before each epoch whether to save and end here.
      lock: whether to hold the folder's lock meanwhile; False where the caller does (`folder.locked`).

    Returns:
      The report, as in `report.json`.

    Several processes (`processes.join`) call it alike: the first writes, and where a `stop` of
    one of them says so all save and end. A training is warned of whose patience ended without a
    better epoch than the first.

    Raises:
      RunError: the folder holds another run or something else, another process is using it, or it was
        removed or replaced meanwhile.
      CheckpointError: the run has checkpoints, and none is usable.
      TrainingDiverged: a loss or parameter is not finite; the last checkpoint stays.
      TrainingInterrupted: `stop` said so; the state is saved. NothingSaved, one of them, before the first epoch.
    """
    run_dir = Path(run_dir)
    if config.data_dir is not None:  # the run is read back from other folders than this one
        config = dataclasses.replace(config, data_dir=str(Path(config.data_dir).absolute()))
    check_run_folder(run_dir, config, problem.dataset)
    with locked(run_dir) if lock else nullcontext():
        # Again: another process may have begun a run since.
        described = check_run_folder(run_dir, config, problem.dataset)
        begin_run(run_dir, described)
        return _train_run(
            config,
            problem,
            run_dir,
            checkpoint_every=checkpoint_every,
            cache_dir=Path(cache_dir or run_dir / "cache"),
            splits=splits,
            on_epoch=on_epoch,
            stop=stop,
        )


def train_with_vanilla(
    config: RunConfig, problem: Problem, run_dir: str | Path, *, train: Callable[..., dict[str, Any]] = train_run
) -> dict[str, Any]:
    """Trains a run, then plain BPR in `folder.vanilla_folder`, whose Vanilla joins the run's report.

    It raises what `train_run` raises.

    Args:
      config: the run's configuration, with the training strategy.
      problem: its data.
      run_dir: the run folder.
      train: `train_run`, or what calls it with more options.

    Returns:
      The report, with a Vanilla row in each split, and `baseline`: epochs and seconds of the second training.
    """
    run_dir, plain = Path(run_dir), dataclasses.replace(config, training_strategy=False)
    vanilla, cache_dir = vanilla_folder(run_dir), run_dir / "cache"
    check_run_folder(run_dir, config, problem.dataset)
    check_run_folder(vanilla, plain, problem.dataset)
    # Of both trainings: nobody goes on in the folder while the second adds to the report of the first.
    with locked(run_dir):
        is_there = processes.first(vanilla.is_dir)
        with locked(vanilla) if is_there else nullcontext():  # what is refused there is refused before the first
            check_run_folder(vanilla, plain, problem.dataset)
            place, before = Place(run_dir), _plain_report(vanilla)
            report = train(config, problem, run_dir, cache_dir=cache_dir, lock=False)
            if before is not None:  # until the second has ended
                _join(run_dir, report, before)
            try:
                of_plain = train(plain, problem, vanilla, cache_dir=cache_dir, lock=not is_there)
            except NothingSaved:
                raise TrainingInterrupted(
                    f"{run_dir}: stopped between its two trainings, the first is saved after epoch {report['epochs']}"
                ) from None
        place.check()
        return _join(run_dir, report, of_plain)


@processes.by_first
def _plain_report(vanilla: Path) -> dict[str, Any] | None:
    """The report of plain BPR that a folder holds; None where there is none of its newest checkpoint."""
    try:
        report = read_report(vanilla)
    except RunError:
        return None
    return report if all(BASELINE in report.get(split, {}) for split in _SPLITS) else None


def _join(run_dir: Path, report: dict[str, Any], of_plain: dict[str, Any]) -> dict[str, Any]:
    """Writes a run's report with Vanilla, in place of an earlier one."""
    joined = report | {"baseline": {name: of_plain[name] for name in ("best_epoch", "epochs", "seconds_per_epoch")}}
    joined |= {split: {BASELINE: of_plain[split][BASELINE], **report[split]} for split in _SPLITS}
    write_report(run_dir, joined)
    return joined


def _train_run(
    config: RunConfig,
    problem: Problem,
    run_dir: Path,
    *,
    checkpoint_every: Callable[[EpochRecord], bool],
    cache_dir: Path,
    splits: Sequence[str],
    on_epoch: Callable[[FitState, EpochRecord], None],
    stop: Callable[[], bool],
) -> dict[str, Any]:
    place, learner = Place(run_dir), make_learner(config, problem, cache_dir)
    with Checkpoints(run_dir / "checkpoints") as checkpoints:
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, learner.initial_state(config.seed))
        restored = checkpoints.restore_latest(like)
        state = learner.initial_state(config.seed) if restored is None else restored
        metrics = MetricsFile(run_dir, last_epoch=int(state.train.epoch))
        checkpoints.set_aside_after(int(state.train.epoch))

        def after_epoch(state: FitState, record: EpochRecord) -> None:
            place.check()
            metrics.append(record)
            if processes.first(lambda: checkpoint_every(record)):
                checkpoints.save(record.epoch, state)
            on_epoch(state, record)

        try:
            state = fit(
                state,
                learner.train_epoch,
                learner.validate,
                max_epochs=config.max_epochs,
                patience=config.patience,
                on_epoch=after_epoch,
                stop=lambda: processes.anywhere(stop()),
            )
        except TrainingDiverged as error:
            raise TrainingDiverged(_divergence_message(error, checkpoints.latest_epoch(), problem.dataset)) from None
        epoch = int(state.train.epoch)
        if not epoch:
            raise NothingSaved(f"{run_dir}: stopped before its first epoch, nothing is saved")
        place.check()
        if checkpoints.latest_epoch() != epoch:
            checkpoints.save(epoch, state)
        saved = {"epoch": epoch, "sha256": checkpoints.digest(epoch)}
    if not finished(state, max_epochs=config.max_epochs, patience=config.patience):
        raise TrainingInterrupted(f"{run_dir}: stopped and saved after epoch {epoch}")
    _warn_of_a_first_epoch(run_dir, state, config.patience)
    report = {
        "config": config.to_dict(),
        "dataset": problem.dataset.counts(),
        "best_epoch": int(state.best_epoch),
        "epochs": epoch,
        "checkpoint": saved,
        "seconds_per_epoch": metrics.seconds_per_epoch(),
    }
    report |= _measured(config, problem, learner.encode(state.best_params), splits)
    place.check()
    write_report(run_dir, report)
    return report


def _measured(config: RunConfig, problem: Problem, encoded: Encoded, splits: Sequence[str]) -> dict[str, Any]:
    """What a report says of the model: metrics by split and strategy, and with content the groups."""
    found: dict[str, Any] = {}
    for split in splits:
        results = evaluate_problem(problem, encoded, split, strategies_of(config, problem.content is not None))
        found[split] = {name: result.metrics for name, result in results.items()}
    if problem.content is not None:
        found["groups"] = consistency_groups(problem.content.consistency).summary()
    return found


def _warn_of_a_first_epoch(run_dir: Path, state: FitState, patience: int) -> None:
    """Where patience ended a training without a better epoch than the first."""
    if int(state.best_epoch) == 1 and int(state.train.epoch) > patience:
        warnings.warn(
            f"{run_dir}: validation Recall@20 was best after the first epoch ({float(state.best_value):.4f}) and "
            f"patience={patience} ended the training there: the model has learnt little; try another learning_rate or "
            "a larger patience",
            stacklevel=4,
        )


def _divergence_message(error: Exception, saved: int | None, dataset: Dataset) -> str:
    """What a user should know of a run that diverged.

    Args:
      error: of `fit`.
      saved: epoch of the newest checkpoint; None where there is none.
      dataset: the run's data, whose features may be the reason.
    """
    largest = {name: float(np.abs(features).max(initial=0.0)) for name, features in dataset.features.items()}
    reasons = "".join(
        f"; or scale the features {name} down, whose values go up to {value:.3g}"
        for name, value in largest.items()
        if value > _UNUSUAL_FEATURE
    )
    left = (
        "nothing was saved, and the folder is free for another configuration"
        if saved is None
        else f"the checkpoint of epoch {saved} is from before; another configuration needs another folder"
    )
    return f"{error}{reasons}; {left}"
