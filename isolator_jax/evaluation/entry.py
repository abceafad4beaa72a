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

from isolator_jax.backbones import Encoded
from isolator_jax.content import Content
from isolator_jax.evaluation.metrics import NO_ITEM
from isolator_jax.evaluation.scores import Model
from isolator_jax.histories import Histories
from isolator_jax.strategies import Strategy


def known(*arrays: Any) -> bool:
    """Whether the values can be looked at: not while `jit` traces."""
    return not any(isinstance(x, jax.core.Tracer) for x in arrays)


def array_of(name: str, value: Any, *, shape: str, kinds: str) -> Any:
    """An array of that many axes and kind of number, on the host or device where it was.

    Args:
      name: of the argument, for messages.
      value: anything array-like: numpy, jax, a DataFrame, a list.
      shape: for messages and the number of axes, such as `"[U, D]"`.
      kinds: numpy's letters of what is allowed: `f` floats, `i` and `u` integers.
    """
    if not isinstance(value, Array | np.ndarray):
        value = np.asarray(value)
        if not value.size:  # of a list without entries, numpy cannot tell the type
            value = value.astype({"i": np.int32}.get(kinds[0], np.float32))
    if value.ndim != shape.count(",") + 1:
        raise ValueError(f"{name} must be an array {shape}, got shape {tuple(value.shape)}")
    kind = "f" if jnp.issubdtype(value.dtype, jnp.floating) else np.dtype(value.dtype).kind
    if kind not in kinds:
        wanted = "whole numbers" if kinds[0] == "i" else "real numbers"
        raise TypeError(f"{name} must hold {wanted}, got {value.dtype}")
    return value


def model_of(model: Any) -> Model:
    """A model to rank with: embeddings `[U, D]` and `[I, D]` in float32, or scores `[U, I]` as they are stored.

    Embeddings whose inner products could pass float32's range are refused, and so are NaN and
    infinity in them. Scores on the host are checked where they are read, `finite_rows`.
    """
    if not isinstance(model, Encoded):
        if isinstance(model, tuple):
            raise TypeError("model must be Encoded(users, items) or scores [U, I], got a tuple")
        scores = array_of("model, if it is no Encoded,", model, shape="[U, I]", kinds="fiu")
        return jnp.asarray(scores, jnp.float32) if isinstance(scores, Array) else scores
    users, items = (
        jnp.asarray(array_of(f"model.{name}", value, shape="[rows, D]", kinds="fiu"), jnp.float32)
        for name, value in (("users", model.users), ("items", model.items))
    )
    if users.shape[1] != items.shape[1]:
        raise ValueError(f"model.users are {users.shape[1]} wide and model.items {items.shape[1]}; both must be [., D]")
    if known(users, items):
        largest = [float(jnp.max(jnp.abs(x), initial=0.0)) for x in (users, items)]
        for name, size in zip(("users", "items"), largest, strict=True):
            if not np.isfinite(size):
                raise ValueError(f"model.{name} has NaN or infinity; every embedding must be finite in float32")
        if not largest[0] * largest[1] * users.shape[1] < np.finfo(np.float32).max:
            raise ValueError("model.users and model.items are so large that inner products overflow float32; scale them")
    return Encoded(users, items)


def size_of(model: Model) -> tuple[int, int]:
    """U and I."""
    return (model.users.shape[0], model.items.shape[0]) if isinstance(model, Encoded) else model.shape


