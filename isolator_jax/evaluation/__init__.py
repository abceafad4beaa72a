"""Evaluation: ranking, accuracy metrics, bias metrics. Tests of significance are in `significance`."""

from isolator_jax.evaluation.bias import Groups, consistency_groups, rho, ucbias
from isolator_jax.evaluation.evaluate import Evaluation, evaluate, evaluate_lists, mean_recall, users_to_validate
from isolator_jax.evaluation.grid import AIMS, Baseline, Settings, UParameters, choose_setting, evaluate_settings
from isolator_jax.evaluation.ranking import Lists, list_hits, top_k_lists
from isolator_jax.evaluation.scores import Model

__all__ = [
    "AIMS",
    "Baseline",
    "Evaluation",
    "Groups",
    "Lists",
    "Model",
    "Settings",
    "UParameters",
    "choose_setting",
    "consistency_groups",
    "evaluate",
    "evaluate_lists",
    "evaluate_settings",
    "list_hits",
    "mean_recall",
    "rho",
    "top_k_lists",
    "ucbias",
    "users_to_validate",
]
