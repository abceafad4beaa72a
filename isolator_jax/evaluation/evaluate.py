"""Evaluation of a trained model under several strategies: lists, accuracy and bias."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.backbones import Encoded
from isolator_jax.content import Content
from isolator_jax.evaluation import entry
from isolator_jax.evaluation import metrics as definitions
from isolator_jax.evaluation.bias import Groups, consistency_groups, rho, ucbias
from isolator_jax.evaluation.hits import count_hits
from isolator_jax.evaluation.metrics import HIT_METRICS, UCBIAS, UCBIAS_K, item_counts, nan_mean, recall
from isolator_jax.evaluation.ranking import Lists, list_hits, top_k_lists
from isolator_jax.evaluation.scores import Model
from isolator_jax.histories import Histories, check_histories
from isolator_jax.similarity import Similarity, SimilarityFromFeatures
from isolator_jax.strategies import Strategy

# What `evaluate` measures unless told otherwise, and all that it can.
DEFAULT_METRICS = ("recall", "ndcg", "precision", "map")
LIST_METRICS = ("coverage", "gini", "popularity", "aplt", "ils")
METRICS = (*HIT_METRICS, *LIST_METRICS)

# Users whose mean history features are held at once.
_RHO_CHUNK = 16384


class Evaluation(NamedTuple):
    """One strategy's result.

    Attributes:
      users: `[N] int32`.
      lists: `[N, K] int32`.
      per_user: metric name (`recall@20`, ...) to `[N] float64`, NaN for users without held-out items.
      metrics: means over users, and `ucbias@20`, `rho`, `rho/MODALITY` where there is content.
      groups: those of UCBias, with how many users are tied at each cut; None without content.
    """

    users: np.ndarray
    lists: np.ndarray
    per_user: dict[str, np.ndarray]
    metrics: dict[str, float]
    groups: Groups | None = None


def mean_recall(
    model: Encoded,
    users: Array,
    histories: Histories,
    truth: Histories,
    *,
    k: int = 20,
    count: Callable[..., Array] = count_hits,
) -> Array:
    """Mean Recall@k of plain f over users who have both histories and truth: the validation metric.

    Jittable; `users` is `[N] int32`, from `users_to_validate`; `count` is `count_hits`, or the same on several devices.
    Returns `[] float32`, a share: the mean over users of hits among the k best / held-out items.

    Raises:
      TypeError, ValueError: as `count_hits`.
    """
    hits = count(model, users, histories, truth, k=k)
    return jnp.mean(hits / truth.lengths[jnp.asarray(users)])


def users_to_validate(histories: Histories, truth: Histories) -> Array:
    """Ids of the users with at least one training and one held-out item, `[N] int32`, by how many are held out.

    So that those counted together in `count_hits` take about as many passes.
    """
    checks.instance("histories", histories, Histories)
    check_histories(truth, num_users=histories.num_users, name="truth")
    held_out = np.asarray(truth.lengths)
    both = np.flatnonzero((np.asarray(histories.lengths) > 0) & (held_out > 0))
    return jnp.asarray(both[np.argsort(held_out[both], kind="stable")], jnp.int32)


def evaluate(
    model: Model,
    users: ArrayLike | None,
    histories: Histories,
    strategies: Mapping[str, Strategy],
    content: Content | None = None,
    *,
    truth: Histories,
    ks: Sequence[int] = (10, 20),
    metrics: Sequence[str] = DEFAULT_METRICS,
    user_chunk: int = 512,
    item_chunk: int = 16384,
    rank: Callable[..., Lists] = top_k_lists,
) -> dict[str, Evaluation]:
    """Ranks under all strategies in one pass over the users, and measures the lists.

    Args:
      model: embeddings or scores, as in `top_k_lists`.
      users: `[N]` ids, whom to rank for, each once and with training items; None for all of them.
      histories: training items, left out of the lists.
      strategies: by name.
      content: None where there are no item features; then no strategy may read s or c
        and there are no bias metrics.
      truth: the held-out items of the split evaluated, none of them in `histories`.
      ks: list lengths of the metrics. UCBias and rho use 20.
      metrics: which, of `METRICS`, beside the bias metrics.
      user_chunk, item_chunk: see `top_k_lists`.
      rank: `top_k_lists`, or the same on several devices.

    Raises:
      TypeError, ValueError: arguments that do not fit each other.

    Examples:
      >>> from isolator_jax import Encoded, d_isolator, make_content, u_isolator
      >>> users, items = np.repeat(np.arange(4), 2), np.array([0, 1, 2, 3, 0, 2, 1, 3])
      >>> histories = Histories.from_pairs(users, items, num_users=4)
      >>> content = make_content({"image": np.eye(6)[[0, 0, 1, 1, 0, 1]]}, histories)
      >>> truth = Histories.from_pairs(np.arange(4), np.array([4, 5, 4, 5]), num_users=4)
      >>> model = Encoded(jnp.ones((4, 1)), jnp.arange(6.0)[:, None])  # likes the high ids
      >>> strategies = {"d": d_isolator(), "u": u_isolator(alpha=2.0, beta=5.0, iota=1.0)}
      >>> results = evaluate(model, None, histories, strategies, content, truth=truth, ks=(1, 2))
      >>> {name: (result.metrics["recall@1"], result.metrics["recall@2"]) for name, result in results.items()}
      {'d': (0.5, 1.0), 'u': (0.75, 1.0)}
    """
    ks, metrics = entry.lengths_of(ks), _known_metrics(metrics, content)
    model = entry.model_of(model)
    num_users, num_items = entry.size_of(model)
    check_histories(histories, num_items, num_users=num_users)
    entry.check_truth(truth, histories, num_items)
    ids = entry.chosen_users(users, histories)
    longest = _longest(ks, content)
    lists = rank(model, ids, histories, strategies, content, k=longest, user_chunk=user_chunk, item_chunk=item_chunk)
    items_only = {name: np.asarray(lists[name][0]) for name in strategies}
    return _measured(items_only, ids, histories, truth, content, ks, metrics, num_items)


def evaluate_lists(
    lists: Mapping[str, Array | np.ndarray],
    users: ArrayLike,
    histories: Histories,
    truth: Histories,
    content: Content | None = None,
    *,
    ks: Sequence[int] = (10, 20),
    metrics: Sequence[str] = DEFAULT_METRICS,
    num_items: int | None = None,
) -> dict[str, Evaluation]:
    """Accuracy and bias of lists that are already there.

    Args:
      lists: for each strategy, items `[N, K] int`, best first, no item twice, `NO_ITEM` where there
        are fewer; K is at least the largest of `ks`, and with content 20.
      users: `[N]`, whose lists they are, each once and with training items.
      histories, truth, content, ks, metrics: as in `evaluate`.
      num_items: I, the catalogue's size; needed by coverage and gini where there is no content.

    Raises:
      TypeError, ValueError: arguments that do not fit each other.

    Examples:
      >>> lists = np.full((2, 20), -1)
      >>> lists[:, :2] = [[3, 1], [0, 1]]
      >>> histories = Histories.from_pairs(np.array([0, 1]), np.array([0, 2]), num_users=2)
      >>> truth = Histories.from_pairs(np.array([0, 1]), np.array([1, 3]), num_users=2)
      >>> result = evaluate_lists({"mine": lists}, np.arange(2), histories, truth)["mine"]
      >>> result.metrics["recall@20"], result.per_user["recall@20"].tolist()
      (0.5, [1.0, 0.0])
    """
    ks, metrics = entry.lengths_of(ks), _known_metrics(metrics, content)
    checks.instance("lists", lists, Mapping)
    checks.instance("histories", histories, Histories)
    if num_items is not None:
        checks.count("num_items", num_items, least=1)
    entry.check_content(content, histories.num_users, num_items)
    if num_items is None and content is not None:
        num_items = next(iter(content.modalities.values())).shape[0]
    if num_items is None and {"coverage", "gini"} & set(metrics):
        raise ValueError("coverage and gini are over the catalogue; give num_items")
    check_histories(histories, num_items)
    entry.check_truth(truth, histories, num_items)
    ids = entry.chosen_users(users, histories)
    checked = {
        name: entry.lists_of(f"lists[{name!r}]", items, ids.size, _longest(ks, content), num_items)
        for name, items in lists.items()
    }
    return _measured(checked, ids, histories, truth, content, ks, metrics, num_items)


def _measured(
    lists: Mapping[str, np.ndarray],
    users: np.ndarray,
    histories: Histories,
    truth: Histories,
    content: Content | None,
    ks: Sequence[int],
    metrics: Sequence[str],
    num_items: int | None,
) -> dict[str, Evaluation]:
    """`evaluate_lists` of what is checked."""
    relevant = np.asarray(truth.lengths)[users]
    groups = None if content is None else consistency_groups(content.consistency)
    results = {}
    for name, items in lists.items():
        hits = np.asarray(list_hits(jnp.asarray(items), truth, jnp.asarray(users)))
        per_user = {f"{m}@{k}": HIT_METRICS[m](hits, relevant, k) for m in metrics if m in HIT_METRICS for k in ks}
        of_lists: dict[str, float] = {}
        for k in ks:
            own, whole = _list_metrics(items[:, :k], metrics, k, histories, content, num_items)
            per_user |= own
            of_lists |= whole
        means = {metric: nan_mean(values) for metric, values in per_user.items()} | of_lists
        if groups is not None:
            means[UCBIAS] = ucbias(recall(hits, relevant, UCBIAS_K), users, groups)
        results[name] = Evaluation(users, items, per_user, means, groups)
    if content is not None:
        _add_rho(results, histories, content)
    return results


def _known_metrics(metrics: Sequence[str], content: Content | None) -> Sequence[str]:
    is_sequence = isinstance(metrics, Sequence | np.ndarray) and not isinstance(metrics, str)
    if not is_sequence or any(name not in METRICS for name in metrics):
        raise ValueError(f"metrics must be a sequence of {', '.join(METRICS)}; got {metrics!r}")
    if "ils" in metrics and content is None:
        raise ValueError("ils is of item features; give content, from make_content")
    return metrics


def _longest(ks: Sequence[int], content: Content | None) -> int:
    return max(*ks, 1 if content is None else UCBIAS_K)


def _list_metrics(
    lists: np.ndarray,
    metrics: Sequence[str],
    k: int,
    histories: Histories,
    content: Content | None,
    num_items: int | None,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Metrics of the lists `[N, k]` that no held-out item enters: those per user, and those of all lists together."""
    per_user: dict[str, np.ndarray] = {}
    whole: dict[str, float] = {}
    if {"popularity", "aplt"} & set(metrics):
        counts = item_counts(histories, num_items or 1 + int(lists.max(initial=0)))
        of_counts = {"popularity": definitions.popularity, "aplt": definitions.long_tail_share}
        per_user |= {f"{m}@{k}": function(lists, counts) for m, function in of_counts.items() if m in metrics}
    if "ils" in metrics and content is not None:
        for modality, features in content.modalities.items():
            per_user[f"ils@{k}/{modality}"] = definitions.intra_list_similarity(lists, np.asarray(features))
    if num_items is not None:
        of_catalogue = {"coverage": definitions.coverage, "gini": definitions.gini}
        whole |= {f"{m}@{k}": function(lists, num_items) for m, function in of_catalogue.items() if m in metrics}
    return per_user, whole


def _add_rho(results: dict[str, Evaluation], histories: Histories, content: Content) -> None:
    """Adds rho of each modality, and their mean (S is the mean of the S^m), to the metrics."""
    for modality, features in content.modalities.items():
        # A few items a user: from features by far less work than from S, and no more memory than they take.
        similarity = SimilarityFromFeatures((features,), histories)
        for result in results.values():
            lists = result.lists[:, :UCBIAS_K]
            s = [np.zeros((0, UCBIAS_K), np.float32)]
            for start in range(0, len(lists), _RHO_CHUNK):
                chunk = slice(start, start + _RHO_CHUNK)
                s.append(np.asarray(_list_similarity(similarity, result.users[chunk], lists[chunk])))
            result.metrics[f"rho/{modality}"] = rho(np.concatenate(s), lists)
    for result in results.values():
        of_modalities = [result.metrics[f"rho/{modality}"] for modality in content.modalities]
        result.metrics["rho"] = float(np.mean(of_modalities))


@jax.jit
def _list_similarity(similarity: Similarity, users: Array, lists: Array) -> Array:
    return similarity.lists(users, jnp.maximum(lists, 0))[0]
