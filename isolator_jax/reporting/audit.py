"""An audit of recommendation lists: what their UCBias is worth, beside two rankers that need no model.

The same UCBias means different things on different data: where ranking by popularity alone has
as much of it, it says nothing of content. So each system stands beside popularity alone and s_ui
alone, and its UCBias is taken again among users of equal activity and among items of like
popularity.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from isolator_jax.evaluation import Evaluation, Groups
from isolator_jax.evaluation.significance import holm, paired_test
from isolator_jax.reporting.activity import EqualActivity, repeated_draws
from isolator_jax.reporting.model import RECALL, SIGNIFICANT, UCBIAS
from isolator_jax.reporting.resampling import DRAWS, resampled_ucbias, two_sided_p
from isolator_jax.reporting.tables import format_value

ACTIVITY, POPULARITY = f"{UCBIAS}/equal_activity", f"{UCBIAS}/equal_popularity"

# The share of a system's UCBias from which on a reference ranker's is called as large.
_LARGE = 0.5


class Difference(NamedTuple):
    """A paired comparison of two systems.

    Attributes:
      first, second: their names.
      metric: what is compared; means over users, or UCBias.
      difference: of the first from the second.
      p: two-sided, of a paired t-test over users, or of UCBias by resamples of the users.
      adjusted: p by Holm over all comparisons of the audit.
    """

    first: str
    second: str
    metric: str
    difference: float
    p: float
    adjusted: float


class Bias(NamedTuple):
    """UCBias@20 of one system, and what is left of it.

    Attributes:
      value: UCBias (Eq. 4).
      interval: 95 % by resamples of the users.
      activity, activity_interval: among users of like activity (Fig. 3), mean and 95 % of repeated draws.
      popularity: among items of like popularity.
    """

    value: float
    interval: tuple[float, float]
    activity: float
    activity_interval: tuple[float, float]
    popularity: float

    def metrics(self) -> dict[str, float]:
        """What it adds to a system's metrics."""
        return {ACTIVITY: self.activity, POPULARITY: self.popularity}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """By metric."""
        return {UCBIAS: self.interval, ACTIVITY: self.activity_interval}
