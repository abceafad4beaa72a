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

from isolator_jax.content import Content
from isolator_jax.evaluation import (
    EqualActivity,
    Evaluation,
    Groups,
    activity_groups,
    equal_activity,
    evaluate_lists,
    held_out_hits,
    reference_lists,
    ucbias,
    ucbias_at_equal_popularity,
)
from isolator_jax.evaluation.bias import measured_summary, weighted_mean
from isolator_jax.evaluation.evaluate import METRICS
from isolator_jax.evaluation.metrics import RECALL, UCBIAS, UCBIAS_K
from isolator_jax.evaluation.resampling import resampled_ucbias, two_sided_p
from isolator_jax.evaluation.significance import bootstrap_ucbias, holm, paired_test
from isolator_jax.histories import Histories

# The rankers that `reference_lists` has, and how they are called beside systems of any name.
REFERENCES = {"popularity": "popularity alone", "content": "s_ui alone"}
ACTIVITY, POPULARITY = f"{UCBIAS}/equal_activity", f"{UCBIAS}/equal_popularity"


class Bias(NamedTuple):
    """UCBias@20 of one system, and what is left of it.

    Attributes:
      value: UCBias (Eq. 4).
      interval: 95 % by resamples of the users.
      activity, activity_interval: among users of like activity (`evaluation.equal_activity`).
      popularity: among items of like popularity (`evaluation.ucbias_at_equal_popularity`).
    """

    value: float
    interval: tuple[float, float]
    activity: float
    activity_interval: tuple[float, float]
    popularity: float


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


