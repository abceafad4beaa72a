"""What the public functions of evaluation check and convert before they begin.

Each function returns its argument in the form that is computed with, or raises a ValueError or
TypeError of one line that names the argument. Values are looked at on the host alone: under
`jit`, where there are none yet, shapes and types are checked and the rest is not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isolator_jax import checks
from isolator_jax.backbones import Encoded
from isolator_jax.content import Content
from isolator_jax.evaluation.metrics import NO_ITEM
from isolator_jax.evaluation.scores import Model
from isolator_jax.histories import Histories, check_histories
from isolator_jax.strategies import Strategy


def model_of(model: Any) -> Model:
    """A model to rank with: embeddings `[U, D]` and `[I, D]` in float32, or scores `[U, I]` as they are stored.

    Embeddings are refused where one is not finite, or where inner products could pass float32's
    range. Scores on the host are checked where they are read (`scores.scores_of`).
    """
    converted = _embeddings_of(model) if isinstance(model, Encoded) else _scores_of(model)
    if not size_of(converted)[1]:
        raise ValueError("model must have at least one item, got none")
    return converted


def _scores_of(model: Any) -> np.ndarray | Array:
    if isinstance(model, tuple):
        raise TypeError("model must be Encoded(users, items), or scores [U, I], got a tuple")
    scores = model if isinstance(model, Array | np.ndarray) else np.asarray(model)
    if scores.ndim != 2:
        raise ValueError(f"model must be Encoded(users, items), or scores [U, I], got shape {list(scores.shape)}")
    if isinstance(scores, Array):
        scores = checks.array("model", scores, shape=("U", "I"))
        if checks.known(scores) and bool((jnp.isnan(scores) | jnp.isposinf(scores)).any()):
            raise ValueError("model must be finite, or -inf for items that are no candidates, got NaN or infinity")
        return scores
    if scores.dtype == object:  # a table's columns of different types
        return checks.host_array("model", scores, shape=("U", "I"))
    checks.unmasked("model", model)
    checks.host_array("model", scores[:0], shape=("U", "I"))  # of which no row is read
    return scores


def _embeddings_of(model: Encoded) -> Encoded:
    users = checks.array("model.users", model.users, shape=("U", "D"), finite=True)
    items = checks.array("model.items", model.items, shape=("I", "D"), sizes={"D": users.shape[1]}, finite=True)
    if checks.known(users) and checks.known(items):
        largest = [_largest(x) for x in (users, items)]
        if largest[0] * largest[1] * users.shape[1] > float(np.finfo(np.float32).max):
            raise ValueError(
                f"model.users and model.items reach {largest[0]:g} and {largest[1]:g}, so that their inner products "
                "can pass float32's range; scale them down"
            )
    return Encoded(users, items)


def size_of(model: Model) -> tuple[int, int]:
    """U and I."""
    if isinstance(model, Encoded):
        return model.users.shape[0], model.items.shape[0]
    return model.shape[0], model.shape[1]


def users_of(users: Any, num_users: int) -> Any:
    """Ids of users `[N] int32`, each of 0 to U - 1."""
    return checks.array("users", users, shape=("N",), dtype="int", below=num_users)


def chosen_users(users: Any, histories: Histories) -> np.ndarray:
    """Ids `[N] int32` of those that metrics are over; None for all with training items.

    Refused where one is there twice, which would count twice in every mean, or has no training items: no c_u, and
    a similarity of zero to every item.
    """
    if users is None:
        return histories.users_with_items()
    users = np.asarray(users_of(users, histories.num_users))
    values, counts = np.unique(users, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"users has {values[counts > 1][0]} more than once; give each user once")
    cold = users[np.asarray(histories.lengths)[users] == 0]
    if cold.size:
        raise ValueError(
            f"users has {cold.size} without training items in histories, {cold[0]} the first; leave them out (None "
            "means all users with training items)"
        )
    return users


def check_content(content: Any, num_users: int, num_items: int | None) -> None:
    """Content of these users and items, or none."""
    if content is None:
        return
    checks.instance("content", content, Content)
    for what in (content.channel_consistency, content.consistency):
        if what.shape[-1] != num_users:
            raise ValueError(f"content has c_u of {what.shape[-1]} users, and there must be {num_users}")
    for name, features in content.modalities.items():
        if num_items not in (None, features.shape[0]):
            raise ValueError(f"content has {name} features of {features.shape[0]} items, and there must be {num_items}")


def check_strategies(strategies: Any, content: Content | None) -> None:
    """Strategies by name, with content where one reads it."""
    checks.instance("strategies", strategies, Mapping)
    for name, strategy in strategies.items():
        checks.instance("each name of strategies", name, str)
        checks.instance(f"strategies[{name!r}]", strategy, Strategy)
        if strategy.needs_content and content is None:
            raise ValueError(f"strategy {name!r} reads content similarity; give content, from make_content")


def check_sizes(**sizes: Any) -> None:
    """Whole numbers of at least 1."""
    for name, size in sizes.items():
        checks.count(name, size, least=1)


def lengths_of(ks: Any) -> tuple[int, ...]:
    """List lengths, at least one, each once."""
    if isinstance(ks, str) or not isinstance(ks, Sequence | np.ndarray) or not len(ks):
        raise ValueError(f"ks must be a sequence of list lengths, such as (10, 20), got {ks!r}")
    return tuple(dict.fromkeys(checks.count("each of ks", k, least=1) for k in ks))


def lists_of(name: str, lists: Any, num_lists: int, shortest: int, num_items: int | None) -> np.ndarray:
    """Lists `[N, K] int32` of item ids, no item twice in one, `NO_ITEM` only at their ends."""
    below = checks.MOST if num_items is None else num_items
    sizes = {"N": num_lists}
    lists = checks.host_array(name, lists, shape=("N", "K"), sizes=sizes, dtype="int", least=NO_ITEM, below=below)
    if lists.shape[1] < shortest:
        raise ValueError(
            f"{name} has lists of {lists.shape[1]} items, and the metrics need {shortest}; fill them up with {NO_ITEM}"
        )
    filled = lists != NO_ITEM
    gap = (filled[:, 1:] & ~filled[:, :-1]).any(axis=1)
    if gap.any():
        raise ValueError(f"{name}[{gap.argmax()}] has an item after {NO_ITEM}, which means no item; move it forward")
    ordered = np.sort(lists, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)
    if twice.any():
        row, place = np.argwhere(twice)[0]
        raise ValueError(f"{name}[{row}] has item {ordered[row, place]} more than once; a list has each item once")
    return lists


def check_truth(truth: Any, histories: Histories, num_items: int | None) -> None:
    """Held-out items of the same users, none of which its user trained on."""
    check_histories(truth, num_items, num_users=histories.num_users, name="truth")
    base = 1 + max(int(_largest(x.items)) for x in (truth, histories))
    seen, held_out = (_pair_ids(x, base) for x in (histories, truth))
    both = np.intersect1d(seen, held_out, assume_unique=True)
    if both.size:
        user, item = divmod(int(both[0]), base)
        raise ValueError(f"truth has item {item} of user {user}, and histories has it too; hold it out of training")


def per_user_of(per_user: Any, users: Any, num_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Values `[N] float64`, and the ids `[N]` of the users they belong to."""
    users = np.asarray(users_of(users, num_users))
    checks.host_array("per_user", per_user, shape=("N",), sizes={"N": users.size})
    return np.asarray(per_user, np.float64), users


def _largest(x: Array) -> float:
    """The largest magnitude, of an array that is known, where `jit` traces other things as well."""
    with jax.ensure_compile_time_eval():
        return float(jnp.max(jnp.abs(x), initial=0))


def _pair_ids(histories: Histories, base: int) -> np.ndarray:
    users, items = histories.pairs()
    return users.astype(np.int64) * base + items
