"""GRCN against a float64 numpy reference with loops over neighbours."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.backbones import Batch
from isolator_jax.backbones.grcn import GRCN, GRCNHyperparameters
from isolator_jax.data import Dataset, Interactions
from isolator_jax.neighbours import nearest_neighbours
from isolator_jax.training import make_score

USERS, ITEMS, ROWS = 7, 9, 6
HYPERPARAMETERS = GRCNHyperparameters(dim=5, reg=0.7, rounds=3)


def make_problem(modalities):
    """User 6 and item 8 are isolated, user 5 has one item, item 2 has no content in the first modality.

    The modalities' names are not in alphabetical order.
    """
    rng = np.random.default_rng(modalities)
    pairs = sorted({(rng.integers(5), rng.integers(8)) for _ in range(22)} | {(5, 3)})
    features = {f"m{9 - m}": rng.standard_normal((ITEMS, 4 + m)).astype(np.float32) for m in range(modalities)}
    features["m9"][2] = 0
    train = Interactions.from_pairs(*np.array(pairs).T)
    dataset = Dataset("made", USERS, ITEMS, train, train, train, features)
    params = GRCN.init(jax.random.key(1), dataset, HYPERPARAMETERS)
    params = jax.tree.map(lambda x: x + 0.5 * rng.standard_normal(x.shape).astype(np.float32), params)
    # User 1 twice, and positives that are negatives of other rows.
    users, positives, negatives = np.array([[1, 1, 5, 0, 6, 3], [3, 0, 3, 2, 1, 8], [8, 5, 0, 0, 2, 3]])
    return dataset, params, Batch(*(jnp.asarray(x, jnp.int32) for x in (users, positives, negatives)))


def unit(x):
    return x / max(np.linalg.norm(x), 1e-12)


def attention(target, sources):
    """Softmax of the dot products, one number a source."""
    exponentials = np.exp([target @ source for source in sources])
    return exponentials / exponentials.sum()


def neighbours_of(dataset):
    """Ids of every node's neighbours, users first."""
    found = [[] for _ in range(USERS + ITEMS)]
    for user, item in zip(dataset.train.users, dataset.train.items, strict=True):
        found[user].append(USERS + item)
        found[USERS + item].append(user)
    return found


def content_channel(neighbours, features, dense, table, rounds):
    """A modality's node outputs `[N, D]` and its attention {(target, source): alpha}."""
    projected = features @ dense["weight"].T + dense["bias"]
    content = [unit(np.where(row > 0, row, 0.01 * row)) for row in projected]
    preference = [unit(row) for row in table]
    for user in range(USERS):
        items = [content[node - USERS] for node in neighbours[user]]
        for _ in range(rounds):
            message = sum(alpha * item for alpha, item in zip(attention(preference[user], items), items, strict=True))
            preference[user] = unit(preference[user] + message)
    nodes = np.array(preference + content)
    outputs, alphas = nodes.copy(), {}
    for target, sources in enumerate(neighbours):
        for alpha, source in zip(attention(nodes[target], nodes[sources]), sources, strict=True):
            outputs[target] += alpha * nodes[source]
            alphas[target, source] = alpha
    return outputs, alphas


def reference_embeddings(dataset, params, rounds=3):
    neighbours = neighbours_of(dataset)
    channels = [
        content_channel(neighbours, np.float64(x), params["content"][str(m)], params["preference"][str(m)], rounds)
        for m, x in enumerate(dataset.features.values())
    ]
    weights = np.zeros((USERS + ITEMS, USERS + ITEMS))
    for target, sources in enumerate(neighbours):
        for source in sources:
            scores = [
                alphas[target, source] * params["confidence"][source, m] for m, (_, alphas) in enumerate(channels)
            ]
            weights[target, source] = max(max(scores), 0)
    x = np.array([unit(row) for row in params["id"]])
    identity = x + weights @ x + weights @ weights @ x
    nodes = np.concatenate([identity] + [outputs for outputs, _ in channels], axis=1)
    return nodes[:USERS], nodes[USERS:]


def reference_regulariser(params, batch, first="0"):
    rows = [(u, i) for items in (batch.positives, batch.negatives) for u, i in zip(batch.users, items, strict=True)]
    table = params["id"]
    ids = np.mean([np.square(table[u]) + np.square(table[USERS + i]) for u, i in rows])
    whole = np.mean(np.square(params["preference"][first]))
    preferences = sum(
        np.mean([np.square(preference[u]) for u, _ in rows]) for preference in params["preference"].values()
    )
    return HYPERPARAMETERS.reg * (ids + whole + preferences)