def finite_rows(rows: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Scores `[R, I]` of some users, refused where one is NaN or infinite in float32."""
    finite = np.isfinite(rows)
    if not finite.all():
        row, item = np.argwhere(~finite)[0]
        raise ValueError(
            f"the score of user {users[row]} and item {item} is {rows[row, item]} in float32; all scores must be "
            "finite (what a user must not be given belongs into histories)"
        )
    return rows


def users_of(users: Any, num_users: int, *, once: bool = False) -> Any:
    """Ids of users `[N] int32`, each of 0 to U - 1; `once`: none twice."""
    users = array_of("users", users, shape="[N]", kinds="iu")
    if not known(users):
        return users.astype(jnp.int32)
    ids = np.asarray(users)
    wrong = np.flatnonzero((ids < 0) | (ids >= num_users))
    if wrong.size:
        raise ValueError(f"users[{wrong[0]}] is {ids[wrong[0]]}, and there are {num_users} users, 0 to {num_users - 1}")
    if once and np.unique(ids).size < ids.size:
        values, counts = np.unique(ids, return_counts=True)
        raise ValueError(f"users has {values[counts > 1][0]} twice; give each user once")
    return ids.astype(np.int32)


def trained_users(histories: Histories) -> np.ndarray:
    """All users with training items, `[N] int32`."""
    return np.flatnonzero(np.asarray(histories.lengths) > 0).astype(np.int32)


def check_histories(name: str, histories: Any, num_users: int, num_items: int | None = None) -> None:
    """Item sets of exactly these users, and of no item beyond the catalogue."""
    if not isinstance(histories, Histories):
        raise TypeError(f"{name} must be Histories (Histories.from_pairs), got {type(histories).__name__}")
    if histories.num_users != num_users:
        raise ValueError(f"{name} is of {histories.num_users} users, and there are {num_users}")
    if num_items is None or not known(histories.items) or not histories.max_length:
        return
    largest = int(jnp.max(histories.items))
    if largest >= num_items:
        raise ValueError(f"{name} has item {largest}, and there are {num_items} items, 0 to {num_items - 1}")


def check_content(content: Content | None, num_users: int, num_items: int | None) -> None:
    """Content of these users and items."""
    if content is None:
        return
    if not isinstance(content, Content):
        raise TypeError(f"content must be made by make_content, got {type(content).__name__}")
    of_users = content.channel_consistency.shape[-1]
    if of_users != num_users:
        raise ValueError(f"content has c_u of {of_users} users, and there are {num_users}")
    for name, features in content.modalities.items():
        if num_items not in (None, features.shape[0]):
            raise ValueError(f"content has {name} features of {features.shape[0]} items, and there are {num_items}")


def check_strategies(strategies: Any, content: Content | None) -> None:
    """Strategies by name, with content where one reads it."""
    if not isinstance(strategies, Mapping):
        raise TypeError(f"strategies must be a mapping of names to Strategy, got {type(strategies).__name__}")
    for name, strategy in strategies.items():
        if not isinstance(strategy, Strategy):
            raise TypeError(f"strategies[{name!r}] must be a Strategy, got {type(strategy).__name__}")
        if strategy.needs_content and content is None:
            raise ValueError(f"strategy {name!r} reads content similarity; give content, from make_content")


def check_positive(**sizes: Any) -> None:
    """Whole numbers of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {size!r}")


def check_lengths(ks: Any) -> None:
    """List lengths: at least one, each a whole number of at least 1."""
    if isinstance(ks, str) or not isinstance(ks, Sequence | np.ndarray) or not len(ks):
        raise ValueError(f"ks must be a sequence of list lengths, such as (10, 20), got {ks!r}")
    for k in ks:
        check_positive(**{"each of ks": k})


def lists_of(name: str, lists: Any, num_lists: int, shortest: int, num_items: int | None) -> np.ndarray:
    """Lists `[N, K]` of item ids, no item twice in one, `NO_ITEM` only at their ends."""
    lists = np.asarray(array_of(name, lists, shape="[N, K]", kinds="iu"))
    if lists.shape[0] != num_lists:
        raise ValueError(f"{name} has {lists.shape[0]} lists, and users has {num_lists}")
    if lists.shape[1] < shortest:
        raise ValueError(
            f"{name} has lists of {lists.shape[1]} items, and the metrics need {shortest}; fill up with {NO_ITEM}"
        )
    out = (lists < NO_ITEM) | (False if num_items is None else lists >= num_items)
    if out.any():
        row, place = np.argwhere(out)[0]
        known_items = "" if num_items is None else f", of items 0 to {num_items - 1}"
        raise ValueError(f"{name}[{row}, {place}] is {lists[row, place]}{known_items}; {NO_ITEM} means no item")
    if ((lists[:, :-1] == NO_ITEM) & (lists[:, 1:] != NO_ITEM)).any():
        row = np.argwhere((lists[:, :-1] == NO_ITEM) & (lists[:, 1:] != NO_ITEM))[0, 0]
        raise ValueError(f"{name}[{row}] has an item after {NO_ITEM} (no item); move the items to the front")
    ordered = np.sort(lists, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)
    if twice.any():
        row, place = np.argwhere(twice)[0]
        raise ValueError(f"{name}[{row}] has item {ordered[row, place]} twice; a list has an item once")
    return lists.astype(np.int32)


def check_truth(truth: Histories, histories: Histories, num_items: int | None) -> None:
    """Held-out items of the same users, none of which the user trained on."""
    check_histories("truth", truth, histories.num_users, num_items)
    base = 1 + max(int(jnp.max(x.items)) for x in (truth, histories))
    seen, held_out = (_pair_ids(x, base) for x in (histories, truth))
    both = np.intersect1d(seen, held_out, assume_unique=True)
    if both.size:
        user, item = divmod(int(both[0]), base)
        raise ValueError(f"truth has item {item} of user {user}, which histories has too; hold out what is not trained on")


def per_user_of(per_user: Any, users: Any, num_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Values `[N]` in float64 and the ids `[N]` of the users they belong to."""
    users = users_of(users, num_users)
    values = np.asarray(array_of("per_user", per_user, shape="[N]", kinds="fiub"), np.float64)
    if values.size != users.size:
        raise ValueError(f"per_user has {values.size} values, and users {users.size}")
    return values, users


def _pair_ids(histories: Histories, base: int) -> np.ndarray:
    lengths = np.asarray(histories.lengths)
    users = np.repeat(np.arange(lengths.size, dtype=np.int64), lengths)
    return users * base + np.asarray(histories.items)[: users.size]
