"""LGMRec against a float64 numpy reference, and its noise."""

import dataclasses

import fusion_reference as ref
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.backbones import lgmrec
from isolator_jax.backbones.lgmrec import LGMREC, LGMRecHyperparameters
from isolator_jax.neighbours import nearest_neighbours

HYPERPARAMETERS = LGMRecHyperparameters(
    dim=4,
    layers=3,
    content_layers=2,
    hyperedges=3,
    hyper_layers=3,
    hyper_temperature=0.8,
    keep_rate=0.6,
    global_weight=0.7,
    cl=0.05,
    temperature=0.4,
    reg=0.3,
)


def problem(modalities, hyperparameters=HYPERPARAMETERS):
    dataset = ref.make_dataset(modalities)
    inputs = LGMREC.prepare(dataset, hyperparameters, find_neighbours=nearest_neighbours)
    return dataset, ref.make_params(LGMREC, dataset, hyperparameters), inputs


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def reference(dataset, params, hyper_layers=3, members=None):
    """Output rows and the modalities' global rows. `members`: h of each modality, where noise made them."""
    plain = ref.interactions(dataset)
    graph, rows = ref.normalized(plain), plain[: ref.USERS, ref.USERS :]
    output = ref.mean_of_layers(graph, np.concatenate([params["user"], params["item"]]), 3)
    collaborative_items, everywhere = output[ref.USERS :].copy(), []
    for number, features in enumerate(dataset.features.values()):
        features, layers = np.float64(features), params["content"][str(number)]
        items = features @ layers["projection"]["weight"].T
        users = rows @ items / (rows.sum(axis=1, keepdims=True) + 1e-7)
        output = output + ref.unit(graph @ graph @ np.concatenate([users, items]))
        logits = features @ layers["hyperedges"]["weight"].T
        h = softmax(np.concatenate([rows @ logits, logits]) / 0.8) if members is None else np.float64(members[number])
        e = collaborative_items
        for _ in range(hyper_layers):
            z = h[ref.USERS :].T @ e
            e, users = h[ref.USERS :] @ z, h[: ref.USERS] @ z
        everywhere.append(np.concatenate([users, e]))
    return output + 0.7 * ref.unit(sum(everywhere)), everywhere


def reference_loss(dataset, params, batch, **options):
    output, everywhere = reference(dataset, params, **options)
    users, positives, negatives = batch = [np.asarray(ids) for ids in batch]
    pairs = [(a, b) for number, a in enumerate(everywhere) for b in everywhere[number + 1 :]]
    contrast = 0.0
    for first, second in pairs:
        for kind, ids in ((slice(None, ref.USERS), users), (slice(ref.USERS, None), positives)):
            anchors, table = ref.unit(first[kind])[ids], ref.unit(second[kind])
            logits = anchors @ table.T / 0.4
            contrast += np.sum(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(ids)), ids]) / len(pairs)
    norms = [np.linalg.norm(output[ids]) for ids in (users, ref.USERS + positives, ref.USERS + negatives)]
    return ref.bpr(output, batch) + 0.05 * contrast + 0.3 * sum(norms) / len(users)


def loss_function(inputs, batch, hyperparameters, key=None):
    def loss(params):
        encoded = LGMREC.encode(params, inputs, hyperparameters, key)
        return LGMREC.loss(params, encoded, batch, lambda f, users, items: f, hyperparameters, key), encoded

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_embeddings_loss_and_gradients_equal_the_reference(modalities):
    dataset, params, inputs = problem(modalities)
    batch = ref.make_batch()
    (loss, encoded), gradient = loss_function(inputs, batch, HYPERPARAMETERS)(params)
    expected, _ = reference(dataset, ref.wide(params))
    np.testing.assert_allclose(np.concatenate([encoded.users, encoded.items]), expected, atol=2e-5)
    np.testing.assert_allclose(loss, reference_loss(dataset, ref.wide(params), batch), rtol=1e-5)
    ref.assert_gradient_equals_differences(gradient, lambda p: reference_loss(dataset, p, batch), params, rtol=1e-4)


