"""Training with a progress bar: with the training strategy, and the plain baseline beside it."""

import dataclasses
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from isolator_jax.runs import Problem, check_run_folder, locked, train_run, write_report
from isolator_jax.runs.config import RunConfig
from isolator_jax.training import EpochRecord, FitState

from . import cli
from .events import Events
from .progress import progress


def train_with_baseline(
    config: RunConfig,
    problem: Problem,
    run_dir: Path,
    *,
    baseline: bool,
    checkpoint_seconds: float,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Trains a run; if asked for, also plain BPR in `run_dir/vanilla`, whose Vanilla joins the report.

    Args:
      config: the run's configuration.
      problem: its data.
      run_dir: the run folder.
      baseline: whether to train plain BPR too.
      checkpoint_seconds: time between checkpoints.
      tensorboard: whether to write event files too, in the run folder's `tensorboard`.

    Returns:
      The report.

    Raises:
      TrainingInterrupted: SIGTERM or Ctrl-C came; what was trained is saved.
    """
    check_run_folder(run_dir, config, problem.dataset)
    # Of both trainings: nobody goes on in the folder while the second adds to the report of the first.
    with cli.stop_requests() as stop, locked(run_dir):
        options = {"cache_dir": run_dir / "cache", "stop": stop, "tensorboard": tensorboard}
        report = _train(config, problem, run_dir, checkpoint_seconds, lock=False, **options)
        if baseline:
            plain = dataclasses.replace(config, training_strategy=False)
            of_plain = _train(plain, problem, run_dir / "vanilla", checkpoint_seconds, lock=True, **options)
            report["baseline"] = {name: of_plain[name] for name in ("best_epoch", "epochs", "seconds_per_epoch")}
            for split in ("validation", "test"):
                report[split] = {"vanilla": of_plain[split]["vanilla"], **report[split]}
            write_report(run_dir, report)
    return report


def _train(
    config: RunConfig,
    problem: Problem,
    run_dir: Path,
    checkpoint_seconds: float,
    *,
    lock: bool,
    cache_dir: Path,
    stop: Callable[[], bool],
    tensorboard: bool,
) -> dict[str, Any]:
    label = f"{config.backbone} {'ISOLATOR' if config.training_strategy else 'plain BPR'}"
    with (
        progress(total=config.max_epochs, desc=label, unit="epoch") as bar,
        closing(Events(run_dir / "tensorboard")) as events,
    ):

        def show(state: FitState, record: EpochRecord) -> None:
            best = f"{float(state.best_value):.4f} at {int(state.best_epoch)}"
            bar.set_postfix({"loss": f"{record.loss:.4f}", "R@20": f"{record.validation:.4f}", "best": best}, False)
            bar.update(record.epoch - bar.n)
            if tensorboard:
                events.write(record)

        return train_run(
            config,
            problem,
            run_dir,
            checkpoint_every=cli.time_to_save(checkpoint_seconds),
            cache_dir=cache_dir,
            on_epoch=show,
            stop=stop,
            lock=lock,
        )
