"""Datasets: the MMRec format on disk, and a maker of small ones with planted structure."""

from isolator_jax.data.dataset import Dataset, Interactions
from isolator_jax.data.mmrec import read_dataset
from isolator_jax.data.synthetic import SyntheticConfig, make_dataset, write_dataset

__all__ = [
    "Dataset",
    "Interactions",
    "SyntheticConfig",
    "make_dataset",
    "read_dataset",
    "write_dataset",
]
