"""The dataset every other module works on: interactions in three splits, and features."""

import dataclasses
import hashlib
import warnings
from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.errors import DataError
from isolator_jax.histories import Histories

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Interactions:
    """Unique user-item pairs of one split.

    Attributes:
      users, items: `[E] int32`, sorted by user, then item.
    """

    users: np.ndarray
    items: np.ndarray

    @classmethod
    def from_pairs(cls, users: ArrayLike, items: ArrayLike) -> "Interactions":
        """The pairs in order, each once.

        Args:
          users, items: `[N]` ids, pairs in any order and any number of times.

        Raises:
          TypeError, ValueError: other shapes, or no ids.
        """
        users = checks.host_array("users", users, shape=("N",), dtype="int")
        items = checks.host_array("items", items, shape=("N",), dtype="int")
        checks.equal_shapes(users=users, items=items)
        order = np.lexsort((items, users))
        users, items = users[order], items[order]
        first = np.ones(users.size, bool)
        first[1:] = (np.diff(users) > 0) | (np.diff(items) > 0)
        return cls(users[first], items[first])

    def __len__(self) -> int:
        return self.users.size

    def histories(self, num_users: int) -> Histories:
        """The split as per-user item sets on the device."""
        return Histories.from_pairs(self.users, self.items, num_users)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One dataset.

    Raises:
      DataError: ids beyond the users or items, or features that are no matrix of a row an item.

    Attributes:
      name: for reports.
      num_users, num_items: U and I; ids are 0-based, users and items without training
        interactions included.
      train, validation, test: the splits.
      features: raw features of each modality, `[I, F_m]` of any float type, possibly
        memory-mapped, in the order the user gave.
    """

    name: str
    num_users: int
    num_items: int
    train: Interactions
    validation: Interactions
    test: Interactions
    features: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        for split in SPLITS:
            pairs = self.split(split)
            for kind, ids, count in (("users", pairs.users, self.num_users), ("items", pairs.items, self.num_items)):
                if ids.size and not 0 <= ids.min() <= ids.max() < count:
                    wrong = ids.min() if ids.min() < 0 else ids.max()
                    raise DataError(f"{split}.{kind} must be at least 0 and below {count}, got {wrong}")
        for name, feature in self.features.items():
            if np.ndim(feature) != 2 or len(feature) != self.num_items:
                found = list(np.shape(feature))
                raise DataError(
                    f"features[{name!r}] must have a row for each of the {self.num_items} items, got shape {found}"
                )

    def split(self, name: str) -> Interactions:
        """The split called `train`, `validation` or `test`."""
        return getattr(self, name)

    def counts(self) -> dict[str, int]:
        """Users, items and interactions of each split."""
        sizes = {name: len(self.split(name)) for name in SPLITS}
        return {"users": self.num_users, "items": self.num_items, **sizes}

    def without_training(self, split: str) -> dict[str, int]:
        """Users of a held-out split who have no training items, so that they get no list, and their interactions."""
        held_out = self.split(split).users
        cold = ~np.isin(held_out, self.train.users)
        return {
            "users": int(np.unique(held_out[cold]).size),
            "of": int(np.unique(held_out).size),
            "interactions": int(cold.sum()),
        }

    def fingerprint(self) -> str:
        """Hash of the whole content: equal exactly when a run would see equal data."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.num_users, self.num_items)).encode())
        for name in SPLITS:
            split = self.split(name)
            digest.update(repr((name, len(split))).encode())
            digest.update(split.users.tobytes())
            digest.update(split.items.tobytes())
        for name, feature in self.features.items():
            digest.update(repr((name, feature.shape, feature.dtype.str)).encode())
            digest.update(np.ascontiguousarray(feature).view(np.uint8).data)  # bfloat16 has no buffer of its own
        return digest.hexdigest()


def warn_of_users_without_training(dataset: Dataset, files: Mapping[str, object]) -> None:
    """Warns where held-out users have no training items.

    Args:
      dataset: the data.
      files: where each split was read from.
    """
    for split in SPLITS[1:]:
        cold = dataset.without_training(split)
        if cold["users"]:
            warnings.warn(
                f"{files[split]}: {cold['users']} of {cold['of']} {split} users have no training interactions; they "
                f"get no list, and their {cold['interactions']} {split} interactions count in no mean",
                stacklevel=4,
            )
