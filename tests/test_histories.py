"""Users' item sets: membership, exactly uniform negatives, sums over ragged rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isolator_jax import checks
from isolator_jax import histories as module
from isolator_jax.graph import make_graph
from isolator_jax.histories import Histories, contains, fold_histories, sample_unseen

NUM_ITEMS = 9
SIZES = (0, 1, 4, 6, NUM_ITEMS - 1)


@st.composite
def item_sets(draw):
    """Five users' sets. Their sizes are always `SIZES`, in any order: one shape, one compilation."""
    return [set(draw(st.permutations(range(NUM_ITEMS)))[:size]) for size in draw(st.permutations(SIZES))]


def from_sets(sets, shuffle=0):
    pairs = np.array([(user, item) for user, items in enumerate(sets) for item in items], np.int64).reshape(-1, 2)
    users, items = np.random.default_rng(shuffle).permutation(pairs).T
    return Histories.from_pairs(users, items, len(sets))


each_contains = jax.jit(jax.vmap(contains, (None, 0, 0)))
draw_unseen = jax.jit(sample_unseen, static_argnums=3)


@given(item_sets(), st.integers(0, 100))
def test_rows_are_sorted_sets_whatever_the_order_of_the_pairs(sets, shuffle):
    histories = from_sets(sets, shuffle)
    offsets, values = np.asarray(histories.offsets), np.asarray(histories.items)
    for user, items in enumerate(sets):
        assert values[offsets[user] : offsets[user + 1]].tolist() == sorted(items)
    np.testing.assert_array_equal(histories.lengths, [len(items) for items in sets])
    assert histories.num_users == len(sets)
    assert histories.max_length == max(SIZES)


@given(item_sets())
def test_contains_is_membership(sets):
    users, items = np.divmod(np.arange(len(sets) * NUM_ITEMS), NUM_ITEMS)
    found = each_contains(from_sets(sets), users, items)
    np.testing.assert_array_equal(found, [item in sets[user] for user, item in zip(users, items, strict=True)])


def test_contains_searches_long_rows_to_both_ends():
    count = 1025
    seen = np.random.default_rng(0).permutation(2 * count)[:count]
    seen = np.union1d(seen, [0, 2 * count - 1])
    users = np.concatenate([[0], np.full(seen.size, 1), [2]])
    histories = Histories.from_pairs(users, np.concatenate([[3], seen, [5]]), 3)
    found = each_contains(histories, np.full(2 * count, 1), np.arange(2 * count))
    np.testing.assert_array_equal(found, np.isin(np.arange(2 * count), seen))


@given(item_sets(), st.integers(0, 2**31 - 1))
def test_negatives_are_items_that_the_user_lacks(sets, seed):
    users = np.repeat(np.arange(len(sets)), 40)
    items = np.asarray(draw_unseen(jax.random.key(seed), from_sets(sets), users, NUM_ITEMS))
    assert ((items >= 0) & (items < NUM_ITEMS)).all()
    assert not any(item in sets[user] for user, item in zip(users, items, strict=True))


def test_negatives_are_uniform_over_what_a_user_lacks():
    sets = [{0, 1, 2, 5}, set(), set(range(NUM_ITEMS)) - {4}, {8}]
    draws = 20000
    users = np.repeat(np.arange(len(sets)), draws)
    items = np.asarray(draw_unseen(jax.random.key(0), from_sets(sets), users, NUM_ITEMS))
    for user, seen in enumerate(sets):
        counts = np.bincount(items[user * draws : (user + 1) * draws], minlength=NUM_ITEMS)
        unseen = [item for item in range(NUM_ITEMS) if item not in seen]
        assert counts.sum() == counts[unseen].sum()
        expected = draws / len(unseen)
        chi_square = ((counts[unseen] - expected) ** 2 / expected).sum()
        # Beyond five standard deviations of a chi-square with that many degrees of freedom.
        freedom = len(unseen) - 1
        assert chi_square <= freedom + 5 * np.sqrt(2 * freedom), (user, counts)


