"""An audit of recommendation lists: what their UCBias is worth, beside two rankers that need no model.

The same UCBias means different things on different data: where ranking by popularity alone has
as much of it, it says nothing of content. So each system stands beside popularity alone and s_ui
alone, and its UCBias is taken again among users of like activity and among items of like
popularity.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from isolator_jax.evaluation import Evaluation, Groups, ucbias
from isolator_jax.evaluation.significance import holm, paired_test
from isolator_jax.reporting.model import RECALL, SIGNIFICANT, UCBIAS
from isolator_jax.reporting.resampling import DRAWS, resampled_ucbias, two_sided_p
from isolator_jax.reporting.tables import format_value
from isolator_jax.reporting.text import markdown

ACTIVITY, POPULARITY = f"{UCBIAS}/equal_activity", f"{UCBIAS}/equal_popularity"
REFERENCES = {"popularity": "popularity alone", "content": "s_ui alone"}

# The share of a system's UCBias from which on a reference ranker's is called as large.
_LARGE = 0.5


class Bias(NamedTuple):
    """UCBias@20 of one system, and what is left of it.

    Attributes:
      value: UCBias (Eq. 4).
      interval: 95 % by resamples of the users.
      activity, activity_interval: among users of like activity (`evaluation.equal_activity`).
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
        """95 % intervals by metric."""
        return {UCBIAS: self.interval, ACTIVITY: self.activity_interval}


class Comparison(NamedTuple):
    """Two systems on the same users.

    Attributes:
      first, second: their names.
      metric: what is compared: a mean over users, or UCBias.
      difference: the first's value less the second's.
      p: two-sided: of a paired t-test over users, of UCBias by resamples of the users.
      adjusted: p by Holm over all comparisons of the audit.
    """

    first: str
    second: str
    metric: str
    difference: float
    p: float
    adjusted: float


def measured_biases(
    evaluations: Mapping[str, Evaluation],
    groups: Groups,
    alike: Groups,
    equal_popularity: Mapping[str, float],
    *,
    seed: int = 0,
) -> dict[str, Bias]:
    """UCBias of each system with its intervals; all systems on the same resamples.

    Args:
      evaluations: by system, of the same users.
      groups: of UCBias.
      alike: their users of like activity.
      equal_popularity: UCBias among items of like popularity, by system.
      seed: of the resamples.
    """
    resamples, resamples_alike = (_resamples(evaluations, of, seed) for of in (groups, alike))
    return {
        name: Bias(
            value=evaluation.metrics[UCBIAS],
            interval=_interval(resamples[:, place]),
            activity=ucbias(evaluation.per_user[RECALL], evaluation.users, alike),
            activity_interval=_interval(resamples_alike[:, place]),
            popularity=equal_popularity[name],
        )
        for place, (name, evaluation) in enumerate(evaluations.items())
    }


def compared(
    evaluations: Mapping[str, Evaluation], metrics: Sequence[str], groups: Groups | None, *, seed: int = 0
) -> list[Comparison]:
    """Each pair of systems by each metric, and by UCBias where there are groups."""
    names = list(evaluations)
    rows: list[tuple[str, str, str, float, float]] = []
    for first, second in itertools.combinations(names, 2):
        for metric in metrics:
            values = [evaluations[name].per_user[metric] for name in (first, second)]
            means = [evaluations[name].metrics[metric] for name in (first, second)]
            rows.append((first, second, metric, means[0] - means[1], paired_test(*values)))
    if groups is not None and len(names) > 1:
        resamples = _resamples(evaluations, groups, seed)
        for (one, first), (other, second) in itertools.combinations(enumerate(names), 2):
            difference = evaluations[first].metrics[UCBIAS] - evaluations[second].metrics[UCBIAS]
            p = two_sided_p(resamples[:, one] - resamples[:, other])
            rows.append((first, second, UCBIAS, difference, p))
    adjusted = holm([row[-1] for row in rows])
    return [Comparison(*row, float(p)) for row, p in zip(rows, adjusted, strict=True)]


def reading(systems: Mapping[str, Bias], references: Mapping[str, Bias]) -> list[str]:
    """What the biases mean, in words: first the dataset's, then each system's."""
    by_name = {label: _signed(references[name].value) for name, label in REFERENCES.items()}
    numbers = ", ranking by ".join(f"{label} has {value}" for label, value in by_name.items())
    sentences = [
        f"UCBias@20 that needs no model, on this dataset: ranking by {numbers}. A system's own means nothing "
        "until it is held beside them."
    ]
    for name, bias in systems.items():
        sentences.append(" ".join(filter(None, _sentences(name, bias, references))))
    return sentences


