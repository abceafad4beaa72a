"""Sizes at the edge of what has a meaning: it trains without a NaN, or is refused by name.

Features at that edge are in `test_contract.py`.
"""

import jax
import numpy as np
import pytest

from isolator_jax.data import Dataset, Interactions
from isolator_jax.errors import DataError
from isolator_jax.runs import (
    evaluate_problem,
    make_learner,
    make_problem,
    strategies_of,
)
from isolator_jax.runs.config import RunConfig


def dataset_of(name, users, items, train, validation, test, features):
    splits = (
        Interactions.from_pairs(*np.array(pairs, np.int32).reshape(-1, 2).T) for pairs in (train, validation, test)
    )
    return Dataset(name, users, items, *splits, {key: np.array(x, np.float32) for key, x in features.items()})


DATASETS = {
    "one user with one item of three": dataset_of(
        "d", 1, 3, [(0, 0)], [(0, 1)], [(0, 2)], {"image": [[1.0], [2.0], [3.0]]}
    ),
    "a user who has everything": dataset_of(
        "d", 2, 3, [(0, 0), (0, 1), (0, 2), (1, 0)], [(1, 1)], [(1, 2)], {"image": np.eye(3)}
    ),
}


def train(name, dataset, epochs=2):
    config = RunConfig(backbone=name, hparams={"dim": 4, "learning_rate": 0.05}, batch_size=4)
    problem = make_problem(config, dataset)
    learner = make_learner(config, problem)
    state = learner.initial_state(0).train
    with jax.debug_nans(True):  # not before: an undefined c_u is a NaN
        for _ in range(epochs):
            state, loss, finite = learner.train_epoch(state)
            assert bool(finite) and np.isfinite(loss)
        return config, problem, learner.encode(state.params)


@pytest.mark.parametrize("name", ["mfbpr", "mgcn", "freedom"])
@pytest.mark.parametrize("case", DATASETS)
def test_it_trains_and_ranks_without_a_nan(name, case):
    dataset = DATASETS[case]
    config, problem, encoded = train(name, dataset)
    seen = set(zip(dataset.train.users.tolist(), dataset.train.items.tolist(), strict=True))
    results = evaluate_problem(problem, encoded, "test", strategies_of(config, True))
    for result in results.values():
        assert 0 <= result.metrics["recall@20"] <= 1 and 0 <= result.metrics["ndcg@20"] <= 1
        assert np.isfinite(result.metrics["rho"])
        for user, items in zip(result.users.tolist(), result.lists, strict=True):
            listed = items[items >= 0].tolist()
            # Every item the user has not trained on, once.
            assert sorted(listed) == [item for item in range(dataset.num_items) if (user, item) not in seen]


def test_where_every_user_has_every_item_training_is_refused():
    one_item = dataset_of("single", 3, 1, [(0, 0), (1, 0)], [(2, 0)], [], {"image": [[1.0]]})
    with pytest.raises(DataError, match="every training user has all 1 items"):
        train("mfbpr", one_item)
