"""Backbones on random graphs against dense float64 numpy.

MFBPR, LightGCN and VBPR are compared here; the other backbones have references of their own
beside this file, whose embeddings are compared here on further random graphs.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lists_reference import reference_similarity

from isolator_jax import scoring
from isolator_jax.backbones import BACKBONES, Batch
from isolator_jax.data import Dataset, Interactions
from isolator_jax.neighbours import nearest_neighbours
from isolator_jax.runs import make_problem
from isolator_jax.runs.config import RunConfig

REG, LAYERS = 0.3, 3


def random_dataset(seed, users=9, items=11):
    """A sparse random graph whose first user and last item have no interactions at all."""
    rng = np.random.default_rng(seed)
    density = rng.uniform(0.1, 0.6)
    pairs = np.argwhere(rng.random((users, items)) < density)
    pairs = pairs[(pairs[:, 0] != 0) & (pairs[:, 1] != items - 1)]
    label = rng.choice(3, size=len(pairs), p=[0.6, 0.2, 0.2])
    label[rng.choice(len(pairs), 3, replace=False)] = [0, 1, 2]
    splits = [Interactions.from_pairs(*pairs[label == part].T) for part in range(3)]
    features = {
        "image": rng.standard_normal((items, 5)).astype(np.float32) * np.exp(rng.uniform(-3, 3)),
        "text": rng.standard_normal((items, 3)).astype(np.float32),
    }
    features["text"][rng.integers(items)] = 0.0
    return Dataset(f"random {seed}", users, items, *splits, features)


def random_params(backbone, dataset, hyperparameters, seed):
    rng = np.random.default_rng(seed)
    params = backbone.init(jax.random.key(seed), dataset, hyperparameters)
    return jax.tree.map(lambda x: x + 0.3 * rng.standard_normal(x.shape).astype(np.float32), params)


def random_batch(dataset, seed, rows=7):
    """Any triples, isolated users and items and repetitions among them."""
    rng = np.random.default_rng(seed)
    sizes = (dataset.num_users, dataset.num_items, dataset.num_items)
    return Batch(*(jnp.asarray(rng.integers(size, size=rows), jnp.int32) for size in sizes))


def adjacency(dataset):
    """D^-1/2 A D^-1/2 of the training graph, dense."""
    nodes = dataset.num_users + dataset.num_items
    matrix = np.zeros((nodes, nodes))
    for user, item in zip(dataset.train.users, dataset.train.items, strict=True):
        matrix[user, dataset.num_users + item] = matrix[dataset.num_users + item, user] = 1
    degrees = matrix.sum(axis=1)
    scale = np.array([degree**-0.5 if degree else 0.0 for degree in degrees])
    return scale[:, None] * matrix * scale


def reference_embeddings(name, dataset, params):
    if name == "mfbpr":
        return params["user"], params["item"]
    if name == "lightgcn":
        graph, layer = adjacency(dataset), np.concatenate([params["user"], params["item"]])
        layers = [layer]
        for _ in range(LAYERS):
            layers.append(graph @ layers[-1])
        mean = np.mean(layers, axis=0)
        return mean[: dataset.num_users], mean[dataset.num_users :]
    raw = np.concatenate([np.asarray(x, np.float64) for x in dataset.features.values()], axis=1)
    content = np.array([params["projection"]["weight"] @ x + params["projection"]["bias"] for x in raw])
    return params["user"], np.concatenate([params["item"], content], axis=1)


def reference_loss(name, dataset, params, batch, similarity, gamma):
    """BPR on ELU'(f) * sigmoid(s)^gamma (on f without gamma), and reg times norms over the batch size."""
    users, items = reference_embeddings(name, dataset, params)
    terms = []
    for user, positive, negative in zip(*map(np.asarray, batch), strict=True):
        scores = []
        for item in (positive, negative):
            f = users[user] @ items[item]
            if gamma is not None:
                f = (f + 1 if f > 0 else np.exp(f)) * (1 + np.exp(-similarity[user, item])) ** -gamma
            scores.append(f)
        terms.append(np.logaddexp(0, scores[1] - scores[0]))
    of_users, of_items = (params["user"], params["item"]) if name == "lightgcn" else (users, items)
    rows = of_users[batch.users], of_items[batch.positives], of_items[batch.negatives]
    return np.mean(terms) + REG * sum(np.sqrt(np.sum(x**2)) for x in rows) / len(terms)


