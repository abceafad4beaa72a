"""ISOLATOR in JAX: measure and correct how multi-modal recommenders use content similarity.

The names below are the public primitives: pure functions on arrays, for models trained
here or elsewhere. Everything else is found in the module of its topic.
"""

from isolator_jax.evaluation import consistency_groups, evaluate, rho, top_k_lists, ucbias
from isolator_jax.histories import Histories
from isolator_jax.scoring import (
    content_factor,
    content_gate,
    d_isolator,
    d_score,
    elu_prime,
    training_score,
    training_strategy,
    u_isolator,
    u_score,
    vanilla,
)
from isolator_jax.similarity import (
    build_similarity,
    content_consistency,
    fill_undefined,
    fuse_channels,
    history_similarity,
    item_similarity,
    mean_item_similarity,
    normalize_features,
)

__all__ = [
    "Histories",
    "build_similarity",
    "consistency_groups",
    "content_consistency",
    "content_factor",
    "content_gate",
    "d_isolator",
    "d_score",
    "elu_prime",
    "evaluate",
    "fill_undefined",
    "fuse_channels",
    "history_similarity",
    "item_similarity",
    "mean_item_similarity",
    "normalize_features",
    "rho",
    "top_k_lists",
    "training_score",
    "training_strategy",
    "u_isolator",
    "u_score",
    "ucbias",
    "vanilla",
]
