"""SMORE against a float64 numpy reference."""

import dataclasses

import fusion_reference as ref
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.backbones import smore
from isolator_jax.backbones.smore import SMORE, SMOREHyperparameters
from isolator_jax.errors import ConfigError
from isolator_jax.neighbours import nearest_neighbours

# Seven neighbours of nine items: some of them at a negative cosine.
LENGTHS = (7, 4, 5)


def hyperparameters_for(modalities, dim=4):
    lengths = LENGTHS[:modalities]
    return SMOREHyperparameters(
        dim=dim, neighbours=lengths, layers=3, item_layers=2, reg=0.3, cl=0.7, temperature=0.4, norm_batch=7
    )


def problem(modalities, dim=4):
    dataset, hyperparameters = ref.make_dataset(modalities), hyperparameters_for(modalities, dim)
    inputs = SMORE.prepare(dataset, hyperparameters, find_neighbours=nearest_neighbours)
    return dataset, hyperparameters, ref.make_params(SMORE, dataset, hyperparameters), inputs


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def weighted(spectrum, parts, dim):
    return np.fft.irfft(spectrum * (parts[:, 0] + 1j * parts[:, 1]), dim, axis=-1, norm="ortho")


def reference_views(dataset, params, kept=None):
    """ID view and side of all nodes. `kept`: what the dropout multiplies the gates with, `[M + 1, N, D]`."""
    dim = params["item"].shape[1]
    graph = ref.normalized(ref.interactions(dataset))
    identity = ref.mean_of_layers(graph, np.concatenate([params["user"], params["item"]]), 3)
    matrices = [
        ref.item_matrix(features, length) for features, length in zip(dataset.features.values(), LENGTHS, strict=False)
    ]
    product, views = 1.0, []

    def view(layers, matrix, content):
        items = matrix @ matrix @ (params["item"] * ref.sigmoid(ref.layer(layers["purifier"], content)))
        return np.concatenate([graph[: ref.USERS, ref.USERS :] @ items, items])

    for name, matrix in zip(dataset.features, matrices, strict=True):
        layers = params["content"][name]
        projected = ref.layer(layers["projection"], params["features"][name])
        spectrum = np.fft.rfft(projected, axis=-1, norm="ortho")
        product = product * spectrum
        views.append(view(layers, matrix, weighted(spectrum, layers["spectrum"], dim)))
    fused = weighted(product, params["fusion"]["spectrum"], dim)
    fused = view(params["fusion"], np.max(matrices, axis=0), fused)
    sides = [ref.sigmoid(ref.layer(params["fusion"]["gate"], identity)) * fused]
    for name, own in sorted(zip(dataset.features, views, strict=True)):
        layers = params["content"][name]
        attention = softmax(np.tanh(ref.layer(layers["query"], fused)) @ layers["score"]["weight"].T)
        sides.append(ref.sigmoid(ref.layer(layers["gate"], identity)) * attention * own)
    kept = np.ones((len(sides), 1, 1)) if kept is None else kept
    return identity, np.mean(kept * np.array(sides), axis=0)


def reference_loss(dataset, params, batch, kept=None):
    identity, side = reference_views(dataset, params, kept)
    batch = [np.asarray(ids) for ids in batch]
    users, positives, _ = batch
    contrast = ref.info_nce(side[users], identity[users], 0.4)
    contrast += ref.info_nce(side[ref.USERS + positives], identity[ref.USERS + positives], 0.4)
    output = identity + side
    return ref.bpr(output, batch) + 0.3 / 2 * ref.squares(output, batch) / 7 + 0.7 * contrast


