"""Raw interactions and item features to a dataset folder in MMRec's format."""

from isolator_jax.data.prepare.config import MISSING_FEATURES, SPLITTERS, PrepareConfig
from isolator_jax.data.prepare.pipeline import prepare_dataset

__all__ = ["MISSING_FEATURES", "SPLITTERS", "PrepareConfig", "prepare_dataset"]
