"""SLMRec against a float64 numpy reference with dense matrices and loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.backbones import Batch, slmrec
from isolator_jax.backbones.slmrec import SLMREC, SLMRecHyperparameters
from isolator_jax.content import make_content
from isolator_jax.data import Dataset, Interactions
from isolator_jax.neighbours import nearest_neighbours
from isolator_jax.training import make_score

USERS, ITEMS, ROWS = 6, 8, 5
HYPERPARAMETERS = SLMRecHyperparameters(dim=6, layers=3, contrast=0.4, contrast_temperature=0.7)


def make_problem(modalities, seed=0):
    """User 5 and item 7 are isolated; item 2 has no content in the first modality."""
    rng = np.random.default_rng(modalities + 10 * seed)
    pairs = sorted({(rng.integers(5), rng.integers(7)) for _ in range(18)})
    users, items = np.array(pairs).T
    features = {f"m{9 - m}": rng.standard_normal((ITEMS, 4 + m)).astype(np.float32) for m in range(modalities)}
    features["m9"][2] = 0
    train = Interactions.from_pairs(users, items)
    dataset = Dataset("made", USERS, ITEMS, train, train, train, features)
    params = SLMREC.init(jax.random.key(1), dataset, HYPERPARAMETERS)
    params = jax.tree.map(lambda x: x + 0.3 * rng.standard_normal(x.shape).astype(np.float32), params)
    batch = Batch(*(jnp.asarray(rng.integers(n, size=ROWS), jnp.int32) for n in (USERS, ITEMS, ITEMS)))
    return dataset, params, batch


def unit(x):
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.maximum(norm, 1e-12)


def layer(params, x):
    return x @ np.asarray(params["weight"], np.float64).T + np.asarray(params["bias"], np.float64)


def reference_embeddings(dataset, params):
    adjacency = np.zeros((USERS + ITEMS, USERS + ITEMS))
    for user, item in zip(dataset.train.users, dataset.train.items, strict=True):
        adjacency[user, USERS + item] = adjacency[USERS + item, user] = 1
    degree = adjacency.sum(axis=1)
    scale = np.array([1 / np.sqrt(d) if d else 0.0 for d in degree])
    normal = scale[:, None] * adjacency * scale
    tables = [np.asarray(params["item"], np.float64)]
    for number, x in enumerate(dataset.features.values()):
        tables.append(layer(params["projection"][str(number)], unit(np.asarray(x, np.float64))))
    views = []
    for table in tables:
        nodes = np.concatenate([np.asarray(params["user"], np.float64), table])
        views.append(sum(np.linalg.matrix_power(normal, power) @ nodes for power in range(4)) / 4)
    fused = np.concatenate(views, axis=1)
    users = layer(params["fuse_user"], fused[:USERS])
    items = layer(params["fuse_item"], fused[USERS:])
    return users, items, [view[USERS:] for view in views]


def softmax_loss(logits):
    """Cross entropy of the diagonal, a row at a time."""
    rows = [np.log(np.exp(row).sum()) - row[number] for number, row in enumerate(logits)]
    return np.mean(rows)


def reference_contrasts(params, views, positives):
    first, *modalities = (view[positives] for view in views)
    contrast = lambda a, b: softmax_loss(a @ b.T / 0.7)
    z = layer(params["merge"]["0"], first)
    terms = [contrast(z, layer(params["compare"]["0"], modalities[0]))]
    if len(modalities) == 2:
        z = layer(params["merge"]["1"], z)
    if len(modalities) == 3:
        z = layer(params["merge"]["1"], z)
        terms.append(contrast(z, layer(params["compare"]["1"], modalities[1])))
    if len(modalities) > 1:
        last = layer(params["last_compare"], modalities[-1])
        assert last.shape[1] == HYPERPARAMETERS.dim // 2
        terms.append(contrast(layer(params["last_merge"], z), last))
    return sum(terms)


def reference_factors(dataset, batch, gamma, fusion):
    """sigmoid(s)^gamma of every pair (u_a, positive_b)."""
    factors = np.zeros((ROWS, ROWS))
    for a, user in enumerate(np.asarray(batch.users)):
        own = dataset.train.items[dataset.train.users == user]
        for b, item in enumerate(np.asarray(batch.positives)):
            s = []
            for x in dataset.features.values():
                e = unit(np.asarray(x, np.float64))
                s.append(np.mean([e[item] @ e[j] for j in own]) if own.size else 0.0)
            sigmoid = lambda x: 1 / (1 + np.exp(-x))
            fused = sigmoid(np.mean(s)) if fusion == "mean" else np.mean([sigmoid(x) for x in s])
            factors[a, b] = fused**gamma
    return factors


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("fusion", ["mean", "per_modality"])
@pytest.mark.parametrize("gamma", [None, 0.7])
@pytest.mark.parametrize("seed", range(2))
def test_embeddings_and_losses_equal_the_reference(modalities, fusion, gamma, seed):
    dataset, params, batch = make_problem(modalities, seed)
    inputs = SLMREC.prepare(dataset, HYPERPARAMETERS, find_neighbours=nearest_neighbours)
    encoded = jax.jit(lambda p, i: SLMREC.encode(p, i, HYPERPARAMETERS))(params, inputs)
    users, items, expected_views = reference_embeddings(dataset, params)
    np.testing.assert_allclose(encoded.users, users, atol=1e-5)
    np.testing.assert_allclose(encoded.items, items, atol=1e-5)

    positives = np.asarray(batch.positives)
    views = jnp.split(encoded.extras.items.rows(batch.positives).views(), modalities + 1, axis=1)
    contrasts = slmrec.contrasts(params, views, HYPERPARAMETERS.contrast_temperature)
    np.testing.assert_allclose(contrasts, reference_contrasts(params, expected_views, positives), rtol=1e-5)

    content = make_content(dataset.features, dataset.train.histories(USERS), fusion=fusion)
    ranking = slmrec.softmax_loss(
        encoded.users[batch.users],
        encoded.items[batch.positives],
        batch,
        make_score(content.similarity, gamma),
        HYPERPARAMETERS.temperature,
    )
    cosines = unit(users[np.asarray(batch.users)]) @ unit(items[positives]).T
    if gamma is not None:
        elu = np.where(cosines > 0, cosines + 1, np.exp(cosines))
        cosines = elu * reference_factors(dataset, batch, gamma, fusion)
    np.testing.assert_allclose(ranking, softmax_loss(cosines / 0.2), rtol=1e-5)


def test_weight_decay_is_added_to_the_gradient_before_adam():
    hyperparameters = dataclasses.replace(HYPERPARAMETERS, weight_decay=0.5, learning_rate=0.1)
    optimizer = SLMREC.optimizer(hyperparameters, 10)
    params, gradient = jnp.array([2.0, -4.0, 1.0]), jnp.array([0.0, 1.0, -0.5])
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    decayed = np.array([1.0, -1.0, 0.0])
    np.testing.assert_allclose(updates, -0.1 * np.sign(decayed), atol=1e-6)