class Audit(NamedTuple):
    """What an audit found.

    Attributes:
      systems: evaluations by system.
      references: of the reference rankers, `popularity` and, with content, `content`.
      system_biases, reference_biases: their UCBias; empty without content.
      alike: the users of like activity; None without content.
      comparisons: of all pairs of systems.
    """

    systems: dict[str, Evaluation]
    references: dict[str, Evaluation]
    system_biases: dict[str, Bias]
    reference_biases: dict[str, Bias]
    alike: EqualActivity | None
    comparisons: list[Comparison]

    @property
    def groups(self) -> Groups | None:
        """Those of UCBias; None without content."""
        return next(iter(self.systems.values())).groups

    def columns(self) -> dict[str, Evaluation]:
        """Systems, then the reference rankers under their labels."""
        return self.systems | {REFERENCES[name]: evaluation for name, evaluation in self.references.items()}

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file: metrics and intervals by system, groups and comparisons."""
        result: dict[str, Any] = {
            "systems": _metrics(self.systems, self.system_biases),
            "references": _metrics(self.references, self.reference_biases),
            "comparisons": [comparison._asdict() for comparison in self.comparisons],
        }
        if self.groups is not None and self.alike is not None:
            alike = {name: getattr(self.alike, name) for name in ("median", "fewest", "most")}
            first = next(iter(self.systems.values()))
            measured = first.per_user[RECALL], first.users
            result["groups"] = measured_summary(*measured, self.groups)
            result["equal_activity"] = alike | measured_summary(*measured, self.alike.groups)
        return result


def audit_lists(
    lists: Mapping[str, np.ndarray],
    users: np.ndarray,
    histories: Histories,
    truth: Histories,
    content: Content | None = None,
    *,
    num_items: int,
    ks: Sequence[int] = (10, UCBIAS_K),
) -> Audit:
    """Measures lists of systems and of the reference rankers.

    Args:
      lists: by system, as `evaluate_lists` takes them, of at least 20 places and the largest of `ks`.
      users: `[N]`, whose lists they are, each once.
      histories: training items.
      truth: held-out items.
      content: None where there are no item features; then there are no biases.
      num_items: I.
      ks: list lengths of the metrics.

    Raises:
      TypeError, ValueError: arguments that do not fit each other.
    """
    ks = [*ks, *({UCBIAS_K} - set(ks))]
    references = reference_lists(users, histories, content, num_items=num_items, k=max(ks))
    metrics = [metric for metric in METRICS if metric != "ils" or content is not None]
    systems, others = (
        evaluate_lists(part, users, histories, truth, content, ks=ks, metrics=metrics, num_items=num_items)
        for part in (lists, references)
    )
    per_user = {metric: None for evaluation in systems.values() for metric in evaluation.per_user}
    compared_metrics = [metric for metric in per_user if metric.startswith(("recall@", "ndcg@"))]
    groups = next(iter(systems.values())).groups
    comparisons = compared(systems, compared_metrics, groups)
    parts = _parts_of_users(np.asarray(histories.lengths), groups)
    for evaluation in (*systems.values(), *others.values()):
        own = evaluation.per_user[RECALL]
        measured = ~np.isnan(own)
        of_parts = {
            name: weighted_mean(own[measured], weights[evaluation.users[measured]]) for name, weights in parts.items()
        }
        evaluation.metrics.update(of_parts)
    if groups is None:
        return Audit(systems, others, {}, {}, None, comparisons)
    first = next(iter(systems.values()))
    alike = equal_activity(groups, np.asarray(histories.lengths), first.users, first.per_user[RECALL])
    biases, of_references = (_biases(part, groups, alike.groups, histories, truth) for part in (systems, others))
    return Audit(systems, others, biases, of_references, alike, comparisons)


def compared(evaluations: Mapping[str, Evaluation], metrics: Sequence[str], groups: Groups | None) -> list[Comparison]:
    """Each pair of systems by each metric, and by UCBias where there are groups."""
    rows: list[tuple[str, str, str, float, float]] = []
    for first, second in itertools.combinations(evaluations, 2):
        for metric in metrics:
            values = [evaluations[name].per_user[metric] for name in (first, second)]
            means = [evaluations[name].metrics[metric] for name in (first, second)]
            rows.append((first, second, metric, means[0] - means[1], paired_test(*values)))
    if groups is not None and len(evaluations) > 1:
        recalls = np.stack([evaluation.per_user[RECALL] for evaluation in evaluations.values()], axis=1)
        users = next(iter(evaluations.values())).users
        resamples = dict(zip(evaluations, resampled_ucbias(recalls, users, groups).T, strict=True))
        for first, second in itertools.combinations(evaluations, 2):
            difference = evaluations[first].metrics[UCBIAS] - evaluations[second].metrics[UCBIAS]
            rows.append((first, second, UCBIAS, difference, two_sided_p(resamples[first] - resamples[second])))
    adjusted = holm([row[-1] for row in rows])
    return [Comparison(*row, float(p)) for row, p in zip(rows, adjusted, strict=True)]


def _parts_of_users(lengths: np.ndarray, groups: Groups | None) -> dict[str, np.ndarray]:
    """Weights `[U]` of the parts of the users that Recall@20 is told of as well."""
    active = enumerate(activity_groups(lengths), 1)
    parts = {f"{RECALL}/activity_{place}": weights for place, weights in active}
    if groups is not None:
        parts |= {f"{RECALL}/consistent": groups.consistent, f"{RECALL}/diverse": groups.diverse}
    return parts


def _biases(
    evaluations: Mapping[str, Evaluation],
    groups: Groups,
    alike: Groups,
    histories: Histories,
    truth: Histories,
) -> dict[str, Bias]:
    """UCBias of each system with its intervals."""
    return {
        name: Bias(
            value=evaluation.metrics[UCBIAS],
            interval=bootstrap_ucbias(evaluation.per_user[RECALL], evaluation.users, groups),
            activity=ucbias(evaluation.per_user[RECALL], evaluation.users, alike),
            activity_interval=bootstrap_ucbias(evaluation.per_user[RECALL], evaluation.users, alike),
            popularity=ucbias_at_equal_popularity(*held_out_hits(evaluation, histories, truth), groups).ucbias,
        )
        for name, evaluation in evaluations.items()
    }


def _metrics(evaluations: Mapping[str, Evaluation], biases: Mapping[str, Bias]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for name, evaluation in evaluations.items():
        metrics[name] = dict(evaluation.metrics)
        if name in biases:
            bias = biases[name]
            metrics[name] |= {ACTIVITY: bias.activity, POPULARITY: bias.popularity}
            metrics[name]["intervals"] = {UCBIAS: list(bias.interval), ACTIVITY: list(bias.activity_interval)}
    return metrics
