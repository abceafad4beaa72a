"""GUME against a float64 numpy reference; its noise."""

import dataclasses
import itertools

import fusion_reference as ref
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.backbones import gume
from isolator_jax.backbones.gume import GUME, GUMEHyperparameters
from isolator_jax.neighbours import nearest_neighbours

# Every term weighs in: with the published weights a wrong one would hide among the others.
HYPERPARAMETERS = GUMEHyperparameters(
    dim=4,
    neighbours=6,
    layers=2,
    item_layers=3,
    reg1=0.5,
    reg2=0.8,
    vt=0.9,
    bm=0.6,
    bm_temperature=0.4,
    um=0.7,
    um_temperature=0.3,
    perturbation=0.0,
    norm_batch=7,
)


def enhanced(dataset):
    """A with item edges, normalised; an item without features in one modality has none."""
    known = np.all([features.any(axis=1) for features in dataset.features.values()], axis=0)
    lists = [ref.neighbour_lists(features, 6)[0] for features in dataset.features.values()]
    adjacency = ref.interactions(dataset)
    for i, j in itertools.product(range(ref.ITEMS), repeat=2):
        if i != j and known[i] and all(j in neighbours[i] for neighbours in lists):
            adjacency[ref.USERS + i, ref.USERS + j] = 1
    assert (adjacency != adjacency.T).any()
    return ref.normalized(adjacency)


def reference_views(dataset, params):
    graph = enhanced(dataset)
    identity = ref.mean_of_layers(graph, np.concatenate([params["user"], params["item"]]), 2)
    explicit, extended = {}, []
    for name, features in dataset.features.items():
        items = np.linalg.matrix_power(ref.item_matrix(features, 6), 3) @ ref.purified(params, name)
        explicit[name] = np.concatenate([graph[: ref.USERS, ref.USERS :] @ items, items])
        extended.append(ref.mean_of_layers(graph, np.concatenate([params["extended"][name], items]), 2))
    return identity, explicit, sum(extended) / len(extended)


def reference_moments(views):
    """Mean over pairs of |difference of variances| + |difference of means|, entry by entry."""
    moments = []
    for view in views:
        entries = view.reshape(-1)
        mean = sum(entries) / len(entries)
        moments.append((sum((x - mean) ** 2 for x in entries) / (len(entries) - 1), mean))
    differences = [abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in itertools.combinations(moments, 2)]
    return np.mean(differences) if differences else 0.0


def reference_loss(dataset, params, batch):
    identity, explicit, extended = reference_views(dataset, params)
    integration = ref.fuse(params, identity, explicit)
    output = identity + integration
    batch = [np.asarray(ids) for ids in batch]
    users, positives = batch[0], ref.USERS + batch[1]
    behaviour = sum(ref.info_nce(integration[rows], identity[rows], 0.4) for rows in (users, positives))
    contrast = sum(
        ref.info_nce(a[users], b[users], 0.3)
        for a, b in ((extended, integration), (integration, integration), (extended, extended))
    )
    return (
        ref.bpr(output, batch)
        + 0.5 / 2 * ref.squares(output, batch) / 7
        + 0.8 / 2 * np.sum(extended[positives] ** 2) / 7
        + 0.9 * reference_moments(explicit.values())
        + 0.6 * behaviour
        + 0.7 * contrast
    )


def loss_function(inputs, batch, hyperparameters):
    def loss(params, key):
        encoded = GUME.encode(params, inputs, hyperparameters)
        return GUME.loss(params, encoded, batch, lambda f, users, items: f, hyperparameters, key), encoded

    return loss


def problem(modalities):
    dataset = ref.make_dataset(modalities)
    params = ref.make_params(GUME, dataset, HYPERPARAMETERS)
    return dataset, params, GUME.prepare(dataset, HYPERPARAMETERS, find_neighbours=nearest_neighbours), ref.make_batch()


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_embeddings_loss_and_gradients_equal_the_reference(modalities):
    dataset, params, inputs, batch = problem(modalities)
    loss = jax.jit(jax.value_and_grad(loss_function(inputs, batch, HYPERPARAMETERS), has_aux=True))
    (value, encoded), gradient = loss(params, jax.random.key(0))
    identity, explicit, _ = reference_views(dataset, ref.wide(params))
    expected = identity + ref.fuse(ref.wide(params), identity, explicit)
    np.testing.assert_allclose(encoded.users, expected[: ref.USERS], atol=1e-5)
    np.testing.assert_allclose(encoded.items, expected[ref.USERS :], atol=1e-5)
    np.testing.assert_allclose(value, reference_loss(dataset, ref.wide(params), batch), rtol=1e-5)
    zero = ("attention", "gate") if modalities == 1 else ()  # the one view is the common one
    ref.assert_gradient_equals_differences(
        gradient, lambda p: reference_loss(dataset, p, batch), params, rtol=1e-4, zero=zero
    )