def reference_loss(dataset, params, batch):
    users, items = reference_embeddings(dataset, params)
    margins = [users[u] @ (items[p] - items[n]) for u, p, n in zip(*batch, strict=True)]
    return np.mean(np.log1p(np.exp(-np.array(margins)))) + reference_regulariser(params, batch)


def to_float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def encode(dataset, params, hyperparameters=HYPERPARAMETERS):
    inputs = GRCN.prepare(dataset, hyperparameters, find_neighbours=nearest_neighbours)
    return jax.jit(lambda params, inputs: GRCN.encode(params, inputs, hyperparameters))(params, inputs)


def loss_and_gradients(dataset, params, batch):
    """The whole loss, its gradients by the parameters, and the embeddings."""

    def loss(params, inputs):
        encoded = GRCN.encode(params, inputs, HYPERPARAMETERS)
        return GRCN.loss(params, encoded, batch, make_score(None, None), HYPERPARAMETERS, None), encoded

    inputs = GRCN.prepare(dataset, HYPERPARAMETERS, find_neighbours=nearest_neighbours)
    (value, encoded), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, inputs)
    return value, gradients, encoded


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_embeddings_loss_and_gradients_equal_the_reference(modalities):
    dataset, params, batch = make_problem(modalities)
    value, gradients, encoded = loss_and_gradients(dataset, params, batch)
    exact, plain_batch = to_float64(params), Batch(*(np.asarray(x) for x in batch))
    users, items = reference_embeddings(dataset, exact)
    np.testing.assert_allclose(encoded.users, users, atol=2e-6)
    np.testing.assert_allclose(encoded.items, items, atol=2e-6)
    np.testing.assert_allclose(value, reference_loss(dataset, exact, plain_batch), rtol=2e-6)

    leaves, structure = jax.tree.flatten(exact)
    rng = np.random.default_rng(0)
    for number, gradient in enumerate(jax.tree.leaves(gradients)):
        for _ in range(3):
            direction = rng.standard_normal(gradient.shape)

            def moved(step, number=number, direction=direction):
                changed = leaves[:number] + [leaves[number] + step * direction] + leaves[number + 1 :]
                return reference_loss(dataset, jax.tree.unflatten(structure, changed), plain_batch)

            slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
            np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("rounds", [0, 1])
def test_fewer_rounds_of_routing(rounds):
    dataset, params, _ = make_problem(2)
    encoded = encode(dataset, params, dataclasses.replace(HYPERPARAMETERS, rounds=rounds))
    users, items = reference_embeddings(dataset, to_float64(params), rounds)
    np.testing.assert_allclose(encoded.users, users, atol=2e-6)
    np.testing.assert_allclose(encoded.items, items, atol=2e-6)


def test_nodes_without_interactions_keep_their_own_rows():
    dataset, params, _ = make_problem(2)
    encoded, dim = encode(dataset, params), HYPERPARAMETERS.dim
    np.testing.assert_allclose(encoded.users[6, :dim], unit(params["id"][6]), atol=1e-6)
    np.testing.assert_allclose(encoded.users[6, dim : 2 * dim], unit(params["preference"]["0"][6]), atol=1e-6)
    np.testing.assert_allclose(encoded.items[8, :dim], unit(params["id"][USERS + 8]), atol=1e-6)


def test_gradients_of_zero_rows_are_finite():
    dataset, params, batch = make_problem(2)
    params["id"] = params["id"].at[jnp.array([1, 6, USERS + 3])].set(0)
    params["preference"]["0"] = params["preference"]["0"].at[5].set(0)
    params["content"]["0"]["bias"] = jnp.zeros(HYPERPARAMETERS.dim)  # item 2 has no content
    value, gradients, _ = loss_and_gradients(dataset, params, batch)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()


def test_the_first_modality_is_the_first_given_and_not_the_first_by_name():
    dataset, params, batch = make_problem(2)
    encoded = encode(dataset, params)
    # A score of nothing leaves log 2 of the ranking loss.
    loss = GRCN.loss(params, encoded, batch, lambda f, users, items: 0 * f, HYPERPARAMETERS, None) - np.log(2)
    exact, plain_batch = to_float64(params), Batch(*(np.asarray(x) for x in batch))
    assert list(dataset.features) == ["m9", "m8"]
    np.testing.assert_allclose(loss, reference_regulariser(exact, plain_batch), rtol=1e-5)
    assert abs(loss - reference_regulariser(exact, plain_batch, first="1")) > 1e-3