def test_a_user_with_every_item_gets_a_negative_out_of_range():
    histories = from_sets([set(range(NUM_ITEMS))])
    assert sample_unseen(jax.random.key(0), histories, jnp.array([0]), NUM_ITEMS)[0] == NUM_ITEMS


def count_entries(counts, rows, items):
    return counts.at[rows, items].add(1, mode="drop")


fold = jax.jit(fold_histories, static_argnums=(3, 4))


@pytest.mark.parametrize("block", [1, 2, 7, sum(SIZES), 64])
@settings(max_examples=15)
@given(sets=item_sets(), users=st.lists(st.integers(0, len(SIZES) - 1), min_size=4, max_size=4))
def test_folding_visits_every_entry_once_in_blocks_of_any_size(block, sets, users):
    zeros = np.zeros((len(users), NUM_ITEMS), np.int32)
    counts = fold(from_sets(sets), np.array(users), zeros, count_entries, block)
    np.testing.assert_array_equal(counts, [[item in sets[user] for item in range(NUM_ITEMS)] for user in users])


def test_entries_of_more_than_are_counted_at_once_are_folded_in_turn(monkeypatch):
    sets, users = [{2}, {0, 1, 3}, set(), {1}], np.array([1, 0, 2, 3, 1])
    monkeypatch.setattr(module, "_MOST_ENTRIES", 7)  # two users at a time: none has more than three
    counts = fold_histories(from_sets(sets), users, jnp.zeros((5, NUM_ITEMS), jnp.int32), count_entries, 4)
    np.testing.assert_array_equal(counts, [[item in sets[user] for item in range(NUM_ITEMS)] for user in users])


def test_a_search_among_more_than_half_of_what_int32_counts():
    low, high = jnp.int32(1_500_000_000), jnp.int32(1_500_000_100)
    assert module._first_true(lambda k: k >= 1_500_000_050, low, high, 100) == 1_500_000_050


def test_more_pairs_than_offsets_count_are_refused(monkeypatch):
    monkeypatch.setattr(checks, "MOST", 6)
    with pytest.raises(ValueError, match="pairs must be at most 6, got 7"):
        Histories.from_pairs(np.zeros(7), np.arange(7), 1)
    with pytest.raises(ValueError, match="edges must be at most 6, got 7"):
        make_graph(np.zeros(7), np.arange(7) % 4, np.ones(7), 4)


def test_folding_gives_rows_out_of_range_past_the_end():
    seen = []
    histories = from_sets([{2}, {0, 1}])
    fold_histories(
        histories, jnp.array([1, 0]), jnp.int32(0),
        lambda total, rows, items: jax.debug.callback(lambda r, i: seen.append((r, i)), rows, items) or total + 1,
        block=8,
    )  # fmt: skip
    jax.effects_barrier()
    ((rows, items),) = seen
    assert rows.tolist() == [0, 0, 1, 2, 2, 2, 2, 2]
    assert items.tolist() == [0, 1, 2, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("num_users", [1, 4])
def test_no_interactions_at_all(num_users):
    histories = from_sets([set()] * num_users)
    assert not contains(histories, 0, 0)
    total = fold_histories(histories, jnp.arange(num_users), jnp.int32(0), lambda total, rows, items: total + 1)
    assert total == 0
    drawn = draw_unseen(jax.random.key(0), histories, np.zeros(200, int), NUM_ITEMS)
    assert set(np.asarray(drawn).tolist()) == set(range(NUM_ITEMS))


def test_a_pair_given_twice_counts_once():
    histories = Histories.from_pairs([0, 0, 1, 0, 0], [4, 4, 4, 2, 4], 2)
    assert histories.lengths.tolist() == [2, 1]
    assert histories.items.tolist() == [2, 4, 4]
    assert histories.max_length == 2


def test_nobody_has_nothing():
    histories = Histories.from_pairs([], [], 0)
    assert histories.num_users == 0 and histories.max_length == 0
    total = fold_histories(histories, [], jnp.int32(7), lambda total, rows, items: total + 1)
    assert total == 7
    assert fold_histories(from_sets([{1}]), np.zeros(0), jnp.int32(7), lambda total, rows, items: total + 1) == 7
    assert sample_unseen(jax.random.key(0), histories, [], 3).shape == (0,)
