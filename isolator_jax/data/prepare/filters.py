"""What of the interactions is kept: pure functions of arrays."""

import numpy as np

KEPT_OF_DUPLICATES = ("first", "last")


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """The k-core of the bipartite graph of unique pairs.

    Users and items of fewer than k interactions go, and their interactions with them, until
    none are left of fewer. The result is the largest set of interactions in which every user
    and item has k; it does not depend on the order of removal.

    Args:
      users, items: `[E]` integers from 0 on, each pair once.
      k: the least number of interactions.

    Returns:
      `[E] bool`: which interactions are kept.
    """
    kept = np.arange(users.size)
    while kept.size:
        enough = np.ones(kept.size, bool)
        for ids in (users[kept], items[kept]):
            enough &= np.bincount(ids)[ids] >= k
        if enough.all():
            break
        kept = kept[enough]
    mask = np.zeros(users.size, bool)
    mask[kept] = True
    return mask


def one_of_each_pair(users: np.ndarray, items: np.ndarray, times: np.ndarray | None, keep: str) -> np.ndarray:
    """Positions of the interactions kept, one of each pair, sorted by user, then item.

    Args:
      users, items: `[E]` integers from 0 on.
      times: `[E]`, or None: the order of lines stands for it.
      keep: `first` or `last` in time.
    """
    pairs = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    order = np.argsort(pairs, kind="stable") if times is None else np.lexsort((times, pairs))
    pairs = pairs[order]
    first = np.diff(pairs, prepend=-1) > 0
    last = np.append(first[1:], True)[: pairs.size]
    return order[first if keep == "first" else last]
