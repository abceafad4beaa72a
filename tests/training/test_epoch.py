"""The compiled epoch against a step-by-step computation, and its batches and negatives."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax import scoring
from isolator_jax.data import Interactions
from isolator_jax.errors import DataError
from isolator_jax.runs import make_learner, make_problem
from isolator_jax.runs.config import RunConfig
from isolator_jax.training import epoch_shape, make_score, make_train_data


@pytest.mark.parametrize(
    ("interactions", "batch", "expected"),
    [(118551, 2048, (58, 2044)), (2048, 2048, (1, 2048)), (2049, 2048, (2, 1025)), (5, 2048, (1, 5))],
)
def test_batches_are_the_fewest_and_evenly_filled(interactions, batch, expected):
    assert epoch_shape(interactions, batch) == expected


@pytest.mark.slow
def test_one_epoch_of_one_batch_is_one_adam_step_on_the_mean_loss(small_dataset):
    # With a single batch the order of the interactions cannot matter, only the negatives
    # can; a dataset in which each user lacks exactly one item fixes those.
    users, items = np.divmod(np.arange(6 * 5), 5)
    missing = np.array([0, 1, 2, 3, 4, 0])
    keep = items != missing[users]
    train = Interactions.from_pairs(users[keep], items[keep])
    validation, test = (Interactions.from_pairs(np.arange(6)[half], missing[half]) for half in (slice(3), slice(3, 6)))
    features = {"m": np.random.default_rng(0).standard_normal((5, 3))}
    dataset = dataclasses.replace(
        small_dataset,
        num_users=6,
        num_items=5,
        train=train,
        validation=validation,
        test=test,
        features=features,
    )
    config = RunConfig(backbone="mfbpr", gamma=0.7, hparams={"reg": 0.3, "learning_rate": 0.01})
    problem = make_problem(config, dataset)
    learner = make_learner(config, problem)
    state = learner.initial_state(0).train
    before = jax.tree.map(np.array, state.params)
    after, loss, finite = learner.train_epoch(state)

    s = np.asarray(problem.content.similarity.table[0], np.float64)

    def reference(params):
        def score(u, i):
            f = jnp.sum(params["user"][u] * params["item"][i], axis=1)
            elu = jnp.where(f > 0, f + 1, jnp.exp(f))
            return elu * (1 / (1 + jnp.exp(-s[u, i]))) ** 0.7

        negatives = missing[train.users]
        difference = score(train.users, train.items) - score(train.users, negatives)
        blocks = (params["user"][train.users], params["item"][train.items], params["item"][negatives])
        norms = sum(jnp.sqrt(jnp.sum(block**2)) for block in blocks)
        return jnp.mean(jnp.log1p(jnp.exp(-difference))) + 0.3 * norms / len(train)

    expected_loss, gradients = jax.value_and_grad(reference)(before)
    assert bool(finite)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for name, gradient in gradients.items():
        # Adam's first step: learning rate times the sign of the gradient, epsilon aside.
        step = 0.01 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(after.params[name], before[name] - step, atol=1e-5)


def test_every_interaction_is_seen_in_an_epoch(small_dataset):
    # A single tiny plain step a batch moves exactly the item rows that are in some batch.
    config = RunConfig(
        backbone="mfbpr", training_strategy=False, batch_size=64, hparams={"reg": 0, "learning_rate": 1e-3}
    )
    problem = make_problem(config, small_dataset)
    learner = make_learner(config, problem)
    state = learner.initial_state(0).train
    before = np.array(state.params["user"])
    after, *_ = learner.train_epoch(state)
    moved = np.abs(np.asarray(after.params["user"]) - before).max(axis=1) > 0
    assert moved[np.unique(small_dataset.train.users)].all()


def test_score_is_plain_f_without_gamma_and_eq_7_with_it(small_dataset):
    problem = make_problem(RunConfig(backbone="mfbpr"), small_dataset)
    f, users, items = jnp.array([-1.0, 2.0]), jnp.array([3, 4]), jnp.array([5, 6])
    np.testing.assert_array_equal(make_score(None, None)(f, users, items), f)
    s = problem.content.similarity.pairs(users, items)
    expected = scoring.elu_prime(f) * jax.nn.sigmoid(s[0]) ** 0.4
    np.testing.assert_allclose(make_score(problem.content.similarity, 0.4)(f, users, items), expected, rtol=1e-6)


def test_users_with_every_item_are_left_out_of_training(small_dataset):
    full = np.arange(small_dataset.num_items)
    train = Interactions.from_pairs(np.append(np.zeros_like(full), 1), np.append(full, 7))
    data = make_train_data(dataclasses.replace(small_dataset, train=train))
    np.testing.assert_array_equal(data.users, [1])
    np.testing.assert_array_equal(data.items, [7])
    only_full = Interactions.from_pairs(np.zeros_like(full), full)
    with pytest.raises(DataError, match="nothing to rank against"):
        make_train_data(dataclasses.replace(small_dataset, train=only_full))


@pytest.mark.slow
def test_a_trained_feature_table_is_updated_in_place(small_dataset):
    config = RunConfig(backbone="mgcn", batch_size=512)
    learner = make_learner(config, make_problem(config, small_dataset))
    program = learner.epoch_program.lower(learner.initial_state(0).train, *learner.epoch_arguments())
    table = small_dataset.features["image"].shape
    assert f"f32[{table[0]},{table[1]}]" in (text := program.compile().as_text())
    assert not re.findall(rf"f32\[{table[0]},{table[1]}\]\S* copy\(", text)
