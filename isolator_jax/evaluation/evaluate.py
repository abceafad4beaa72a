"""Evaluation of a trained model under several strategies: lists, accuracy and bias."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isolator_jax.backbones import Encoded
from isolator_jax.content import Content
from isolator_jax.evaluation.bias import consistency_groups, nan_mean, rho, ucbias
from isolator_jax.evaluation.ranking import METRICS, list_hits, recall, top_k_lists
from isolator_jax.histories import Histories
from isolator_jax.scoring import Strategy, vanilla
from isolator_jax.similarity import Similarity, similarity_on_the_fly

UCBIAS_K = 20

# Users whose mean history features are held at once.
_RHO_CHUNK = 16384

# What `top_k_lists` returns.
Lists = dict[str, tuple[Array, Array]]


class Evaluation(NamedTuple):
    """One strategy's result.

    Attributes:
      users: `[N] int32`, all users with training items.
      lists: `[N, K] int32`.
      per_user: metric name (`recall@20`, ...) to `[N]`, NaN for users without held-out items.
      metrics: means over users, and `ucbias@20`, `rho`, `rho/MODALITY` where there is content.
    """

    users: np.ndarray
    lists: np.ndarray
    per_user: dict[str, np.ndarray]
    metrics: dict[str, float]


def mean_recall(
    encoded: Encoded,
    users: Array,
    histories: Histories,
    truth: Histories,
    k: int = 20,
    rank: Callable[..., Lists] = top_k_lists,
) -> Array:
    """Mean Recall@k of plain f over users who have both histories and truth: the validation metric.

    Jittable; `users` is `[N] int32`, from `users_to_validate`; `rank` as in `evaluate`.
    """
    lists, _ = rank(encoded.users, encoded.items, users, histories, {"f": vanilla().key}, k=k)["f"]
    return jnp.mean(recall(list_hits(lists, truth, users), truth.lengths[users], k))


def users_to_validate(histories: Histories, truth: Histories) -> Array:
    """Ids of the users with at least one training and one held-out item, `[N] int32`."""
    both = (np.asarray(histories.lengths) > 0) & (np.asarray(truth.lengths) > 0)
    return jnp.asarray(np.flatnonzero(both), jnp.int32)


def evaluate(
    encoded: Encoded,
    histories: Histories,
    truth: Histories,
    strategies: Mapping[str, Strategy],
    content: Content | None,
    *,
    ks: Sequence[int] = (10, 20),
    user_chunk: int = 512,
    item_chunk: int = 16384,
    rank: Callable[..., Lists] = top_k_lists,
) -> dict[str, Evaluation]:
    """Ranks for every user with training items, under all strategies in one pass.

    Args:
      encoded: embeddings of all users and items.
      histories: training items, left out of the lists.
      truth: the held-out items of the split evaluated.
      strategies: by name.
      content: None where the dataset has no features; then no strategy may read s or c
        and there are no bias metrics.
      ks: list lengths of the accuracy metrics. UCBias and rho use 20.
      user_chunk, item_chunk: see `top_k_lists`.
      rank: `top_k_lists`, or the same on several devices.

    Examples:
      >>> from isolator_jax import d_isolator, make_content, u_isolator
      >>> users, items = np.repeat(np.arange(4), 2), np.array([0, 1, 2, 3, 0, 2, 1, 3])
      >>> histories = Histories.from_pairs(users, items, num_users=4)
      >>> content = make_content({"image": np.eye(6)[[0, 0, 1, 1, 0, 1]]}, histories)
      >>> truth = Histories.from_pairs(np.arange(4), np.array([4, 5, 4, 5]), num_users=4)
      >>> encoded = Encoded(jnp.ones((4, 1)), jnp.arange(6.0)[:, None])  # likes the high ids
      >>> strategies = {"d": d_isolator(), "u": u_isolator(alpha=2.0, beta=5.0, iota=1.0)}
      >>> results = evaluate(encoded, histories, truth, strategies, content, ks=(1, 2))
      >>> {name: (result.metrics["recall@1"], result.metrics["recall@2"]) for name, result in results.items()}
      {'d': (0.5, 1.0), 'u': (0.75, 1.0)}
    """
    users = np.flatnonzero(np.asarray(histories.lengths) > 0).astype(np.int32)
    longest = max(*ks, UCBIAS_K)
    lists = rank(
        encoded.users,
        encoded.items,
        jnp.asarray(users),
        histories,
        {name: strategy.key for name, strategy in strategies.items()},
        None if content is None else content.similarity,
        None if content is None else content.channel_consistency,
        k=longest,
        user_chunk=user_chunk,
        item_chunk=item_chunk,
    )
    # A jitted function returns a dict in the order of its keys.
    items_only = {name: lists[name][0] for name in strategies}
    return evaluate_lists(items_only, users, histories, truth, content, ks=ks)


def evaluate_lists(
    lists: Mapping[str, Array | np.ndarray],
    users: np.ndarray,
    histories: Histories,
    truth: Histories,
    content: Content | None,
    *,
    ks: Sequence[int] = (10, 20),
) -> dict[str, Evaluation]:
    """Accuracy and bias of lists that are already there.

    Args:
      lists: for each strategy, items `[N, K] int32`, best first, `NO_ITEM` where there are
        fewer; K is at least 20 and the largest of `ks`.
      users: `[N] int32`, whose lists they are.
      histories, truth, content, ks: as in `evaluate`.

    Examples:
      >>> lists = np.full((2, 20), -1)
      >>> lists[:, :2] = [[3, 1], [0, 1]]
      >>> histories = Histories.from_pairs(np.array([0, 1]), np.array([0, 2]), num_users=2)
      >>> truth = Histories.from_pairs(np.array([0, 1]), np.array([1, 3]), num_users=2)
      >>> result = evaluate_lists({"mine": lists}, np.arange(2), histories, truth, content=None)["mine"]
      >>> result.metrics["recall@20"], result.per_user["recall@20"].tolist()
      (0.5, [1.0, 0.0])
    """
    relevant = truth.lengths[users]
    results = {}
    for name, items in lists.items():
        hits = list_hits(items, truth, jnp.asarray(users))
        per_user = {
            f"{metric}@{k}": np.asarray(function(hits, relevant, k)) for metric, function in METRICS.items() for k in ks
        }
        metrics = {metric: nan_mean(values) for metric, values in per_user.items()}
        if content is not None:
            groups = consistency_groups(content.consistency)
            of_groups = np.asarray(recall(hits, relevant, UCBIAS_K))
            metrics[f"ucbias@{UCBIAS_K}"] = ucbias(of_groups, users, groups)
        results[name] = Evaluation(users, np.asarray(items), per_user, metrics)
    if content is not None:
        _add_rho(results, histories, content)
    return results


def _add_rho(results: dict[str, Evaluation], histories: Histories, content: Content) -> None:
    """Adds rho of each modality, and their mean (S is the mean of the S^m), to the metrics."""
    for modality, features in content.modalities.items():
        similarity = similarity_on_the_fly([features], histories)
        for result in results.values():
            lists = result.lists[:, :UCBIAS_K]
            s = [
                _list_similarity(similarity, result.users[chunk], lists[chunk])
                for chunk in (slice(start, start + _RHO_CHUNK) for start in range(0, max(len(lists), 1), _RHO_CHUNK))
            ]
            result.metrics[f"rho/{modality}"] = rho(np.concatenate(s), lists)
    for result in results.values():
        of_modalities = [result.metrics[f"rho/{modality}"] for modality in content.modalities]
        result.metrics["rho"] = float(np.mean(of_modalities))


@jax.jit
def _list_similarity(similarity: Similarity, users: Array, lists: Array) -> Array:
    return similarity.lists(users, jnp.maximum(lists, 0))[0]
