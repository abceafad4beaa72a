"""Reference rankers, to be shown beside every audit: popularity alone, and content similarity alone.

Their UCBias tells how much of a model's is popularity's or content's.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.backbones import Encoded
from isolator_jax.content import Content
from isolator_jax.evaluation import entry
from isolator_jax.evaluation.metrics import item_counts
from isolator_jax.evaluation.ranking import top_k_lists
from isolator_jax.histories import Histories, check_histories
from isolator_jax.strategies import Strategy, vanilla


def _mean_similarity(f: Array, s: Array, c: Array) -> Array:
    """s_ui on S, the mean of the channels."""
    del f, c
    return jnp.mean(s, axis=0)


def reference_lists(
    users: ArrayLike | None,
    histories: Histories,
    content: Content | None = None,
    *,
    num_items: int,
    k: int,
) -> dict[str, np.ndarray]:
    """Lists of the reference rankers.

    Args:
      users: `[N]` ids, each once and with training items; None for all of them.
      histories: training items, left out of the lists.
      content: None where there are no item features; then there is no ranker by content.
      num_items: I, the catalogue's size.
      k: list length.

    Returns:
      `popularity`, by training interactions of the item, and `content`, by s_ui; ties by the lower
      id. `[N, k] int32` each, `NO_ITEM` where fewer than k are left.

    Raises:
      TypeError, ValueError: arguments that do not fit each other.

    Examples:
      >>> histories = Histories.from_pairs([0, 1, 1, 2], [1, 1, 2, 0], num_users=3)
      >>> reference_lists(None, histories, num_items=4, k=2)["popularity"].tolist()
      [[0, 2], [0, 3], [1, 2]]
    """
    checks.instance("histories", histories, Histories)
    checks.count("num_items", num_items, least=1)
    check_histories(histories, num_items)
    # Inner products with a one are the counts themselves: exact up to 2^24 interactions of an item.
    model = Encoded(jnp.ones((histories.num_users, 1)), jnp.asarray(item_counts(histories, num_items))[:, None])
    strategies = {"popularity": vanilla()}
    if content is not None:
        strategies["content"] = Strategy(Partial(_mean_similarity), vanilla().score, needs_content=True)
    lists = top_k_lists(model, entry.chosen_users(users, histories), histories, strategies, content, k=k)
    return {name: np.asarray(items) for name, (items, _) in lists.items()}
