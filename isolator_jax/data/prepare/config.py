"""What `prepare` is asked for: every choice that its result depends on."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isolator_jax.data.folder import is_folder_name
from isolator_jax.data.prepare.filters import KEPT_OF_DUPLICATES
from isolator_jax.errors import ConfigError, brief

SPLITTERS = ("random", "leave_one_out", "time", "user_time", "given")
MISSING_FEATURES = ("refuse", "zeros", "mean", "drop")
TEXT_MODALITY = "text"


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """How raw data becomes a dataset.

    Attributes:
      interactions: the raw table; with `test` the training part of it.
      name: the dataset's name.
      columns: names of the columns of interaction files without header; None: they have one.
      user_column, item_column, rating_column, time_column, split_column: the columns' names;
        None looks for the usual ones.
      min_rating: interactions rated lower are dropped; None keeps all and reads no ratings.
      duplicates: which interaction of a pair is kept, in time, or in the order of lines where no times are read.
      k_core: users and items of fewer interactions are dropped; 0 keeps all.
      split: `random` and `user_time` part each user's interactions by `ratios`, `leave_one_out`
        holds out two of each user (the last, or drawn ones where there are no times), `time`
        cuts all at two moments, `given` takes the split column or the files.
      ratios: training, validation, test.
      seed: of the random split, of which of a user's interactions of one time come last, and of the text's
        decomposition.
      validation, test: files of a given split, which need not have the first.
      features: a feature file by modality.
      feature_ids: the item ids of the rows of a `.npy`, by modality.
      missing_features: items that a feature file lacks: `refuse` them, give them `zeros` (no
        content) or the `mean` of the others, or `drop` their interactions.
      all_items: keeps items that every file of features, and of text, has, and that nobody interacted with.
      text: a table of items with text columns, which becomes the modality `text`; None: none.
      text_columns: its columns, joined.
      text_dim: its width after truncated SVD.
    """

    interactions: Path
    name: str
    columns: tuple[str, ...] | None = None
    user_column: str | None = None
    item_column: str | None = None
    rating_column: str | None = None
    time_column: str | None = None
    split_column: str | None = None
    min_rating: float | None = None
    duplicates: str = "first"
    k_core: int = 0
    split: str = "random"
    ratios: tuple[int, int, int] = (8, 1, 1)
    seed: int = 0
    validation: Path | None = None
    test: Path | None = None
    features: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    feature_ids: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    missing_features: str = "refuse"
    all_items: bool = False
    text: Path | None = None
    text_columns: tuple[str, ...] = ()
    text_dim: int = 256

    def __post_init__(self):
        for problem, message in self._problems():
            if problem:
                raise ConfigError(message)

    def _problems(self) -> list[tuple[bool, str]]:
        files = self.validation is not None or self.test is not None
        unknown = sorted(set(self.feature_ids) - set(self.features))
        modalities = [*self.features, *([TEXT_MODALITY] if self.text else [])]
        return [
            (
                not is_folder_name(self.name),
                f"name {brief(repr(self.name))} is no name of a folder; give one without slashes",
            ),
            *self._unknown_choices(),
            (
                self.min_rating is not None and not math.isfinite(self.min_rating),
                f"min_rating must be a finite number, got {self.min_rating}",
            ),
            (
                not 0 <= self.k_core < 2**31,
                f"k_core must lie in 0 .. {2**31 - 1}, got {self.k_core}",
            ),
            (
                len(self.ratios) != 3 or not all(1 <= ratio <= 10**6 for ratio in self.ratios),
                f"ratios must be three whole numbers from 1 on, as 8,1,1; got {brief(','.join(map(str, self.ratios)))}",
            ),
            (not 0 <= self.seed < 2**32, f"seed must lie in 0 .. {2**32 - 1}, got {self.seed}"),
            (
                files and (self.split != "given" or self.test is None),
                "validation and test are the files of a given split: give both, or test alone, with split given",
            ),
            (files and self.split_column is not None, "give a split column or the files of a split, not both"),
            (bool(unknown), f"feature_ids names {', '.join(unknown)}, which features does not"),
            (
                len(set(modalities)) < len(modalities) or not all(name.isidentifier() for name in modalities),
                f"modalities need names of letters and digits, each once; got {brief(', '.join(modalities))}",
            ),
            (
                (self.text is None) != (not self.text_columns),
                "text and text_columns go together: a file and its columns",
            ),
            (
                self.all_items and not (self.features or self.text),
                "all_items keeps items that have features; give features or text",
            ),
            (not 1 <= self.text_dim <= 10**5, f"text_dim must lie in 1 .. 100000, got {self.text_dim}"),
        ]

    def _unknown_choices(self) -> list[tuple[bool, str]]:
        known = {"duplicates": KEPT_OF_DUPLICATES, "split": SPLITTERS, "missing_features": MISSING_FEATURES}
        return [
            (
                getattr(self, name) not in values,
                f"{name} must be one of {', '.join(values)}; got {getattr(self, name)!r}",
            )
            for name, values in known.items()
        ]

    def interaction_files(self) -> list[tuple[int, Path]]:
        """The raw tables, each with the label of the split that it is where they are of a given one."""
        return [(i, path) for i, path in enumerate((self.interactions, self.validation, self.test)) if path is not None]

    def to_dict(self) -> dict[str, Any]:
        """The choices as JSON holds them."""
        return _plain(dataclasses.asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
