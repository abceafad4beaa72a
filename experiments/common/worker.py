"""A worker of a search: one of any number of processes that share the search's trials."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from isolator_jax.errors import CheckpointError, FolderInUse, RunError, TrainingInterrupted, brief, printable
from isolator_jax.evaluation import Settings
from isolator_jax.files import write_atomically, write_json
from isolator_jax.runs import Problem, check_run_folder, finished_report, load_model, locked, time_to_save, train_run
from isolator_jax.runs import sweep as search
from isolator_jax.runs.config import EXTENDABLE, RunConfig
from isolator_jax.training import EpochRecord, FitState
from isolator_jax.training.digests import saved_epochs

from .training import among_others

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds

# So often a trial may end its process before it saves a checkpoint more.
_MOST_STARTS = 3

_WITHOUT_PART_IN_FAILURES = set(EXTENDABLE) - {"max_epochs", "patience"}


class Worker:
    """Takes trials that nobody holds, runs them, and gathers the rows of those that have ended anywhere.

    Who runs a trial holds its folder's lock, which the operating system frees with the process: a trial whose
    worker died is taken by the next that comes by, and goes on from its last checkpoint.

    Attributes:
      rows: the validation rows of each trial that has ended, by its folder; None where it failed. What
        checkpoint they are of is their `attrs['checkpoint']`, as the trial's report names it.
      trained: how many of them this worker ran.
    """

    def __init__(self, problem: Problem, settings: Settings, cache_dir: Path, bar: tqdm, stop: Callable[[], bool]):
        """
        Args:
          problem: the data.
          settings: of alpha, beta and iota; `search.NO_SETTINGS` where U is not searched.
          cache_dir: where nearest-neighbour lists are kept.
          bar: shows how many trials have ended.
          stop: whether to save and end.
        """
        self.rows: dict[Path, pd.DataFrame | None] = {}
        self.trained = 0
        self._problem, self._settings, self._cache_dir = problem, settings, cache_dir
        self._bar, self._stop = bar, stop
        self._pause = _FIRST_PAUSE

    def run(self, trials: Mapping[Path, RunConfig]) -> None:
        """Runs what is missing of some trials, until all of them have ended, here or elsewhere.

        Raises:
          TrainingInterrupted: this worker shall end, be it after the last trial; what was trained is saved.
        """
        left = dict(trials)
        while left:
            before = len(left)
            left = {folder: trial for folder, trial in left.items() if not self.take(folder, trial)}
            if len(left) == before:  # else what was held at its turn may be free by now
                self.wait(len(left))
        if self._stop():
            raise TrainingInterrupted("all trials have ended and are saved, stopped before what was to follow")

    def take(self, folder: Path, trial: RunConfig) -> bool:
        """Whether a trial has ended: it is run now if it has not and nobody else is running it."""
        if folder not in self.rows:
            try:
                with locked(folder):
                    self.rows[folder] = self._rows_of(folder, trial)
            except FolderInUse:
                return False
            self._bar.update()
            self._pause = _FIRST_PAUSE
        return True

    def wait(self, held: int) -> None:
        """Waits a while for trials that other workers hold, longer each time.

        Raises:
          TrainingInterrupted: this worker shall end.
        """
        if self._pause == _FIRST_PAUSE:
            tqdm.write(f"waiting for trials that other workers hold: {held}", file=sys.stderr)
        until = time.monotonic() + self._pause
        while time.monotonic() < until:
            if self._stop():
                raise TrainingInterrupted("stopped while waiting for other workers")
            time.sleep(min(_FIRST_PAUSE, self._pause))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _rows_of(self, folder: Path, trial: RunConfig) -> pd.DataFrame | None:
        """The rows of a trial whose folder is held; None where it fails, or failed before."""
        found = self._finished_rows(folder, trial)
        if found is None and not self._failed_before(folder, trial) and self._begin(folder, trial):
            try:
                with among_others(folder):
                    found = self._run(folder, trial)
            finally:  # else the process was killed
                (folder / "begun.json").unlink(missing_ok=True)
            self.trained += 1
        return found

    def _failed_before(self, folder: Path, trial: RunConfig) -> bool:
        """Whether this trial, and not another that had this folder, failed on this data."""
        return _read(folder / "failure.json").get("of") == self._identity(trial)

    def _begin(self, folder: Path, trial: RunConfig) -> bool:
        """Notes that a trial starts; whether it may, after starts whose process was killed.

        Who kills for want of memory tells the process nothing: only what it noted before is left.
        """
        path, saved = folder / "begun.json", saved_epochs(folder / "checkpoints")
        begun = {"of": self._identity(trial), "epoch": saved[-1] if saved else 0}
        before = _read(path)
        starts = before.get("starts", 0) if begun.items() <= before.items() else 0
        if starts >= _MOST_STARTS:
            reason = (
                f"its process was killed {starts} times after epoch {begun['epoch']} before it saved another, as where "
                "memory is short; lower --batch_size or --similarity_budget_mb, or delete this file to try again"
            )
            self._record_failure(folder, trial, "ProcessKilled", reason)
            path.unlink()
            return False
        if not (folder / "config.json").exists():  # it makes a run folder, where other files may lie
            write_json(folder / "config.json", check_run_folder(folder, trial, self._problem.dataset))
        write_json(path, {**begun, "starts": starts + 1})
        return True

    def _record_failure(self, folder: Path, trial: RunConfig, error: str, message: str) -> None:
        tqdm.write(f"failed: {folder.name}: {printable(message)}", file=sys.stderr)
        write_json(folder / "failure.json", {"error": error, "message": message, "of": self._identity(trial)})

    def _identity(self, trial: RunConfig) -> dict[str, object]:
        """What a trial's failure may depend on, how long it trains among it."""
        config = {name: value for name, value in trial.to_dict().items() if name not in _WITHOUT_PART_IN_FAILURES}
        return {"config": config, "data_fingerprint": self._problem.dataset.fingerprint()}

    def _finished_rows(self, folder: Path, trial: RunConfig) -> pd.DataFrame | None:
        """The rows of a finished trial; None where it has none of its model for these settings yet."""
        path = folder / "validation.parquet"
        report = finished_report(folder, trial, self._problem.dataset)
        if report is None or not path.exists():
            return None
        try:
            rows = pd.read_parquet(path)
        except Exception as error:  # of many types, from pyarrow
            raise RunError(
                f"{path}: cannot be read ({brief(error)}); delete it, and the trial is evaluated again"
            ) from None
        if not set(search.INFERENCE) < set(rows.columns):
            raise RunError(f"{path}: not the rows of a trial; delete it, and the trial is evaluated again")
        if rows.attrs.get("checkpoint") != report["checkpoint"]:  # another command has gone on with the run
            return None
        searched = zip(search.INFERENCE, self._settings, strict=True)
        return rows if all(set(rows[name].dropna()) == set(values) for name, values in searched) else None

    def _run(self, folder: Path, trial: RunConfig) -> pd.DataFrame | None:
        def show(state: FitState, record: EpochRecord) -> None:
            self._bar.set_postfix_str(
                f"{folder.name}: epoch {record.epoch}, R@20 {record.validation:.4f}", refresh=sys.stderr.isatty()
            )

        path = folder / "validation.parquet"
        (folder / "failure.json").unlink(missing_ok=True)  # of another trial
        try:
            report = train_run(
                trial,
                self._problem,
                folder,
                checkpoint_every=time_to_save(30.0),
                cache_dir=self._cache_dir,
                splits=("validation",),
                on_epoch=show,
                stop=self._stop,
                lock=False,
            )
            checkpoint = report["checkpoint"]
            encoded, _ = load_model(folder, self._problem, cache_dir=self._cache_dir, checkpoint=checkpoint)
            rows = search.trial_rows(trial, report, self._problem, encoded, self._settings)
            rows.attrs["checkpoint"] = checkpoint
            write_atomically(path, lambda draft: rows.to_parquet(draft, index=False))
            return rows
        except (RunError, CheckpointError):
            raise
        except (RuntimeError, ValueError, MemoryError) as error:
            # TrainingDiverged and the device's out-of-memory error are RuntimeErrors.
            self._record_failure(folder, trial, type(error).__name__, str(error))
            return None


def _read(path: Path) -> dict[str, Any]:
    """What a JSON file says, nothing where it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
