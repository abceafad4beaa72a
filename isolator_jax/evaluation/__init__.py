"""Evaluation: ranking, accuracy metrics, bias metrics, significance."""

from isolator_jax.evaluation.bias import Groups, consistency_groups, rho, ucbias
from isolator_jax.evaluation.evaluate import Evaluation, evaluate, mean_recall, users_to_validate
from isolator_jax.evaluation.ranking import list_hits, top_k_lists
from isolator_jax.evaluation.settings import Settings, evaluate_settings
from isolator_jax.evaluation.significance import bootstrap_ucbias, holm, paired_test

__all__ = [
    "Evaluation",
    "Groups",
    "Settings",
    "bootstrap_ucbias",
    "consistency_groups",
    "evaluate",
    "evaluate_settings",
    "holm",
    "list_hits",
    "mean_recall",
    "paired_test",
    "rho",
    "top_k_lists",
    "ucbias",
    "users_to_validate",
]
