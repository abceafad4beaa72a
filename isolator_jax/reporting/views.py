"""What pages and figures show of runs: plain data, which needs no library to draw with."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from isolator_jax.evaluation import Groups, Settings

SPLITS = ("test", "validation")


class Curve(NamedTuple):
    """One training: epochs `[E]`, mean loss `[E]`, validation Recall@20 `[E]`, and its best epoch."""

    name: str
    epochs: np.ndarray
    loss: np.ndarray
    validation: np.ndarray
    best_epoch: int


class Interval(NamedTuple):
    """A value and the ends of its interval, NaN where there is none."""

    value: float
    low: float
    high: float


class ListItem(NamedTuple):
    """An item as the page shows it: its id, s_ui (None without content), whether it is a test item."""

    item: str
    similarity: float | None
    held_out: bool


@dataclasses.dataclass(frozen=True)
class UserExample:
    """One user's history and lists.

    Attributes:
      user: id.
      consistency: c_u, None where undefined.
      held_out: ids of the user's test items.
      history: training items.
      lists: for each strategy the list, best first.
    """

    user: str
    consistency: float | None
    held_out: Sequence[str]
    history: Sequence[ListItem]
    lists: Mapping[str, Sequence[ListItem]]


class SettingsMetrics(NamedTuple):
    """U-ISOLATOR on the validation split under a grid of A alphas, B betas and J iotas.

    Attributes:
      grid: the settings.
      recall, ucbias: Recall@20 and UCBias@20, `[A, B, J]`.
    """

    grid: Settings
    recall: np.ndarray
    ucbias: np.ndarray


@dataclasses.dataclass(frozen=True)
class RunView:
    """What the page shows of one run.

    Attributes:
      name: heading, one for each run of a page.
      data: fingerprint of the dataset; runs on the same data share figures.
      report: as in `report.json`.
      metrics: for each split, for each strategy, its metrics.
      curves: the trainings, the run's own first.
      ucbias: UCBias@20 on test by strategy; empty without content.
      consistency: c_u, `[U]`, NaN where undefined; None without content.
      groups: of the users; None without content.
      groups_in_numbers: their `measured_summary` by Recall@20 on test; None without content.
      settings: None without content or validation items.
      example: a user.
    """

    name: str
    data: str
    report: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    curves: Sequence[Curve]
    ucbias: Mapping[str, Interval]
    consistency: np.ndarray | None
    groups: Groups | None
    groups_in_numbers: Mapping[str, Mapping[str, Any]] | None
    settings: SettingsMetrics | None
    example: UserExample

    @property
    def dataset(self) -> str:
        """Name of the dataset, with the modalities where they were chosen."""
        config = self.report["config"]
        name = config["dataset"] or "the embedded dataset"
        return f"{name} ({', '.join(config['modalities'])})" if config["modalities"] else name
