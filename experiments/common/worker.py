"""A worker of a search: one of any number of processes that share the search's trials."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from isolator_jax.errors import CheckpointError, FolderInUse, RunError, TrainingInterrupted, brief, printable
from isolator_jax.evaluation import Settings
from isolator_jax.files import write_atomically, write_json
from isolator_jax.runs import Problem, finished_report, load_model, locked, time_to_save, train_run
from isolator_jax.runs import sweep as search
from isolator_jax.runs.config import EXTENDABLE, RunConfig
from isolator_jax.training import EpochRecord, FitState

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds


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
        """Runs what is missing of some trials, until all of them have ended, here or elsewhere."""
        left = dict(trials)
        while left:
            before = len(left)
            left = {folder: trial for folder, trial in left.items() if not self.take(folder, trial)}
            if len(left) == before:  # else what was held at its turn may be free by now
                self.wait(len(left))

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
        if found is None and not self._failed_before(folder, trial):
            found = self._run(folder, trial)
            self.trained += 1
        return found

    def _failed_before(self, folder: Path, trial: RunConfig) -> bool:
        """Whether this trial, and not another that had this folder, failed on this data."""
        try:
            failed = json.loads((folder / "failure.json").read_text(encoding="utf-8"))
            return failed["of"] == self._identity(trial)
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def _identity(self, trial: RunConfig) -> dict[str, object]:
        """What a trial's failure may depend on."""
        config = {name: value for name, value in trial.to_dict().items() if name not in EXTENDABLE}
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
        path.unlink(missing_ok=True)  # of other settings, or of fewer epochs
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
        except (RuntimeError, ValueError) as error:
            # TrainingDiverged and the device's out-of-memory error are RuntimeErrors.
            tqdm.write(f"failed: {folder.name}: {printable(error)}", file=sys.stderr)
            failure = {"error": type(error).__name__, "message": str(error), "of": self._identity(trial)}
            write_json(folder / "failure.json", failure)
            return None
