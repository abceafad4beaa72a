"""The dataset in memory: its fingerprint and its statistics."""

import dataclasses

import numpy as np
import pytest

from isolator_jax.data import Dataset, Interactions
from isolator_jax.data.statistics import dataset_statistics


def split(*pairs):
    users, items = np.array(pairs, np.int32).T
    return Interactions.from_pairs(users, items)


BASE = Dataset(
    name="base",
    num_users=3,
    num_items=4,
    train=split((1, 0), (0, 1), (0, 0)),
    validation=split((2, 3)),
    test=split((1, 2)),
    features={"image": np.arange(12, dtype=np.float32).reshape(4, 3), "text": np.ones((4, 2), np.float16)},
)


def test_interactions_are_sorted_by_user_then_item():
    assert BASE.train.users.tolist() == [0, 0, 1]
    assert BASE.train.items.tolist() == [0, 1, 0]
    assert BASE.train.users.dtype == BASE.train.items.dtype == np.int32
    assert np.asarray(BASE.train.histories(3).offsets).tolist() == [0, 2, 3, 3]


def test_a_pair_given_twice_is_one_interaction():
    pairs = split((1, 2), (0, 1), (1, 2), (1, 0))
    assert (pairs.users.tolist(), pairs.items.tolist()) == ([0, 1, 1], [1, 0, 2])


def test_the_fingerprint_is_of_the_content_and_not_of_its_storage():
    stored = {name: np.asfortranarray(x) for name, x in BASE.features.items()}
    reordered = split((0, 0), (1, 0), (0, 1))
    same = dataclasses.replace(BASE, name="other", train=reordered, features=stored)
    assert same.fingerprint() == BASE.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"num_users": 4},
        {"train": split((0, 0), (0, 1), (1, 1))},
        {"validation": BASE.test, "test": BASE.validation},
        {"features": {"image": BASE.features["image"]}},
        {"features": dict(reversed(BASE.features.items()))},
        {"features": {"photo": BASE.features["image"], "text": BASE.features["text"]}},
        {"features": BASE.features | {"image": BASE.features["image"].astype(np.float64)}},
        {"features": BASE.features | {"text": np.full((4, 2), 1.001, np.float16)}},
    ],
)
def test_the_fingerprint_sees_every_change(change):
    assert dataclasses.replace(BASE, **change).fingerprint() != BASE.fingerprint()


def test_the_fingerprint_sees_items_that_have_no_features():
    bare = dataclasses.replace(BASE, features={})
    assert dataclasses.replace(bare, num_items=5).fingerprint() != bare.fingerprint()


def test_the_fingerprint_sees_where_one_split_ends_and_the_next_begins():
    """Users and items of both, one after the other, are 0 0 0 1 2 3."""
    first = dataclasses.replace(BASE, train=split((0, 0), (0, 1)), validation=split((2, 3)))
    second = dataclasses.replace(BASE, train=split((0, 0)), validation=split((0, 2), (1, 3)))
    assert first.fingerprint() != second.fingerprint()


def test_statistics_are_those_of_table_1():
    statistics = dataset_statistics(BASE)
    unit = np.float64(BASE.features["image"])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similarity = unit @ unit.T
    expected = {
        "dataset": "base",
        "users": 3,
        "items": 4,
        "interactions": 5,
        "sparsity": 1 - 5 / 12,
        "image dim": 3,
        "image S-bar": pytest.approx((similarity.sum() - 4) / 12, abs=1e-6),
        "text dim": 2,
        "text S-bar": pytest.approx(1, abs=1e-6),
    }
    assert statistics == expected
