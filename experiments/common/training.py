"""Training with a progress bar: with the training strategy, and plain BPR beside it."""

import functools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from isolator_jax import processes
from isolator_jax.errors import NothingSaved, TrainingInterrupted
from isolator_jax.runs import Problem, time_to_save, train_run, train_with_vanilla
from isolator_jax.runs.config import RunConfig
from isolator_jax.training import EpochRecord, FitState

from . import cli
from .events import Events
from .progress import progress


def train_and_show(
    config: RunConfig,
    problem: Problem,
    run_dir: Path,
    *,
    vanilla: bool,
    checkpoint_seconds: float,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Trains a run; if asked for, also plain BPR, whose Vanilla joins the report.

    Args:
      config: the run's configuration.
      problem: its data.
      run_dir: the run folder.
      vanilla: whether to train plain BPR too.
      checkpoint_seconds: time between checkpoints.
      tensorboard: whether to write event files too, in each run folder's `tensorboard`.

    Returns:
      The report.

    Raises:
      TrainingInterrupted: a signal came, be it after the last epoch; what was trained is saved. NothingSaved,
        one of them: nothing was.
    """
    with cli.stop_requests() as stop:
        options: dict[str, Any] = {"checkpoint_seconds": checkpoint_seconds, "tensorboard": tensorboard, "stop": stop}
        if vanilla:
            train = functools.partial(_train, trainings=2, **options)
            report = train_with_vanilla(config, problem, run_dir, train=train)
        else:
            report = _train(config, problem, run_dir, **options)
        if stop():  # after the last epoch; the caller may have more to do
            raise TrainingInterrupted(f"{run_dir}: finished and saved, stopped before what was to follow")
        return report


@contextmanager
def among_others(run_dir: Path) -> Iterator[None]:
    """Of a command's several trainings: where one is stopped before its first epoch, those before it are saved.

    Raises:
      TrainingInterrupted: in place of NothingSaved.
    """
    try:
        yield
    except NothingSaved:
        raise TrainingInterrupted(
            f"stopped before the first epoch of {run_dir}, what was trained before it is saved"
        ) from None


def _train(
    config: RunConfig,
    problem: Problem,
    run_dir: Path,
    *,
    checkpoint_seconds: float,
    tensorboard: bool,
    trainings: int = 1,
    **options: Any,
) -> dict[str, Any]:
    """`train_run` with a progress bar, which numbers the trainings where there are several."""
    kind = "ISOLATOR" if config.training_strategy else "plain BPR"
    number = "" if trainings == 1 else f"{1 if config.training_strategy else 2} of {trainings}: "
    with (
        progress(total=config.max_epochs, desc=f"{number}{config.backbone} {kind}", unit="epoch") as bar,
        closing(Events(run_dir / "tensorboard")) as events,
    ):

        def show(state: FitState, record: EpochRecord) -> None:
            best = f"{float(state.best_value):.4f} at {int(state.best_epoch)}"
            bar.set_postfix({"loss": f"{record.loss:.4f}", "R@20": f"{record.validation:.4f}", "best": best}, False)
            bar.update(record.epoch - bar.n)
            if tensorboard and processes.is_first():
                events.write(record)

        save = time_to_save(checkpoint_seconds)
        return train_run(config, problem, run_dir, checkpoint_every=save, on_epoch=show, **options)
