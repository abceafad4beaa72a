"""A training run on disk: prepare, train with checkpoints, evaluate, read back."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from isolator_jax import scoring
from isolator_jax.backbones import Encoded
from isolator_jax.data import Dataset
from isolator_jax.devices.placement import ONE_DEVICE, Placement
from isolator_jax.errors import DataError, RunError, TrainingDiverged, TrainingInterrupted
from isolator_jax.files import write_json
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.folder import (
    _MetricsFile,
    check_run_folder,
    divergence_message,
    locked,
    read_config,
    write_report,
)
from isolator_jax.runs.learner import make_learner
from isolator_jax.runs.problem import Problem, evaluate_problem, load_dataset, make_problem
from isolator_jax.training import Checkpoints, EpochRecord, FitState, finished, fit


def strategies_of(config: RunConfig, with_content: bool) -> dict[str, scoring.Strategy]:
    """The inference strategies a run's model is evaluated under.

    A model trained with the training strategy: `training_strategy`, `d` and `u`. A plain
    model: `vanilla`, and `u`, which is then the paper's "U w/o TS". Without content, only
    `vanilla`.
    """
    strategies = {"vanilla": scoring.vanilla()}
    if config.training_strategy:
        strategies = {
            "training_strategy": scoring.training_strategy(config.gamma),
            "d": scoring.d_isolator(),
        }
    if with_content:
        strategies["u"] = scoring.u_isolator(config.alpha, config.beta, config.iota)
    return strategies


def train_run(
    config: RunConfig,
    problem: Problem,
    run_dir: str | Path,
    *,
    checkpoint_every: Callable[[EpochRecord], bool],
    cache_dir: str | Path | None = None,
    splits: Sequence[str] = ("validation", "test"),
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

    Raises:
      RunError: the folder holds another run or something else, or another process is using it.
      CheckpointError: the run has checkpoints, and none is usable.
      TrainingDiverged: a loss or parameter is not finite; the last checkpoint stays.
      TrainingInterrupted: `stop` said so; the state is saved.
    """
    run_dir = Path(run_dir)
    check_run_folder(run_dir, config, problem.dataset)
    with locked(run_dir) if lock else nullcontext():
        # Again: another process may have begun a run since.
        write_json(run_dir / "config.json", check_run_folder(run_dir, config, problem.dataset))
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
    learner = make_learner(config, problem, cache_dir)
    with Checkpoints(run_dir / "checkpoints") as checkpoints:
        state = learner.initial_state(config.seed)
        restored = checkpoints.restore_latest(state)
        state = state if restored is None else restored
        metrics = _MetricsFile(run_dir, last_epoch=int(state.train.epoch))
        checkpoints.set_aside_after(int(state.train.epoch))

        def after_epoch(state: FitState, record: EpochRecord) -> None:
            metrics.append(record)
            if checkpoint_every(record):
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
                stop=stop,
            )
        except TrainingDiverged as error:
            raise TrainingDiverged(divergence_message(error, checkpoints.latest_epoch(), problem.dataset)) from None
        epoch = int(state.train.epoch)
        if checkpoints.latest_epoch() != epoch:
            checkpoints.save(epoch, state)
        saved = {"epoch": epoch, "sha256": checkpoints.digest(epoch)}
    if not finished(state, max_epochs=config.max_epochs, patience=config.patience):
        raise TrainingInterrupted(f"{run_dir}: stopped and saved after epoch {epoch}")
    report = {
        "config": config.to_dict(),
        "dataset": problem.dataset.counts(),
        "best_epoch": int(state.best_epoch),
        "epochs": epoch,
        "checkpoint": saved,
        "seconds_per_epoch": metrics.seconds_per_epoch(),
    }
    encoded = learner.encode(state.best_params)
    for split in splits:
        results = evaluate_problem(problem, encoded, split, strategies_of(config, problem.content is not None))
        report[split] = {name: result.metrics for name, result in results.items()}
    write_report(run_dir, report)
    return report


def load_run(run_dir: str | Path, placement: Placement = ONE_DEVICE) -> tuple[RunConfig, Problem, Encoded, int]:
    """Reads a run back: its configuration, data, embeddings of its best epoch, and that epoch.

    The number of devices it was trained on does not matter.

    Raises:
      RunError: not a run folder, no checkpoint in it, or the data has changed since.
      CheckpointError: none of its checkpoints is usable.
      DataError: the data is no longer readable.
    """
    config = RunConfig.from_dict(read_config(Path(run_dir))["config"])
    problem = make_problem(config, _dataset_of_run(run_dir, config), placement)
    return config, problem, *load_model(run_dir, problem)


def _dataset_of_run(run_dir: str | Path, config: RunConfig) -> Dataset:
    if config.data_dir is not None and not Path(config.data_dir, config.dataset or "").is_dir():
        raise DataError(
            f"{run_dir}: the run's data is no longer in {config.data_dir}; put the folder {config.dataset} back there, "
            "or give the run's experiments.train command again with the data's new place, which is then noted"
        )
    return load_dataset(config)


def load_model(run_dir: str | Path, problem: Problem, *, cache_dir: str | Path | None = None) -> tuple[Encoded, int]:
    """Reads a run's model back on a problem that is already made: embeddings of its best epoch, and that epoch.

    Args:
      cache_dir: where nearest-neighbour lists are kept; None for `run_dir/cache`.

    Raises:
      RunError: not a run folder, no checkpoint in it, or the run was trained on other data.
      CheckpointError: none of its checkpoints is usable.
    """
    run_dir = Path(run_dir)
    saved = read_config(run_dir)
    config = RunConfig.from_dict(saved["config"])
    if problem.dataset.fingerprint() != saved["data_fingerprint"]:
        raise RunError(f"{run_dir}: the dataset has changed since this run was trained; train again")
    learner = make_learner(config, problem, cache_dir or run_dir / "cache")
    with Checkpoints(run_dir / "checkpoints", read_only=True) as checkpoints:
        state = checkpoints.restore_latest(learner.initial_state(config.seed))
    if state is None:
        raise RunError(f"{run_dir}: no checkpoint yet; train the run first")
    return learner.encode(state.best_params), int(state.best_epoch)
