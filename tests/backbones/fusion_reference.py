"""What the tests of MGCN and GUME share: small problems, and float64 numpy in dense matrices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from isolator_jax.backbones import Batch
from isolator_jax.data import Dataset, Interactions

USERS, ITEMS, ROWS = 6, 9, 5


def make_dataset(modalities):
    """User 5 and item 8 have no interactions; item 2 has no content in the first modality."""
    rng = np.random.default_rng(modalities)
    pairs = sorted({(rng.integers(5), rng.integers(8)) for _ in range(20)})
    train = Interactions.from_pairs(*np.array(pairs).T)
    # Names against the alphabet: under jit a dictionary's order is that of its names.
    features = {f"m{9 - m}": rng.standard_normal((ITEMS, 3 + m)).astype(np.float32) for m in range(modalities)}
    features["m9"][2] = 0
    return Dataset("made", USERS, ITEMS, train, train, train, features)


def make_params(backbone, dataset, hyperparameters):
    """Parameters with every bias and table away from its initial value."""
    rng = np.random.default_rng(7)
    params = backbone.init(jax.random.key(1), dataset, hyperparameters)
    return jax.tree.map(lambda x: x + 0.3 * rng.standard_normal(x.shape).astype(np.float32), params)


def make_batch():
    """A batch with a repeated user, a repeated item, the isolated user and the isolated item."""
    users, positives, negatives = [0, 3, 3, 5, 1], [2, 4, 8, 2, 0], [7, 1, 8, 0, 5]
    return Batch(*(jnp.array(ids, jnp.int32) for ids in (users, positives, negatives)))


def wide(tree):
    """The same parameters in float64 numpy."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer(params, x):
    return x @ params["weight"].T + params["bias"]


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def normalized(adjacency):
    """D^-1/2 A D^-1/2, D the row sums."""
    scale = np.array([1 / np.sqrt(s) if s > 0 else 0.0 for s in adjacency.sum(axis=1)])
    return scale[:, None] * adjacency * scale[None, :]


def interactions(dataset):
    """A, `[N, N]`."""
    matrix = np.zeros((USERS + ITEMS, USERS + ITEMS))
    for user, item in zip(dataset.train.users, dataset.train.items, strict=True):
        matrix[user, USERS + item] = matrix[USERS + item, user] = 1
    return matrix


def neighbour_lists(features, k):
    """Each item's k nearest items, itself among them, and their cosines `[I, I]`."""
    e = unit(np.asarray(features, np.float64))
    cosines = e @ e.T
    return [sorted(range(ITEMS), key=lambda j, row=row: (-round(row[j], 9), j))[:k] for row in cosines], cosines


def item_matrix(features, k):
    lists, cosines = neighbour_lists(features, k)
    weights = np.zeros((ITEMS, ITEMS))
    for i, neighbours in enumerate(lists):
        for j in neighbours:
            weights[i, j] = max(cosines[i, j], 0.0)
    return normalized(weights)


def mean_of_layers(matrix, x, layers):
    return sum(np.linalg.matrix_power(matrix, power) @ x for power in range(layers + 1)) / (layers + 1)


def purified(params, name):
    """id_i * sigmoid(G (W x_i + b) + g), item by item."""
    layers = params["content"][name]
    rows = []
    for item, x in zip(params["item"], params["features"][name], strict=True):
        y = layers["projection"]["weight"] @ x + layers["projection"]["bias"]
        rows.append(item * sigmoid(layers["purifier"]["weight"] @ y + layers["purifier"]["bias"]))
    return np.array(rows)


def fuse(params, identity, views):
    """The fuser, node by node. Returns the side."""
    side = np.zeros_like(identity)
    query, score = params["attention"]["query"], params["attention"]["score"]["weight"][0]
    for node in range(len(identity)):
        q = {name: score @ np.tanh(layer(query, view[node])) for name, view in views.items()}
        total = sum(np.exp(value) for value in q.values())
        common = sum(np.exp(q[name]) / total * view[node] for name, view in views.items())
        side[node] = common
        for name, view in views.items():
            side[node] += sigmoid(layer(params["content"][name]["gate"], identity[node])) * (view[node] - common)
    return side / (len(views) + 1)


def bpr(output, batch):
    losses = []
    for user, positive, negative in zip(*batch, strict=True):
        margin = output[user] @ (output[USERS + positive] - output[USERS + negative])
        losses.append(np.log1p(np.exp(-margin)))
    return np.mean(losses)


def squares(output, batch):
    """Sum of squares of the output rows of users, positives and negatives."""
    users, positives, negatives = batch
    nodes = itertools.chain(users, USERS + positives, USERS + negatives)
    return sum(np.sum(output[node] ** 2) for node in nodes)


def info_nce(anchors, positives, temperature):
    """Of l2-normalised rows, anchor by anchor."""
    a, p = unit(anchors), unit(positives)
    terms = []
    for row in range(len(a)):
        logits = [a[row] @ other / temperature for other in p]
        terms.append(np.log(sum(np.exp(logit) for logit in logits)) - logits[row])
    return np.mean(terms)


def assert_gradient_equals_differences(gradient, reference, params, rtol, zero=()):
    """Each parameter's gradient against central differences of the float64 reference.

    One random direction for each parameter: its derivative is the inner product with the
    gradient. Parameters under a name in `zero` must have a gradient of zero, no others.
    """
    rng = np.random.default_rng(11)
    leaves, structure = jax.tree.flatten(wide(params))
    for number, (path, slope) in enumerate(jax.tree_util.tree_leaves_with_path(gradient)):
        name = jax.tree_util.keystr(path)
        direction, slope = rng.standard_normal(slope.shape), np.asarray(slope, np.float64)
        if any(part in name for part in zero):
            assert np.abs(slope).max() < 1e-7, name
            continue
        values = []
        for shift in (1e-5, -1e-5):
            moved = [*leaves[:number], leaves[number] + shift * direction, *leaves[number + 1 :]]
            values.append(reference(jax.tree.unflatten(structure, moved)))
        difference, size = (values[0] - values[1]) / 2e-5, np.linalg.norm(slope)
        assert size > 1e-5, f"no gradient reaches {name}"
        assert abs(difference - np.sum(slope * direction)) <= rtol * size, name