def test_more_hyper_edges_than_the_embedding_is_wide_and_one_layer():
    hyperparameters = dataclasses.replace(HYPERPARAMETERS, hyperedges=6, hyper_layers=1)
    dataset, params, inputs = problem(2, hyperparameters)
    batch = ref.make_batch()
    (loss, _), gradient = loss_function(inputs, batch, hyperparameters)(params)
    expected = lambda params: reference_loss(dataset, params, batch, hyper_layers=1)
    np.testing.assert_allclose(loss, expected(ref.wide(params)), rtol=1e-5)
    ref.assert_gradient_equals_differences(gradient, expected, params, rtol=1e-4)


def test_noise_is_drawn_once_a_step_and_is_the_same_in_every_layer_and_in_the_loss():
    dataset, params, inputs = problem(2)
    batch, key = ref.make_batch(), jax.random.key(3)
    (loss, encoded), gradient = loss_function(inputs, batch, HYPERPARAMETERS, key)(params)
    members = [np.asarray(graph.members) for graph in encoded.extras.hypergraphs]
    expected, _ = reference(dataset, ref.wide(params), members=members)
    np.testing.assert_allclose(np.concatenate([encoded.users, encoded.items]), expected, atol=2e-5)
    np.testing.assert_allclose(loss, reference_loss(dataset, ref.wide(params), batch, members=members), rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_without_a_key_there_is_no_noise_whatever_the_keep_rate():
    _, params, inputs = problem(2)
    encode = jax.jit(LGMREC.encode)
    plain = encode(params, inputs, HYPERPARAMETERS)
    other = encode(params, inputs, dataclasses.replace(HYPERPARAMETERS, keep_rate=0.1))
    np.testing.assert_array_equal(plain.users, other.users)
    noisy, again, another = (encode(params, inputs, HYPERPARAMETERS, jax.random.key(seed)).users for seed in (0, 0, 1))
    np.testing.assert_array_equal(noisy, again)
    assert np.abs(noisy - plain.users).max() > 1e-3 and np.abs(noisy - another).max() > 1e-3


def test_noisy_memberships_have_the_statistics_of_gumbel_noise_and_dropout():
    logits, rows = jnp.array([0.0, 1.0, -0.5, 0.3]), 20_000
    sure = dataclasses.replace(HYPERPARAMETERS, keep_rate=1.0, hyper_temperature=0.2)
    noisy = lgmrec.memberships(jnp.tile(logits, (rows, 1)), sure, jax.random.key(0))
    np.testing.assert_allclose(noisy.sum(axis=1), 1, rtol=1e-5)
    # The largest of logit + Gumbel noise is a draw from the softmax of the logits.
    largest = np.bincount(np.argmax(noisy, axis=1), minlength=4) / rows
    np.testing.assert_allclose(largest, softmax(np.float64(logits)), atol=5 * 0.5 / np.sqrt(rows))
    dropped = lgmrec.memberships(
        jnp.tile(logits, (rows, 1)), dataclasses.replace(sure, keep_rate=0.3), jax.random.key(0)
    )
    kept = np.asarray(dropped) > 0
    np.testing.assert_allclose(kept.mean(axis=0), 0.3, atol=5 * np.sqrt(0.21 / rows))
    np.testing.assert_allclose(dropped, np.where(kept, np.asarray(noisy) / np.float32(0.3), 0), rtol=1e-5)


def test_each_modality_has_noise_of_its_own():
    dataset = ref.make_dataset(2)
    (first, x), (second, _) = dataset.features.items()
    dataset = dataclasses.replace(dataset, features={first: x, second: x})
    inputs = LGMREC.prepare(dataset, HYPERPARAMETERS, find_neighbours=nearest_neighbours)
    params = LGMREC.init(jax.random.key(0), dataset, HYPERPARAMETERS)
    params["content"]["1"] = params["content"]["0"]
    one, other = jax.jit(LGMREC.encode)(params, inputs, HYPERPARAMETERS, jax.random.key(0)).extras.hypergraphs
    assert np.abs(one.members - other.members).max() > 0.01
