"""What a search is of, as the flags of `sweep` ask for it."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isolator_jax.backbones import get_backbone
from isolator_jax.backbones.base import hyperparameter_types
from isolator_jax.errors import ConfigError
from isolator_jax.evaluation import Settings
from isolator_jax.runs import sweep as search
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.sampler import Range

from .outputs import refuse_replacing, refuse_results_of_others

_MOST_TRIALS = 10_000
_MOST_SETTINGS = 10_000


@dataclasses.dataclass(frozen=True)
class Plan:
    """A search. Its hyper-parameters are in the order of their names, whatever that of the flags: folders are named so.

    Attributes:
      base: what all trials share.
      grid: values of some of the backbone's hyper-parameters.
      gammas: of the training strategy, values or what they are drawn from; none for plain BPR alone.
      seeds: of each setting.
      settings: of alpha, beta and iota.
      aim: what those are chosen for, one of `evaluation.AIMS`.
      folder: where its trials and results are kept.
      space: what other hyper-parameters are drawn from.
      draws: how many settings are drawn of plain BPR, and how many with gamma; None where the grid is searched whole.
      sampler_seed: of the draws.
    """

    base: RunConfig
    grid: Mapping[str, list[str]]
    gammas: Sequence[float] | Range
    seeds: list[int]
    settings: Settings
    aim: str
    folder: Path
    space: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    draws: int | None = None
    sampler_seed: int = 0

    def __post_init__(self):
        for field in ("grid", "space"):
            object.__setattr__(self, field, dict(sorted(getattr(self, field).items())))

    @property
    def searched(self) -> list[str]:
        """The hyper-parameters of the backbone that are searched."""
        return sorted([*self.grid, *self.space])

    @functools.cached_property
    def trials(self) -> dict[Path, RunConfig]:
        """Each training of the whole grid by its folder."""
        return self._by_folder(search.make_trials(self.base, self.grid, self.gammas, self.seeds))

    def trials_of(self, setting: Mapping[str, Any]) -> dict[Path, RunConfig]:
        """The trainings of a setting that was drawn, one a seed; of plain BPR where it has no gamma."""
        gammas = [setting["gamma"]] if "gamma" in setting else []
        values = {name: [value] for name, value in setting.items() if name != "gamma"}
        trials = search.make_trials(self.base, values, gammas, self.seeds)
        return self._by_folder([trial for trial in trials if trial.training_strategy == bool(gammas)])

    def space_of(self, *, trained: bool) -> dict[str, Range | Sequence[Any]]:
        """What settings are drawn from: of plain BPR, or of the training strategy."""
        return {**self.grid, **self.space, **({"gamma": self.gammas} if trained else {})}

    def draws_of(self, *, trained: bool) -> int:
        """How many settings of a kind are drawn: one where they are all the same."""
        space = self.space_of(trained=trained).values()
        return (self.draws or 0) if any(isinstance(values, Range) or len(values) > 1 for values in space) else 1

    @property
    def total(self) -> int:
        """How many trainings there are at most."""
        if self.draws is None:
            return math.prod([*map(len, self.grid.values()), 1 + len(self.gammas), len(self.seeds)])
        return sum(self.draws_of(trained=trained) for trained in self.kinds) * len(self.seeds)

    @property
    def kinds(self) -> tuple[bool, ...]:
        """Whether what is searched is trained with the training strategy: first plain BPR, then with gamma."""
        return (False, True) if self.gammas else (False,)

    def check(self) -> None:
        """Refuses what is too much or cannot be.

        Raises:
          ConfigError: with the number, or the hyper-parameter and its value.
          RunError: the folder holds results of something else.
        """
        refuse_results_of_others(self.folder, "search", "chosen")
        if not any((self.folder / name).exists() for name in ("trials", "report.json")):
            refuse_replacing(self.folder / name for name in ("validation.csv", "validation.parquet"))
        _refuse_too_many("trials", self.total, _MOST_TRIALS)
        _refuse_too_many("settings of alpha, beta and iota", math.prod(map(len, self.settings)), _MOST_SETTINGS)
        if self.draws is None:
            if len(self.trials) < self.total:
                raise ConfigError("two trials have equal values in six digits, and so one folder; choose others")
            return
        for name, values in self.space_of(trained=bool(self.gammas)).items():
            for value in (values.low, values.high) if isinstance(values, Range) else values:
                self.trials_of({name: value})

    def _by_folder(self, trials: list[RunConfig]) -> dict[Path, RunConfig]:
        return {self.folder / "trials" / search.trial_name(trial, self.searched): trial for trial in trials}


def ranges_of(backbone: str, space: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges of a backbone's hyper-parameters with `whole` as their types are; gamma is a number.

    Raises:
      ConfigError: a hyper-parameter the backbone does not have or that is no number, or bounds that are not whole.
    """
    kinds = {**hyperparameter_types(get_backbone(backbone).hyperparameters), "gamma": float}
    found = {}
    for name, values in space.items():
        if name not in kinds:
            raise ConfigError(f"{backbone} has no hyper-parameter {name}; it has {', '.join(kinds)}")
        if kinds[name] not in (int, float):
            raise ConfigError(f"--space: {name} is no number; give its values by --grid={name}=value,value")
        whole = kinds[name] is int
        if whole and not (values.low.is_integer() and values.high.is_integer()):
            raise ConfigError(f"--space: {name} is an integer, and so are its bounds; got {values.low}..{values.high}")
        found[name] = values._replace(whole=whole)
    return found


def _refuse_too_many(what: str, count: int, most: int) -> None:
    if count > most:
        raise ConfigError(f"{count} {what} are more than {most}; search fewer values at a time")
