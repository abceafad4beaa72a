"""Users' item sets: membership, exactly uniform negatives, sums over ragged rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax.histories import Histories, contains, fold_histories, sample_unseen

NUM_ITEMS = 9
SETS = st.lists(st.sets(st.integers(0, NUM_ITEMS - 1), max_size=NUM_ITEMS - 1), min_size=1, max_size=5)


def from_sets(sets, shuffle=None):
    pairs = [(user, item) for user, items in enumerate(sets) for item in items]
    if shuffle is not None:
        np.random.default_rng(shuffle).shuffle(pairs)
    users, items = np.array(pairs, np.int64).reshape(-1, 2).T
    return Histories.from_pairs(users, items, len(sets))


@given(SETS, st.integers(0, 100))
def test_rows_are_sorted_sets_whatever_the_order_of_the_pairs(sets, shuffle):
    histories = from_sets(sets, shuffle)
    offsets = np.asarray(histories.offsets)
    for user, items in enumerate(sets):
        np.testing.assert_array_equal(histories.items[offsets[user] : offsets[user + 1]], sorted(items))
    np.testing.assert_array_equal(histories.lengths, [len(items) for items in sets])


@given(SETS)
def test_contains_is_membership(sets):
    histories = from_sets(sets)
    users, items = np.divmod(np.arange(len(sets) * NUM_ITEMS), NUM_ITEMS)
    found = jax.jit(jax.vmap(contains, (None, 0, 0)))(histories, users, items)
    np.testing.assert_array_equal(found, [item in sets[user] for user, item in zip(users, items, strict=True)])


def test_negatives_are_uniform_over_what_a_user_lacks():
    sets = [{0, 1, 2, 5}, set(), set(range(NUM_ITEMS)) - {4}, {8}]
    histories = from_sets(sets)
    draws = 20000
    users = jnp.repeat(jnp.arange(len(sets)), draws)
    items = np.asarray(jax.jit(sample_unseen, static_argnums=3)(jax.random.key(0), histories, users, NUM_ITEMS))
    for user, seen in enumerate(sets):
        counts = np.bincount(items[user * draws : (user + 1) * draws], minlength=NUM_ITEMS)
        unseen = [item for item in range(NUM_ITEMS) if item not in seen]
        assert counts.sum() == counts[unseen].sum()
        expected = draws / len(unseen)
        chi_square = ((counts[unseen] - expected) ** 2 / expected).sum()
        # Beyond five standard deviations of a chi-square with that many degrees of freedom.
        assert chi_square < len(unseen) - 1 + 5 * np.sqrt(2 * len(unseen)), (user, counts)


def test_a_user_with_every_item_gets_a_negative_out_of_range():
    histories = from_sets([set(range(NUM_ITEMS))])
    assert sample_unseen(jax.random.key(0), histories, jnp.array([0]), NUM_ITEMS)[0] == NUM_ITEMS


@given(SETS, st.integers(1, 12))
def test_folding_visits_every_entry_once_in_blocks_of_any_size(sets, block):
    histories = from_sets(sets)
    users = jnp.array([len(sets) - 1, 0, 0])

    def count(counts, rows, items):
        return counts.at[rows, items].add(1, mode="drop")

    counts = fold_histories(histories, users, jnp.zeros((3, NUM_ITEMS), int), count, block)
    expected = [[item in sets[user] for item in range(NUM_ITEMS)] for user in users]
    np.testing.assert_array_equal(counts, np.array(expected, int))


@pytest.mark.parametrize("num_users", [1, 4])
def test_no_interactions_at_all(num_users):
    histories = from_sets([set()] * num_users)
    assert not contains(histories, 0, 0)
    total = fold_histories(histories, jnp.arange(num_users), jnp.int32(0), lambda total, rows, items: total + 1)
    assert total == 0
