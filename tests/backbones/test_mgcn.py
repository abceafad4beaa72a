"""MGCN, and what it shares with GUME, against a float64 numpy reference."""

import dataclasses

import fusion_reference as ref
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.backbones import base, fusion
from isolator_jax.backbones.mgcn import MGCN, MGCNHyperparameters
from isolator_jax.neighbours import nearest_neighbours

HYPERPARAMETERS = MGCNHyperparameters(dim=4, neighbours=4, layers=3, reg=0.3, cl=0.7, temperature=0.4, norm_batch=7)


def reference_views(dataset, params):
    graph = ref.normalized(ref.interactions(dataset))
    identity = ref.mean_of_layers(graph, np.concatenate([params["user"], params["item"]]), 3)
    views = {}
    for name, features in dataset.features.items():
        items = ref.item_matrix(features, 4) @ ref.purified(params, name)
        views[name] = np.concatenate([graph[: ref.USERS, ref.USERS :] @ items, items])
    return identity, views


def reference_loss(dataset, params, batch):
    identity, views = reference_views(dataset, params)
    side = ref.fuse(params, identity, views)
    output = identity + side
    users, positives, _ = (np.asarray(ids) for ids in batch)
    contrast = ref.info_nce(side[users], identity[users], 0.4)
    contrast += ref.info_nce(side[ref.USERS + positives], identity[ref.USERS + positives], 0.4)
    batch = [np.asarray(ids) for ids in batch]
    return ref.bpr(output, batch) + 0.3 / 2 * ref.squares(output, batch) / 7 + 0.7 * contrast


def loss_function(inputs, batch, hyperparameters):
    def loss(params):
        encoded = MGCN.encode(params, inputs, hyperparameters)
        return MGCN.loss(params, encoded, batch, lambda f, users, items: f, hyperparameters, None), encoded

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def problem(modalities):
    dataset = ref.make_dataset(modalities)
    params = ref.make_params(MGCN, dataset, HYPERPARAMETERS)
    return dataset, params, MGCN.prepare(dataset, HYPERPARAMETERS, find_neighbours=nearest_neighbours), ref.make_batch()


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_embeddings_loss_and_gradients_equal_the_reference(modalities):
    dataset, params, inputs, batch = problem(modalities)
    (loss, encoded), gradient = loss_function(inputs, batch, HYPERPARAMETERS)(params)
    identity, views = reference_views(dataset, ref.wide(params))
    expected = identity + ref.fuse(ref.wide(params), identity, views)
    np.testing.assert_allclose(encoded.users, expected[: ref.USERS], atol=1e-5)
    np.testing.assert_allclose(encoded.items, expected[ref.USERS :], atol=1e-5)
    np.testing.assert_allclose(loss, reference_loss(dataset, ref.wide(params), batch), rtol=1e-5)
    zero = ("attention", "gate") if modalities == 1 else ()  # the one view is the common one
    ref.assert_gradient_equals_differences(
        gradient, lambda p: reference_loss(dataset, p, batch), params, rtol=1e-4, zero=zero
    )


def test_feature_tables_start_as_the_raw_features_and_leave_the_item_graphs_alone():
    dataset, _, inputs, _ = problem(2)
    params = MGCN.init(jax.random.key(0), dataset, HYPERPARAMETERS)
    for name, feature in dataset.features.items():
        np.testing.assert_array_equal(params["features"][name], feature)
    assert "features" not in inputs


def test_frozen_features_are_an_input_and_the_model_is_the_same():
    dataset, _, _, batch = problem(2)
    frozen = dataclasses.replace(HYPERPARAMETERS, trainable_features=False)
    params = ref.make_params(MGCN, dataset, frozen)
    assert "features" not in params
    (loss, _), gradient = loss_function(
        MGCN.prepare(dataset, frozen, find_neighbours=nearest_neighbours), batch, frozen
    )(params)

    def reference(params):
        return reference_loss(dataset, {**params, "features": dataset.features}, batch)

    np.testing.assert_allclose(loss, reference(ref.wide(params)), rtol=1e-5)
    ref.assert_gradient_equals_differences(gradient, reference, params, rtol=1e-4)


def test_the_batch_rows_give_the_ranking_loss_and_gradient_of_all_rows():
    _, params, inputs, batch = problem(2)

    score = lambda f, users, items: f * (users + 1) - items

    def loss_of_batch(params):
        encoded = MGCN.encode(params, inputs, HYPERPARAMETERS)
        return fusion.ranking_loss(fusion.fuse_batch(params, encoded.extras, ref.USERS, batch), batch, score)

    def loss_of_all(params):
        return base.ranking_loss(MGCN.encode(params, inputs, HYPERPARAMETERS), batch, score)

    of_batch, gradient = jax.jit(jax.value_and_grad(loss_of_batch))(params)
    of_all, expected = jax.jit(jax.value_and_grad(loss_of_all))(params)
    np.testing.assert_allclose(of_batch, of_all, rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_learning_rate_decays_by_epoch_and_is_constant_within_one():
    hyperparameters = dataclasses.replace(HYPERPARAMETERS, learning_rate=0.1, learning_rate_decay=0.5, decay_epochs=2)
    optimizer = MGCN.optimizer(hyperparameters, 3)
    params = jnp.zeros(2)
    state, rates = optimizer.init(params), []
    for _ in range(9):  # a constant gradient: Adam's step is the learning rate
        updates, state = optimizer.update(jnp.array([1.0, -2.0]), state, params)
        np.testing.assert_allclose(updates[0], -updates[1], rtol=1e-5)
        rates.append(-float(updates[0]))
    expected = np.repeat([0.1, 0.1 * 0.5**0.5, 0.05], 3)
    np.testing.assert_allclose(rates, expected, rtol=1e-4)
