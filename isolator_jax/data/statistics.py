"""Statistics of a dataset, as in the paper's Table 1."""

from typing import Any

from isolator_jax.data.dataset import SPLITS, Dataset
from isolator_jax.features import mean_item_similarity, normalize_features


def dataset_statistics(dataset: Dataset) -> dict[str, Any]:
    """Users, items, interactions, sparsity, and each modality's width and S-bar.

    Returns:
      `users`, `items`, `interactions` (all splits), `sparsity` (share of empty user-item
      cells), and for each modality `MODALITY dim` and `MODALITY S-bar`, the mean cosine
      similarity of different items.
    """
    interactions = sum(len(dataset.split(name)) for name in SPLITS)
    statistics = {
        "dataset": dataset.name,
        "users": dataset.num_users,
        "items": dataset.num_items,
        "interactions": interactions,
        "sparsity": 1.0 - interactions / (dataset.num_users * dataset.num_items),
    }
    for modality, features in dataset.features.items():
        statistics[f"{modality} dim"] = features.shape[1]
        statistics[f"{modality} S-bar"] = float(mean_item_similarity(normalize_features(features)))
    return statistics
