"""Evaluation: ranking, accuracy metrics, bias metrics. Tests of significance are in `significance`."""

from isolator_jax.evaluation.bias import Groups, activity_groups, consistency_groups, rho, ucbias
from isolator_jax.evaluation.evaluate import Evaluation, evaluate, evaluate_lists, mean_recall, users_to_validate
from isolator_jax.evaluation.grid import AIMS, Baseline, Settings, UParameters, choose_setting, evaluate_settings
from isolator_jax.evaluation.held_equal import (
    EqualActivity,
    EqualPopularity,
    equal_activity,
    ucbias_at_equal_popularity,
)
from isolator_jax.evaluation.hits import count_hits
from isolator_jax.evaluation.per_user import held_out_hits, per_user_table
from isolator_jax.evaluation.ranking import Lists, list_hits, top_k_lists
from isolator_jax.evaluation.reference import reference_lists
from isolator_jax.evaluation.scores import Model

__all__ = [
    "AIMS",
    "Baseline",
    "EqualActivity",
    "EqualPopularity",
    "Evaluation",
    "Groups",
    "Lists",
    "Model",
    "Settings",
    "UParameters",
    "activity_groups",
    "choose_setting",
    "consistency_groups",
    "count_hits",
    "equal_activity",
    "evaluate",
    "evaluate_lists",
    "evaluate_settings",
    "held_out_hits",
    "list_hits",
    "mean_recall",
    "per_user_table",
    "reference_lists",
    "rho",
    "top_k_lists",
    "ucbias",
    "ucbias_at_equal_popularity",
    "users_to_validate",
]
