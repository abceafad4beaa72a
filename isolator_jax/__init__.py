"""ISOLATOR in JAX: measure and correct how multi-modal recommenders use content similarity.

The names below are the public primitives and their types: pure functions on arrays, for models
trained here or elsewhere. Everything else is found in the module of its topic.
"""

from typing import TYPE_CHECKING, Any

from isolator_jax.backbones import Encoded
from isolator_jax.consistency import content_consistency, fill_undefined
from isolator_jax.content import Content, make_content
from isolator_jax.evaluation import (
    Baseline,
    EqualActivity,
    EqualPopularity,
    Evaluation,
    Groups,
    Lists,
    Model,
    Settings,
    UParameters,
    activity_groups,
    choose_setting,
    consistency_groups,
    equal_activity,
    evaluate,
    evaluate_lists,
    evaluate_settings,
    held_out_hits,
    per_user_table,
    reference_lists,
    rho,
    top_k_lists,
    ucbias,
    ucbias_at_equal_popularity,
)
from isolator_jax.evaluation.rescoring import Rescored, ScoreSummary, rescore, summarize_scores, tune
from isolator_jax.evaluation.significance import bootstrap_ucbias, paired_test
from isolator_jax.features import fuse_channels, item_similarity, mean_item_similarity, normalize_features
from isolator_jax.histories import Histories
from isolator_jax.scoring import (
    content_factor,
    content_gate,
    d_score,
    elu_prime,
    training_score,
    u_score,
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
from isolator_jax.strategies import Strategy, d_isolator, training_strategy, u_isolator, vanilla

if TYPE_CHECKING:
    from isolator_jax.recommender import Recommender

__version__ = "0.1.0"

__all__ = [
    "Baseline",
    "Content",
    "Encoded",
    "EqualActivity",
    "EqualPopularity",
    "Evaluation",
    "Groups",
    "Histories",
    "Lists",
    "Model",
    "Recommender",
    "Rescored",
    "ScoreSummary",
    "Settings",
    "Similarity",
    "SimilarityFromFeatures",
    "SimilarityOnTheFly",
    "SimilarityTable",
    "Strategy",
    "UParameters",
    "__version__",
    "activity_groups",
    "bootstrap_ucbias",
    "build_similarity",
    "choose_setting",
    "consistency_groups",
    "content_consistency",
    "content_factor",
    "content_gate",
    "d_isolator",
    "d_score",
    "elu_prime",
    "equal_activity",
    "evaluate",
    "evaluate_lists",
    "evaluate_settings",
    "fill_undefined",
    "fuse_channels",
    "held_out_hits",
    "history_similarity",
    "item_similarity",
    "list_similarity",
    "make_content",
    "mean_item_similarity",
    "normalize_features",
    "paired_test",
    "per_user_table",
    "reference_lists",
    "rescore",
    "rho",
    "summarize_scores",
    "top_k_lists",
    "training_score",
    "training_strategy",
    "tune",
    "u_isolator",
    "u_score",
    "ucbias",
    "ucbias_at_equal_popularity",
    "vanilla",
]


def __getattr__(name: str) -> Any:
    """`Recommender`, imported when it is first asked for: it is above all that the primitives need."""
    if name == "Recommender":
        from isolator_jax.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