@pytest.mark.parametrize("views", [1, 2, 3, 4])
def test_moment_differences(views):
    rng = np.random.default_rng(views)
    arrays = [rng.normal(rng.normal(), 1 + view, size=(3, 2)) for view in range(views)]
    narrow = [jnp.asarray(array, jnp.float32) for array in arrays]
    np.testing.assert_allclose(gume.moment_difference(narrow), reference_moments(arrays), rtol=1e-5)

    def total(arrays):
        return reference_moments([np.asarray(array, np.float64) for array in arrays])

    gradient = jax.grad(gume.moment_difference)(narrow)
    ref.assert_gradient_equals_differences(gradient, total, narrow, rtol=1e-3, zero=("",) if views == 1 else ())


def test_equal_views_have_no_moment_difference_and_a_finite_gradient():
    view = jnp.arange(6.0).reshape(3, 2)
    value, gradient = jax.value_and_grad(lambda x: gume.moment_difference([x, view]))(view)
    assert value == 0 and np.isfinite(gradient).all()


def test_noise_follows_the_signs_has_the_given_length_and_depends_on_the_key():
    x = jnp.array([[1.0, -2.0, 0.5], [-1.0, 0.0, 3.0]])
    noise = np.asarray(gume.perturb(jax.random.key(0), x, 0.1) - x)
    assert (noise * np.sign(x) >= 0).all() and noise[1, 1] == 0 and (noise[x != 0] != 0).all()
    np.testing.assert_allclose(np.linalg.norm(noise[0]), 0.1, rtol=1e-5)
    wide = jnp.ones((200, 16))
    noise = np.asarray(gume.perturb(jax.random.key(0), wide, 0.1) - wide)
    np.testing.assert_allclose(np.linalg.norm(noise, axis=1), 0.1, rtol=1e-4)
    assert np.ptp(noise, axis=0).min() > 0.01 and noise.min() >= 0  # uniform in [0, 1), every row its own
    other = np.asarray(gume.perturb(jax.random.key(1), wide, 0.1) - wide)
    assert np.abs(noise - other).mean() > 0.001
    gradient = jax.grad(lambda x: gume.perturb(jax.random.key(0), x, 0.1).sum())(x)
    np.testing.assert_array_equal(gradient, np.ones_like(x))


def test_the_four_perturbed_views_are_perturbed_apart(monkeypatch):
    _, params, inputs, batch = problem(2)
    batch = batch._replace(users=jnp.arange(5))  # all but the isolated one, whose content is zero
    pairs = []
    monkeypatch.setattr(gume.fusion, "cosine_info_nce", lambda a, b, temperature: pairs.append((a, b)) or 0.0)
    loss = loss_function(inputs, batch, dataclasses.replace(HYPERPARAMETERS, perturbation=0.1))

    @jax.jit
    def compared(params, key):
        loss(params, key)
        return pairs

    # The first two are of the behaviour: at users and at positives.
    _, _, unperturbed, of_extended, of_integration = compared(params, jax.random.key(3))
    noises = []
    for view, pair in zip(unperturbed, (of_extended, of_integration), strict=True):
        for other in pair:
            np.testing.assert_allclose(np.linalg.norm(other - view, axis=1), 0.1, rtol=1e-4)
            noises.append(np.abs(other - view))
    for a, b in itertools.combinations(noises, 2):
        assert np.abs(a - b).mean() > 0.01


def test_the_loss_depends_on_the_key_through_the_noise():
    _, params, inputs, batch = problem(2)
    hyperparameters = dataclasses.replace(HYPERPARAMETERS, perturbation=0.1)
    loss = jax.jit(loss_function(inputs, batch, hyperparameters))
    first, same, other = (float(loss(params, jax.random.key(number))[0]) for number in (0, 0, 1))
    assert first == same and abs(first - other) > 1e-5