def _sentences(name: str, bias: Bias, references: Mapping[str, Bias]) -> list[str]:
    """Of one system: how large, what popularity alone has of it, and what is left at equal activity and popularity."""
    shown = f"{name}: UCBias@20 is {_signed(bias.value)}, 95 % interval {_range(bias.interval)}"
    if np.isnan(bias.value):
        return [f"{name}: UCBias@20 is not defined; a group has no user with held-out items."]
    if not _apart_from_zero(bias.interval):
        return [f"{shown}: within noise of no bias."]
    favoured = "consistent" if bias.value > 0 else "diverse"
    return [
        f"{shown}: content-{favoured} users get the better lists.",
        _against_references(bias, references),
        _at_equal_activity(bias),
        _at_equal_popularity(bias),
    ]


def _against_references(bias: Bias, references: Mapping[str, Bias]) -> str:
    shares = {name: references[name].value / bias.value for name in REFERENCES}
    large = [REFERENCES[name] for name, share in shares.items() if share >= _LARGE]
    percent = {name: f"{100 * share:.0f} %" for name, share in shares.items()}
    beside = f"Popularity alone has {percent['popularity']} of it, s_ui alone {percent['content']}:"
    if large == [REFERENCES["popularity"]]:
        return f"{beside} popularity, not content, is the likely source, and nothing about content follows from it."
    if large == [REFERENCES["content"]]:
        return f"{beside} content is the likely source, popularity is not."
    if large:
        return f"{beside} either could be its source, and the number alone cannot tell which."
    return f"{beside} neither ranking is biased enough to be its source alone."


def _at_equal_activity(bias: Bias) -> str:
    if np.isnan(bias.activity):
        return "Too few users of like activity are in both groups to say what is left among them."
    left = f"Among users of like activity it is {_signed(bias.activity)} {_range(bias.activity_interval)}"
    if _apart_from_zero(bias.activity_interval) and bias.activity * bias.value > 0:
        return f"{left}: activity does not explain it."
    return f"{left}: not clear of zero, so activity may explain it."


def _at_equal_popularity(bias: Bias) -> str:
    if np.isnan(bias.popularity):
        return "Too few test items of like popularity are in both groups to say what is left among them."
    left = f"Among items of like popularity it is {_signed(bias.popularity)}"
    if bias.popularity / bias.value >= _LARGE:
        return f"{left}: the popularity of the test items does not explain it."
    return f"{left}, less than half: the popularity of the test items explains most of it."


def comparisons_table(comparisons: Sequence[Comparison]) -> str:
    """As a Markdown table; a star where the adjusted p is below 0.05."""
    rows = [
        [
            markdown(f"{row.first} - {row.second}"),
            row.metric,
            f"{row.difference:+.4f}{'*' if row.adjusted < SIGNIFICANT else ''}",
            f"{row.p:.2g}",
            f"{row.adjusted:.2g}",
        ]
        for row in comparisons
    ]
    return tabulate(rows, ["systems", "metric", "difference", "p", "Holm"], tablefmt="github", disable_numparse=True)


def audit_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a metric, one column a system, intervals below their values; a dash where undefined."""
    names = list(dict.fromkeys(key for values in metrics.values() for key in values if key != "intervals"))
    rows = []
    for name in names:
        rows.append([name, *(format_value(values.get(name)) for values in metrics.values())])
        intervals = [values.get("intervals", {}).get(name) for values in metrics.values()]
        if any(intervals):
            rows.append(["  95 %", *("-" if ends is None else _range(ends) for ends in intervals)])
    return tabulate(rows, ["", *map(markdown, metrics)], tablefmt="github", disable_numparse=True)


def _resamples(evaluations: Mapping[str, Evaluation], groups: Groups, seed: int) -> np.ndarray:
    """UCBias of each system on the same resamples of the users, `[draws, systems]`."""
    recalls = np.stack([evaluation.per_user[RECALL] for evaluation in evaluations.values()], axis=1)
    users = next(iter(evaluations.values())).users
    return resampled_ucbias(recalls, users, groups, draws=DRAWS, seed=seed)


def _interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _apart_from_zero(interval: tuple[float, float]) -> bool:
    return interval[0] > 0 or interval[1] < 0


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _range(ends: Sequence[float]) -> str:
    return f"[{ends[0]:+.3f}, {ends[1]:+.3f}]"