def loss_function(inputs, batch, hyperparameters, key=None):
    def loss(params):
        encoded = SMORE.encode(params, inputs, hyperparameters, key)
        return SMORE.loss(params, encoded, batch, lambda f, users, items: f, hyperparameters, key), encoded

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize(("modalities", "dim"), [(1, 4), (2, 5), (3, 4)])
def test_embeddings_loss_and_gradients_equal_the_reference(modalities, dim):
    dataset, hyperparameters, params, inputs = problem(modalities, dim)
    batch = ref.make_batch()
    (loss, encoded), gradient = loss_function(inputs, batch, hyperparameters)(params)
    expected = sum(reference_views(dataset, ref.wide(params)))
    np.testing.assert_allclose(np.concatenate([encoded.users, encoded.items]), expected, atol=1e-5)
    np.testing.assert_allclose(loss, reference_loss(dataset, ref.wide(params), batch), rtol=1e-5)
    ref.assert_gradient_equals_differences(gradient, lambda p: reference_loss(dataset, p, batch), params, rtol=1e-4)
    # A real row has the first frequency once, and of an even width the last.
    for layers in (gradient["fusion"], *gradient["content"].values()):
        imaginary = np.asarray(layers["spectrum"])[:, 1]
        assert imaginary[0] == 0 and (imaginary[-1] == 0) == (dim % 2 == 0) and imaginary[1] != 0


def test_dropout_scales_what_is_left_by_node_and_the_loss_sees_what_encode_made():
    dataset, hyperparameters, params, inputs = problem(2)
    hyperparameters, key, batch = dataclasses.replace(hyperparameters, dropout=0.3), jax.random.key(5), ref.make_batch()
    nodes = jnp.arange(ref.USERS + ref.ITEMS)
    kept = smore.drop(key, jnp.ones((3, nodes.size, 4)), nodes, jnp.float32(0.3))
    assert set(np.unique(kept)) == {0, np.float32(1 / np.float32(0.7))}
    (loss, encoded), _ = loss_function(inputs, batch, hyperparameters, key)(params)
    expected = sum(reference_views(dataset, ref.wide(params), np.float64(kept)))
    np.testing.assert_allclose(np.concatenate([encoded.users, encoded.items]), expected, atol=1e-5)
    np.testing.assert_allclose(loss, reference_loss(dataset, ref.wide(params), batch, np.float64(kept)), rtol=1e-5)


def test_dropout_takes_its_share_anew_with_each_key_and_none_without_one():
    gates, nodes = jnp.ones((3, 2000, 8)), jnp.arange(2000)
    first, second = (smore.drop(jax.random.key(seed), gates, nodes, jnp.float32(0.1)) for seed in (0, 1))
    for by in (None, 0, 1, 2):  # over all, and for each view, node and column
        share = np.mean(np.asarray(first) == 0, axis=None if by is None else tuple({0, 1, 2} - {by}))
        count = first.size / np.size(share)
        assert np.abs(share - 0.1).max() < 5 * np.sqrt(0.09 / count) or by == 1
    assert 0.005 < np.mean((np.asarray(first) == 0) & (np.asarray(second) == 0)) < 0.015
    _, hyperparameters, params, inputs = problem(2)
    with_dropout = dataclasses.replace(hyperparameters, dropout=0.9)
    encode = jax.jit(SMORE.encode)
    plain, still = (encode(params, inputs, values) for values in (hyperparameters, with_dropout))
    np.testing.assert_array_equal(plain.users, still.users)
    noisy = encode(params, inputs, with_dropout, jax.random.key(0))
    assert np.abs(noisy.users - plain.users).max() > 1e-3
    off = encode(params, inputs, hyperparameters, jax.random.key(0))
    np.testing.assert_allclose(off.users, plain.users, atol=1e-7)


def test_one_length_of_neighbour_lists_serves_all_modalities_and_another_number_is_refused():
    dataset, hyperparameters, _, _ = problem(3)
    prepare = lambda *lengths: SMORE.prepare(
        dataset, dataclasses.replace(hyperparameters, neighbours=lengths), find_neighbours=nearest_neighbours
    )
    one, all_alike = prepare(4), prepare(4, 4, 4)
    for found, expected in zip(jax.tree.leaves(one), jax.tree.leaves(all_alike), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ConfigError, match="neighbours has 2 values for 3 modalities"):
        prepare(4, 5)
