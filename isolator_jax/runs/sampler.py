"""Optuna as a sampler of a search's settings: an extra, imported where it is asked for.

A study's trials lie in a file that any number of workers share. A setting that was drawn and
has no value yet belongs to whoever runs its trainings: their folders' locks say who does.
"""

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isolator_jax.errors import ConfigError, FolderInUse, TrainingInterrupted
from isolator_jax.runs.lock import locked

# Of what is drawn: folders are named by it.
_DIGITS = 4

_PAUSE = 0.05  # seconds


class Range(NamedTuple):
    """What a number is drawn from.

    Attributes:
      low, high: its bounds, both included.
      log: whether its logarithm is drawn evenly, and not the number.
      whole: whether it is an integer.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False


def check_installed() -> None:
    """Raises ConfigError where Optuna is missing."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("--sampler=optuna needs Optuna: pip install 'isolator-jax[optuna]'") from None


class Study:
    """Settings that Optuna's tree-structured Parzen estimator draws, the next by the values of those before it.

    The draw depends on the seed, the setting's number and the values that are told: one worker draws the same
    settings whether it is interrupted or not. Several workers draw by what is known when they ask.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        of: Mapping[str, Any],
        space: Mapping[str, Range | Sequence[Any]],
        seed: int,
        stop: Callable[[], bool] = lambda: False,
    ):
        """
        Args:
          folder: where the studies of a search are kept.
          name: what the study is called; a digest of `of` follows it.
          of: what its values depend on, as JSON values: another search in the same folder is another study.
          space: what is drawn, a number of a range or one of some values, by name.
          seed: of the draws.
          stop: whether to end, asked while another worker holds the studies; `TrainingInterrupted` is then raised.
        """
        self._stop = stop
        # Optuna draws one name after the other: in an order of their own, whatever that of the flags.
        self._folder, self._space, self._seed = folder.absolute(), dict(sorted(space.items())), seed
        described = json.dumps({**of, "space": space, "seed": seed}, sort_keys=True)
        self._name = f"{name} {hashlib.blake2b(described.encode(), digest_size=6).hexdigest()}"

    def settings(self, most: int | None = None) -> dict[int, dict[str, Any]]:
        """Every setting that was drawn, or the first `most` of them, by its number."""
        with self._held() as study:
            return {trial.number: self._setting(trial.params) for trial in self._drawn(study)[:most]}

    def open(self, most: int | None = None) -> dict[int, dict[str, Any]]:
        """The settings, or those among the first `most`, that have no value yet, by their numbers."""
        with self._held() as study:
            return {
                trial.number: self._setting(trial.params)
                for trial in self._drawn(study)[:most]
                if not trial.state.is_finished()
            }

    def draw(self, most: int) -> bool:
        """Draws one more setting, unless there are `most`; whether it did."""
        import optuna

        with self._held() as study:
            number = len(self._drawn(study))
            if number >= most:
                return False
            for trial in study.get_trials(deepcopy=False):
                if not trial.state.is_finished() and trial.params.keys() != self._space.keys():
                    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # its worker died while it drew
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                # Of the seed and the number together: else setting n of a seed were setting n - 1 of the next.
                seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
                study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            study.ask(self._distributions())
            return True

    def tell(self, number: int, value: float | None) -> None:
        """Gives a setting its value, the more the better; None where it has none, which is worse than any."""
        from optuna.trial import TrialState

        with self._held() as study:
            state = TrialState.PRUNED if value is None or math.isnan(value) else TrialState.COMPLETE
            study.tell(number, None if state == TrialState.PRUNED else value, state, skip_if_finished=True)

    @contextmanager
    def _held(self) -> Iterator[Any]:
        """The study, which nobody else reads or writes meanwhile."""
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with ExitStack() as held:
            self._hold(held)
            path = self._folder / "journal.log"
            _drop_half_a_line(path)
            storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_Held()))  # type: ignore[arg-type]
            yield optuna.create_study(storage=storage, study_name=self._name, direction="maximize", load_if_exists=True)

    def _hold(self, held: ExitStack) -> None:
        while True:
            try:
                held.enter_context(locked(self._folder))
                return
            except FolderInUse:
                if self._stop():
                    raise TrainingInterrupted("stopped while waiting for other workers") from None
                time.sleep(_PAUSE)

    def _drawn(self, study: Any) -> list[Any]:
        return [trial for trial in study.get_trials(deepcopy=False) if trial.params.keys() == self._space.keys()]

    def _setting(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _rounded(value, self._space[name]) for name, value in params.items()}

    def _distributions(self) -> dict[str, Any]:
        from optuna import distributions

        def of(space: Range | Sequence[Any]) -> Any:
            if not isinstance(space, Range):
                return distributions.CategoricalDistribution(list(space))
            if space.whole:
                return distributions.IntDistribution(int(space.low), int(space.high), log=space.log)
            return distributions.FloatDistribution(space.low, space.high, log=space.log)

        return {name: of(space) for name, space in self._space.items()}


class _Held:
    """In place of the journal's own lock, which a process that is killed leaves behind: the folder's is held."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _drop_half_a_line(path: Path) -> None:
    """Takes off a journal's end what a process began to write when it was killed or the disk was full."""
    if not path.exists():
        return
    with open(path, "r+b") as journal:
        text = journal.read()
        if not text.endswith(b"\n"):
            journal.truncate(text.rfind(b"\n") + 1)
            os.fsync(journal.fileno())


def _rounded(value: Any, space: Range | Sequence[Any]) -> Any:
    """A drawn number in the digits that folders are named by, within its bounds."""
    if not isinstance(space, Range) or space.whole:
        return value
    return min(max(float(f"{value:.{_DIGITS}g}"), space.low), space.high)
