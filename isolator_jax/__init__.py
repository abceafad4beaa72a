"""ISOLATOR in JAX: measure and correct how multi-modal recommenders use content similarity.

The names below are the public primitives: pure functions on arrays, for models trained
here or elsewhere. Everything else is found in the module of its topic.
"""

from isolator_jax.backbones import Encoded
from isolator_jax.consistency import content_consistency, fill_undefined
from isolator_jax.content import Content, make_content
from isolator_jax.evaluation import (
    consistency_groups,
    evaluate,
    evaluate_lists,
    rho,
    top_k_lists,
    top_k_lists_from_scores,
    ucbias,
)
from isolator_jax.evaluation.rescoring import UParameters, rescore, tune
from isolator_jax.evaluation.significance import bootstrap_ucbias
from isolator_jax.features import fuse_channels, item_similarity, mean_item_similarity, normalize_features
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
    Similarity,
    SimilarityFromFeatures,
    SimilarityOnTheFly,
    SimilarityTable,
    build_similarity,
    history_similarity,
    list_similarity,
)

__version__ = "0.1.0"

__all__ = [
    "Content",
    "Encoded",
    "Histories",
    "Similarity",
    "SimilarityFromFeatures",
    "SimilarityOnTheFly",
    "SimilarityTable",
    "UParameters",
    "bootstrap_ucbias",
    "build_similarity",
    "consistency_groups",
    "content_consistency",
    "content_factor",
    "content_gate",
    "d_isolator",
    "d_score",
    "elu_prime",
    "evaluate",
    "evaluate_lists",
    "fill_undefined",
    "fuse_channels",
    "history_similarity",
    "item_similarity",
    "list_similarity",
    "make_content",
    "mean_item_similarity",
    "normalize_features",
    "rescore",
    "rho",
    "top_k_lists",
    "top_k_lists_from_scores",
    "training_score",
    "training_strategy",
    "tune",
    "u_isolator",
    "u_score",
    "ucbias",
    "vanilla",
]
