"""Cached nearest-neighbour lists."""

import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.neighbours import nearest_neighbours
from isolator_jax.runs import cache


@pytest.fixture
def features():
    return np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)


@pytest.fixture
def computed(monkeypatch):
    """The calls that were not answered from the cache."""
    calls = []

    def search(features, k):
        calls.append(k)
        return nearest_neighbours(features, k)

    monkeypatch.setattr(cache, "nearest_neighbours", search)
    return calls


def assert_right(lists, features, k):
    expected = nearest_neighbours(features, k)
    np.testing.assert_array_equal(lists.items, expected.items)
    np.testing.assert_array_equal(lists.cosines, expected.cosines)


def test_lists_are_computed_once_and_read_back_exactly(tmp_path, features, computed):
    for _ in range(3):
        assert_right(cache.cached_nearest_neighbours(tmp_path)(features, 4), features, 4)
    assert computed == [4]


def test_changed_features_type_or_length_never_meet_old_lists(tmp_path, features, computed):
    find = cache.cached_nearest_neighbours(tmp_path)
    find(features, 4)
    changed = features.copy()
    changed[7] = -changed[7]
    halves = features.astype(jnp.bfloat16)
    for other in (changed, features.astype(np.float64), features[:, :4], features[:10], halves):
        assert_right(find(other, 4), other, 4)
    assert_right(find(features, 5), features, 5)
    assert len(computed) == 7


@pytest.mark.parametrize("damage", [b"", b"PK", b"nonsense"])
def test_a_damaged_file_is_made_again(tmp_path, features, computed, damage):
    find = cache.cached_nearest_neighbours(tmp_path)
    find(features, 4)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage)
    assert_right(find(features, 4), features, 4)
    file.write_bytes(whole[: len(whole) // 2])
    assert_right(find(features, 4), features, 4)
    assert len(computed) == 3


def test_lists_that_cannot_be_written_are_found_all_the_same(tmp_path, features, computed):
    (tmp_path / "no folder").touch()
    for _ in range(2):
        with pytest.warns(UserWarning, match="not written, neighbours are searched again"):
            assert_right(cache.cached_nearest_neighbours(tmp_path / "no folder")(features, 4), features, 4)
    assert computed == [4, 4]


def test_a_file_that_declares_more_than_lists_hold_is_not_unpacked(tmp_path, features, monkeypatch):
    (path := tmp_path / "lists.npz").touch()
    for rows, found in ((20, True), (200_000, False)):
        lists = {"items": np.zeros((rows, 4), np.int32), "cosines": np.zeros((rows, 4), np.float32)}
        np.savez_compressed(path, **lists)
        if not found:
            monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpacked"))
        assert (cache.read_lists(path, (20, 4)) is not None) == found
