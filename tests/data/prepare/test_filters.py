"""k-core and duplicates against slow references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax.data.prepare.filters import k_core, one_of_each_pair

edges = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 6)), max_size=40)


def slow_k_core(pairs, k):
    """Takes away one user or item at a time."""
    pairs = set(pairs)
    while True:
        degree = {}
        for user, item in pairs:
            degree["u", user] = degree.get(("u", user), 0) + 1
            degree["i", item] = degree.get(("i", item), 0) + 1
        weak = next((node for node, count in degree.items() if count < k), None)
        if weak is None:
            return pairs
        pairs = {(u, i) for u, i in pairs if weak not in (("u", u), ("i", i))}


@given(edges, st.integers(1, 4))
def test_k_core_is_what_is_left_when_weak_nodes_go_one_by_one(pairs, k):
    pairs = sorted(set(pairs))
    users, items = np.array(pairs, np.int32).reshape(-1, 2).T
    kept = k_core(users, items, k)
    assert {pair for pair, is_kept in zip(pairs, kept, strict=True) if is_kept} == slow_k_core(pairs, k)


@pytest.mark.parametrize("keep", ["first", "last"])
@given(data=st.data(), pairs=edges, timed=st.booleans())
def test_of_each_pair_the_first_or_last_in_time_stays_sorted(keep, data, pairs, timed):
    times = data.draw(st.permutations(range(len(pairs))))
    users, items = np.array(pairs, np.int32).reshape(-1, 2).T
    chosen = {}
    for row in sorted(range(len(pairs)), key=times.__getitem__) if timed else range(len(pairs)):
        if keep == "last" or pairs[row] not in chosen:
            chosen[pairs[row]] = row
    got = one_of_each_pair(users, items, np.array(times, np.float64) if timed else None, keep)
    assert got.tolist() == [chosen[pair] for pair in sorted(chosen)]
