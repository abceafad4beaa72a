"""What every registered backbone must do, run over the whole registry."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lists_reference import assert_lists_equal_the_reference

from isolator_jax.backbones import BACKBONES, Batch, get_backbone
from isolator_jax.data import Interactions
from isolator_jax.neighbours import nearest_neighbours
from isolator_jax.runs import make_learner, make_problem
from isolator_jax.runs.config import RunConfig
from isolator_jax.training import Checkpoints, make_score
from tests.hyperparameters import every_loop_once

NAMES = sorted(BACKBONES)

# Parameters without a gradient in exact arithmetic: these shift a positive's score and its negative's alike.
WITHOUT_GRADIENT = {"freedom": "bias"}


@pytest.fixture(scope="module")
def dataset(small_dataset):
    """The small dataset, its last user and last item without training interactions."""
    train = small_dataset.train
    keep = (train.users != small_dataset.num_users - 1) & (train.items != small_dataset.num_items - 1)
    return dataclasses.replace(small_dataset, train=Interactions(train.users[keep], train.items[keep]))


def setup(name, dataset, **options):
    config = RunConfig(backbone=name, batch_size=256, **options)
    problem = make_problem(config, dataset)
    backbone = get_backbone(name)
    inputs = backbone.prepare(dataset, config.hyperparameters, find_neighbours=nearest_neighbours)
    params = backbone.init(jax.random.key(0), dataset, config.hyperparameters)
    return config, problem, backbone, inputs, params


def batch_of(dataset, size=64):
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(dataset.train), size)
    negatives = rng.integers(dataset.num_items, size=size)
    arrays = (dataset.train.users[chosen], dataset.train.items[chosen], negatives)
    return Batch(*(jnp.asarray(x, jnp.int32) for x in arrays))


def loss_function(config, problem, backbone, inputs, batch, gamma):
    score = make_score(problem.content.similarity, gamma)

    def loss(params):
        encoded = backbone.encode(params, inputs, config.hyperparameters)
        return backbone.loss(params, encoded, batch, score, config.hyperparameters, jax.random.key(1)), encoded[:2]

    return loss


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_equal_with_and_without_jit_and_its_gradient_reaches_every_parameter(name, dataset):
    config, problem, backbone, inputs, params = setup(name, dataset)
    loss = loss_function(config, problem, backbone, inputs, batch_of(dataset), 0.3)
    with jax.disable_jit():
        plain, (users, items) = loss(params)
    (value, encoded), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    np.testing.assert_allclose(value, plain, rtol=2e-5)
    chex.assert_trees_all_close(encoded, (users, items), atol=1e-5)
    chex.assert_shape(users, (dataset.num_users, None))
    chex.assert_shape(items, (dataset.num_items, users.shape[1]))
    chex.assert_type([users, items], jnp.float32)
    chex.assert_tree_all_finite((users, items, gradients))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        parameter = jax.tree_util.keystr(path)
        if name not in WITHOUT_GRADIENT or WITHOUT_GRADIENT[name] not in parameter:
            assert np.abs(leaf).max() > 0, f"no gradient reaches {parameter}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("modalities", [1, 3])
def test_any_number_of_modalities_trains(name, modalities, dataset):
    rng = np.random.default_rng(5)
    features = {
        f"m{index}": rng.standard_normal((dataset.num_items, 6 + index), dtype=np.float32)
        for index in range(modalities)
    }
    features["m0"][3] = 0.0  # an item without content
    dataset = dataclasses.replace(dataset, features=features)
    config, problem, backbone, inputs, params = setup(name, dataset)
    loss = loss_function(config, problem, backbone, inputs, batch_of(dataset), 0.1)
    (value, _), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    chex.assert_tree_all_finite((value, gradients))


def with_features(dataset, case):
    """The dataset with features at the edge of what has a meaning."""
    features = {name: feature.copy() for name, feature in dataset.features.items()}
    if case == "identical items":
        features["image"][2], features["text"][:] = features["image"][1], 1.0
    else:
        features = {name: np.zeros_like(feature) for name, feature in features.items()}
    return dataclasses.replace(dataset, features=features)


def train(config, problem, seed, epochs):
    """A state and the losses of its epochs. The first NaN of a compiled step stops it; nothing is promoted silently."""
    learner = make_learner(config, problem)
    state, losses = learner.initial_state(seed).train, []
    with jax.debug_nans(True), jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        for _ in range(epochs):
            state, loss, finite = learner.train_epoch(state)
            assert bool(finite)
            losses.append(float(loss))
        return state, losses, learner.encode(state.params)


@pytest.mark.parametrize(
    ("name", "case"), [*((name, "identical items") for name in NAMES), ("vbpr", "all zero"), ("gume", "all zero")]
)
def test_training_lowers_the_loss_repeats_by_seed_and_ranks_as_the_reference(name, case, dataset):
    # The defaults are those of the tests above.
    hparams = {"dim": 16, "learning_rate": 0.01, **every_loop_once(name)}
    config = RunConfig(backbone=name, batch_size=256, gamma=0.4, iota=0.9, hparams=hparams)
    problem = make_problem(config, with_features(dataset, case))
    first, losses, encoded = train(config, problem, seed=0, epochs=6)
    again, *_ = train(config, problem, seed=0, epochs=6)
    other, *_ = train(config, problem, seed=1, epochs=6)
    assert losses[-1] < losses[0]
    chex.assert_trees_all_equal(first.params, again.params)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(first.params, other.params)
    assert_lists_equal_the_reference(config, problem, encoded)


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_saving_and_restoring_exactly(name, dataset, tmp_path):
    config = RunConfig(backbone=name, batch_size=256)
    learner = make_learner(config, make_problem(config, dataset))
    state = learner.initial_state(0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state)
        restored = checkpoints.restore_latest(learner.initial_state(7))
        assert checkpoints.latest_epoch() == 3
    chex.assert_trees_all_equal(restored, state)
    chex.assert_trees_all_equal_dtypes(restored, state)


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="vbpr"):
        get_backbone("vbprr")


@pytest.fixture
def with_float64():
    """Calls a function where JAX's own types are of 64 bits."""

    def call(function):
        jax.config.update("jax_enable_x64", True)
        try:
            return function()
        finally:
            jax.config.update("jax_enable_x64", False)

    return call


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_float32_and_the_same_where_jax_has_float64(name, dataset, with_float64):
    hyperparameters = RunConfig(backbone=name).hyperparameters
    init = lambda: get_backbone(name).init(jax.random.key(0), dataset, hyperparameters)
    expected, found = init(), with_float64(init)
    chex.assert_trees_all_equal_dtypes(found, expected)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("name", "rates"), [("lgmrec", {"keep_rate": 0.5}), ("smore", {"dropout": 0.5})])
def test_what_is_dropped_is_the_same_where_jax_has_float64(name, rates, dataset, with_float64):
    config = RunConfig(backbone=name, hparams={"dim": 8, **rates})
    backbone = get_backbone(name)
    inputs = backbone.prepare(dataset, config.hyperparameters, find_neighbours=nearest_neighbours)
    params = backbone.init(jax.random.key(0), dataset, config.hyperparameters)
    encoded = lambda params, inputs, values: backbone.encode(params, inputs, values, jax.random.key(1))[:2]
    encode = lambda: jax.jit(encoded)(params, inputs, config.hyperparameters)
    chex.assert_trees_all_close(with_float64(encode), encode(), rtol=1e-3, atol=1e-6)