def wide(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("gamma", [None, 0.7])
@pytest.mark.parametrize("name", ["mfbpr", "lightgcn", "vbpr"])
def test_embeddings_loss_and_gradient_equal_the_reference(name, gamma, seed):
    dataset = random_dataset(seed)
    hparams = {"dim": 4, "reg": REG, **({"layers": LAYERS} if name == "lightgcn" else {})}
    config = RunConfig(backbone=name, hparams=hparams)
    backbone, hyperparameters = BACKBONES[name], config.hyperparameters
    problem, batch = make_problem(config, dataset), random_batch(dataset, seed)
    inputs, params = (
        backbone.prepare(dataset, hyperparameters, find_neighbours=nearest_neighbours),
        random_params(backbone, dataset, hyperparameters, seed),
    )

    def loss(params):
        encoded = backbone.encode(params, inputs, hyperparameters)
        score = lambda f, users, items: (
            f if gamma is None else scoring.training_score(f, problem.content.similarity.pairs(users, items), gamma)
        )
        return backbone.loss(params, encoded, batch, score, hyperparameters, jax.random.key(0)), encoded

    with jax.debug_nans(True):
        (value, encoded), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    expected = reference_embeddings(name, dataset, wide(params))
    for found, wanted in zip((encoded.users, encoded.items), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    _, similarity = reference_similarity(dataset)
    of_loss = lambda params: reference_loss(name, dataset, params, batch, similarity, gamma)
    np.testing.assert_allclose(value, of_loss(wide(params)), rtol=1e-5)
    rng = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(wide(params))
    for number, slope in enumerate(jax.tree.leaves(gradient)):
        direction, slope = rng.standard_normal(slope.shape), np.asarray(slope, np.float64)
        values = [
            of_loss(jax.tree.unflatten(structure, [*leaves[:number], moved, *leaves[number + 1 :]]))
            for moved in (leaves[number] + 1e-6 * direction, leaves[number] - 1e-6 * direction)
        ]
        difference = (values[0] - values[1]) / 2e-6
        assert abs(difference - np.sum(slope * direction)) <= 1e-3 * np.linalg.norm(slope) + 1e-7


@pytest.mark.parametrize("name", ["grcn", "slmrec", "mgcn", "gume", "freedom", "smore", "lgmrec"])
def test_a_node_order_is_no_information(name):
    """Renumbering users and items renumbers the embeddings: nothing leaks between unconnected nodes."""
    dataset = random_dataset(2)
    rng = np.random.default_rng(2)
    # No item without content: it is equally near to all, and ids decide which are its neighbours.
    features = {name: x + rng.standard_normal(x.shape).astype(np.float32) for name, x in dataset.features.items()}
    dataset = dataclasses.replace(dataset, features=features)
    users, items = rng.permutation(dataset.num_users), rng.permutation(dataset.num_items)
    moved = dataclasses.replace(
        dataset,
        train=Interactions.from_pairs(users[dataset.train.users], items[dataset.train.items]),
        features={name: feature[np.argsort(items)] for name, feature in dataset.features.items()},
    )
    backbone = BACKBONES[name]
    hyperparameters = RunConfig(backbone=name, hparams={"dim": 4}).hyperparameters
    params = random_params(backbone, dataset, hyperparameters, 2)
    nodes = np.concatenate([np.argsort(users), dataset.num_users + np.argsort(items)])
    order = {dataset.num_users: np.argsort(users), dataset.num_items: np.argsort(items), len(nodes): nodes}
    table = lambda x: x[order[x.shape[0]]] if x.ndim == 2 and x.shape[0] in order else x
    found = backbone.encode(
        jax.tree.map(table, params),
        backbone.prepare(moved, hyperparameters, find_neighbours=nearest_neighbours),
        hyperparameters,
    )
    plain = backbone.encode(
        params, backbone.prepare(dataset, hyperparameters, find_neighbours=nearest_neighbours), hyperparameters
    )
    np.testing.assert_allclose(found.users, plain.users[np.argsort(users)], atol=2e-5)
    np.testing.assert_allclose(found.items, plain.items[np.argsort(items)], atol=2e-5)
