"""Values of single users: a table for files, and the hits of single held-out interactions."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from isolator_jax import checks
from isolator_jax.content import Content
from isolator_jax.evaluation import entry
from isolator_jax.evaluation.evaluate import Evaluation
from isolator_jax.evaluation.metrics import item_counts
from isolator_jax.histories import Histories


def per_user_table(
    evaluations: Mapping[str, Evaluation], content: Content | None = None, user_ids: np.ndarray | None = None
) -> pd.DataFrame:
    """Every measured value of every user.

    Args:
      evaluations: by strategy or system, all of the same users.
      content: that they were measured with; None leaves out c_u and the groups.
      user_ids: original ids, `[U]`; None for the row numbers.

    Returns:
      A row for each user: `user`; with content `c_u` (NaN where undefined), `group` (`consistent`,
      `diverse`, `both` where ties reach over both cuts, or empty), `weight_consistent` and
      `weight_diverse`; then `METRIC/STRATEGY` for each metric and strategy, NaN where undefined.

    Raises:
      ValueError: evaluations of different users, or of users without an original id.

    Examples:
      >>> from isolator_jax import evaluate, vanilla
      >>> histories, truth = Histories.from_pairs([0, 1], [0, 1], 2), Histories.from_pairs([0, 1], [2, 0], 2)
      >>> results = evaluate(np.eye(2, 3), None, histories, {"f": vanilla()}, truth=truth, ks=(1,), metrics=["recall"])
      >>> print(per_user_table(results, user_ids=np.array(["ann", "bob"])).to_string(index=False))
      user  recall@1/f
       ann         0.0
       bob         1.0
    """
    checks.instance("evaluations", evaluations, Mapping)
    if not evaluations:
        raise ValueError("evaluations must hold at least one evaluation, got none")
    first = next(iter(evaluations.values()))
    for name, evaluation in evaluations.items():
        checks.instance(f"evaluations[{name!r}]", evaluation, Evaluation)
        if not np.array_equal(evaluation.users, first.users):
            raise ValueError(f"evaluations[{name!r}] is of other users than {next(iter(evaluations))!r}")
    users = first.users
    if content is not None:
        checks.instance("content", content, Content)
        _refuse_unknown_users("content", content.consistency.size, users)
    ids = np.arange(1 + users.max(initial=-1)) if user_ids is None else np.asarray(user_ids)
    if ids.ndim != 1 or users.max(initial=-1) >= ids.size:
        raise ValueError(f"user_ids must have an id for each user up to {users.max()}, got shape {list(ids.shape)}")
    columns: dict[str, np.ndarray] = {"user": ids[users]}
    if content is not None and first.groups is not None:
        consistent, diverse = (weights[users] for weights in first.groups[:2])
        names = np.array(["", "consistent", "diverse", "both"])
        columns |= {
            "c_u": np.asarray(content.consistency)[users],
            "group": names[(consistent > 0) + 2 * (diverse > 0)],
            "weight_consistent": consistent,
            "weight_diverse": diverse,
        }
    for name, evaluation in evaluations.items():
        columns |= {f"{metric}/{name}": values for metric, values in evaluation.per_user.items()}
    return pd.DataFrame(columns)


def held_out_hits(
    evaluation: Evaluation, histories: Histories, truth: Histories, *, k: int = 20
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The held-out interactions of the evaluated users: what `ucbias_at_equal_popularity` takes.

    Args:
      evaluation: its lists are looked at.
      histories, truth: as it was measured with.
      k: list length.

    Returns:
      Users `[P] int32`, training interactions of the items `[P] int64`, and whether the user's list
      has the item among its first k, `[P] bool`.

    Raises:
      ValueError: lists shorter than k.

    Examples:
      >>> from isolator_jax import evaluate, vanilla
      >>> histories, truth = Histories.from_pairs([0, 1], [0, 1], 2), Histories.from_pairs([0, 1], [2, 0], 2)
      >>> result = evaluate(np.eye(2, 3), None, histories, {"f": vanilla()}, truth=truth, ks=(1,))["f"]
      >>> users, popularity, hits = held_out_hits(result, histories, truth, k=1)
      >>> users.tolist(), popularity.tolist(), hits.tolist()
      ([0, 1], [0, 1], [False, True])
    """
    checks.instance("evaluation", evaluation, Evaluation)
    checks.count("k", k, least=1)
    checks.instance("histories", histories, Histories)
    entry.check_truth(truth, histories, None)
    _refuse_unknown_users("histories", histories.num_users, evaluation.users)
    lists = entry.lists_of("evaluation.lists", evaluation.lists, evaluation.users.size, k, None)[:, :k]
    row_of = np.full(histories.num_users, -1)
    row_of[evaluation.users] = np.arange(evaluation.users.size)
    users, items = truth.pairs()
    measured = row_of[users] >= 0
    users, items = users[measured], items[measured]
    hits = (lists[row_of[users]] == items[:, None]).any(axis=1)
    return users, item_counts(histories, 1 + int(items.max(initial=0)))[items], hits


def _refuse_unknown_users(name: str, num_users: int, users: np.ndarray) -> None:
    if users.max(initial=-1) >= num_users:
        raise ValueError(f"{name} has {num_users} users, and the evaluation is of user {users.max()}")
