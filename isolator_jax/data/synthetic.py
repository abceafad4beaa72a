"""A maker of small datasets with planted structure, and its ground truth.

Every item has a content cluster, which its features show, and a style, which they do not.
A content-consistent user draws items mostly from one cluster, a content-diverse user
mostly from one style: both can be learned from behaviour, only the first from content.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isolator_jax.data.dataset import Dataset, Interactions
from isolator_jax.data.folder import is_folder_name, new_folder, write_splits
from isolator_jax.data.mmrec import FEATURE_SUFFIX
from isolator_jax.errors import DataError, brief
from isolator_jax.files import write_json

_MOST_CELLS = 100_000_000


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """What the maker plants.

    Attributes:
      users, items: catalogue sizes.
      clusters, styles: number of content clusters and of styles.
      consistent_share: share of content-consistent users, in [0, 1]; the rest are diverse.
      loyalty: probability that an interaction follows the user's cluster or style.
      mean_interactions: mean interactions of a user (at least 5 each).
      popularity_exponent: item weights fall as rank ** -exponent.
      feature_noise: standard deviation of the features around their cluster's centre,
        whose entries have unit deviation.
      modalities: feature width of each modality by name.
      seed: everything follows from it.
    """

    users: int = 3000
    items: int = 1000
    clusters: int = 40
    styles: int = 40
    consistent_share: float = 0.5
    loyalty: float = 0.8
    mean_interactions: float = 12.0
    popularity_exponent: float = 0.6
    feature_noise: float = 0.8
    modalities: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"image": 64, "text": 32})
    seed: int = 0

    def __post_init__(self):
        if not 1 <= min(self.users, self.clusters, self.styles) or not self.clusters * self.styles < 2**31:
            raise ValueError("users, clusters and styles must be at least 1, and clusters x styles below 2**31")
        if self.items < 10:
            raise ValueError(f"items must be at least 10, got {self.items}")
        if not 0 <= self.consistent_share <= 1 or not 0 <= self.loyalty <= 1:
            raise ValueError("consistent_share and loyalty must lie in [0, 1]")
        if min(self.modalities.values(), default=1) < 1:
            raise ValueError(f"widths of modalities must be at least 1, got {dict(self.modalities)}")
        if not 5 <= self.mean_interactions <= 1e6:
            raise ValueError(f"mean_interactions must lie in 5 .. 1e6, got {self.mean_interactions}")
        if not abs(self.popularity_exponent) <= 10:
            raise ValueError(f"popularity_exponent must lie in -10 .. 10, got {self.popularity_exponent}")
        if not 0 <= self.feature_noise <= 1e6:
            raise ValueError(f"feature_noise must lie in 0 .. 1e6, got {self.feature_noise}")
        if self.seed < 0:
            raise ValueError("seed must be at least 0")
        # What is drawn at once: an item's weight for a user, and the features.
        widths = sum(self.modalities.values()) + 1
        if max(self.users * self.mean_interactions, (self.items + self.clusters) * widths) > _MOST_CELLS:
            raise ValueError(
                f"users x mean_interactions and (items + clusters) x widths must be at most {_MOST_CELLS:g}; "
                "it makes small datasets"
            )


class GroundTruth(NamedTuple):
    """What was planted.

    Attributes:
      item_cluster, item_style: `[I] int32`.
      user_consistent: `[U] bool`.
      user_preference: `[U] int32`, the cluster of a consistent user, the style of a
        diverse one.
    """

    item_cluster: np.ndarray
    item_style: np.ndarray
    user_consistent: np.ndarray
    user_preference: np.ndarray


def make_dataset(config: SyntheticConfig = SyntheticConfig()) -> tuple[Dataset, GroundTruth]:
    """Makes a dataset and its ground truth, in memory; equal configurations give equal data."""
    rng = np.random.default_rng(config.seed)
    truth = GroundTruth(
        item_cluster=rng.integers(config.clusters, size=config.items, dtype=np.int32),
        item_style=rng.integers(config.styles, size=config.items, dtype=np.int32),
        user_consistent=rng.permutation(config.users) < round(config.consistent_share * config.users),
        user_preference=np.empty(config.users, np.int32),
    )
    consistent = truth.user_consistent
    truth.user_preference[consistent] = rng.integers(config.clusters, size=consistent.sum())
    truth.user_preference[~consistent] = rng.integers(config.styles, size=(~consistent).sum())

    users, items, labels = _interactions(config, truth, rng)
    dataset = Dataset(
        name="synthetic",
        num_users=config.users,
        num_items=config.items,
        train=Interactions.from_pairs(users[labels == 0], items[labels == 0]),
        validation=Interactions.from_pairs(users[labels == 1], items[labels == 1]),
        test=Interactions.from_pairs(users[labels == 2], items[labels == 2]),
        features={name: _features(config, truth, width, rng) for name, width in config.modalities.items()},
    )
    return dataset, truth


def write_dataset(
    data_dir: str | Path, name: str, dataset: Dataset, truth: GroundTruth, config: SyntheticConfig
) -> Path:
    """Writes a made dataset in MMRec's format to `data_dir/name`, its ground truth beside it.

    `ground_truth.npz` holds the planted arrays, `ground_truth.json` the configuration.

    Returns:
      The dataset's folder.

    Raises:
      DataError: the name is none of a folder.
      FileExistsError: the folder exists already; nothing is changed.
    """
    if not is_folder_name(name):
        raise DataError(f"{brief(repr(name))} is no name of a folder; give one without slashes")
    target = Path(data_dir) / name
    if target.exists():
        raise FileExistsError(f"{target} exists; choose another name or remove it")
    with new_folder(target) as draft:
        write_splits(draft, name, dataset)
        for modality, feature in dataset.features.items():
            np.save(draft / f"{modality}{FEATURE_SUFFIX}", feature)
        np.savez(draft / "ground_truth.npz", **truth._asdict())
        write_json(draft / "ground_truth.json", dataclasses.asdict(config))
    return target


def _interactions(
    config: SyntheticConfig, truth: GroundTruth, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    popularity = (1.0 + rng.permutation(config.items)) ** -config.popularity_exponent
    extra = rng.poisson(config.mean_interactions - 5, size=config.users)
    # At most half of the catalogue, so that negatives exist for everyone.
    counts = np.minimum(5 + extra, config.items // 2)
    users, items, labels = [], [], []
    for user, count in enumerate(counts):
        trait = truth.item_cluster if truth.user_consistent[user] else truth.item_style
        liked = popularity * (trait == truth.user_preference[user])
        anything = popularity / popularity.sum()
        share = config.loyalty if liked.sum() > 0 else 0.0
        weights = share * liked / max(liked.sum(), 1e-12) + (1 - share) * anything
        weights = np.maximum(weights, 1e-9)
        chosen = rng.choice(config.items, size=count, replace=False, p=weights / weights.sum())
        held_out = max(1, count // 10)
        label = np.zeros(count, np.int32)
        label[:held_out], label[held_out : 2 * held_out] = 2, 1
        users.append(np.full(count, user))
        items.append(chosen)
        labels.append(rng.permutation(label))
    return np.concatenate(users), np.concatenate(items), np.concatenate(labels)


def _features(config: SyntheticConfig, truth: GroundTruth, width: int, rng: np.random.Generator) -> np.ndarray:
    centres = rng.standard_normal((config.clusters, width))
    noise = config.feature_noise * rng.standard_normal((config.items, width))
    return (centres[truth.item_cluster] + noise).astype(np.float32)
