"""FREEDOM against a float64 numpy reference, and the draw of its graph."""

import dataclasses
import itertools

import fusion_reference as ref
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.backbones import freedom
from isolator_jax.backbones.freedom import FREEDOM, FREEDOMHyperparameters
from isolator_jax.graph import bipartite_graph
from isolator_jax.neighbours import nearest_neighbours
from isolator_jax.runs import make_learner, make_problem
from isolator_jax.runs.config import RunConfig
from isolator_jax.training import Checkpoints

# Seven neighbours of nine items: some of them at a negative cosine.
HYPERPARAMETERS = FREEDOMHyperparameters(
    dim=4, layers=3, item_layers=2, neighbours=7, image_weight=0.3, dropout=0.6, reg=0.7
)


def problem(modalities, hyperparameters=HYPERPARAMETERS):
    dataset = ref.make_dataset(modalities)
    if modalities == 2:
        dataset = dataclasses.replace(
            dataset, features=dict(zip(("text", "image"), dataset.features.values(), strict=True))
        )
    inputs = FREEDOM.prepare(dataset, hyperparameters, find_neighbours=nearest_neighbours)
    return dataset, ref.make_params(FREEDOM, dataset, hyperparameters), inputs


def some_kept(dataset):
    """A third of the interactions, those of user 1 not among them."""
    return (np.arange(len(dataset.train)) % 3 == 0) & (dataset.train.users != 1)


def reference_output(dataset, params, kept):
    graph = np.zeros((ref.USERS + ref.ITEMS, ref.USERS + ref.ITEMS))
    for user, item in zip(dataset.train.users[kept], dataset.train.items[kept], strict=True):
        graph[user, ref.USERS + item] = graph[ref.USERS + item, user] = 1
    nodes = ref.mean_of_layers(ref.normalized(graph), np.concatenate([params["user"], params["item"]]), 3)
    weights = {"image": 0.3, "text": 0.7} if len(dataset.features) == 2 else {}
    similar = np.zeros((ref.ITEMS, ref.ITEMS))
    for name, features in dataset.features.items():
        lists, _ = ref.neighbour_lists(features, 7)
        for i, neighbours in enumerate(lists):
            if not features[i].any():
                continue  # without features an item has no neighbours
            similar[i, neighbours] += weights.get(name, 1 / len(dataset.features)) / 7
    nodes[ref.USERS :] += similar @ similar @ params["item"]
    return nodes


def reference_loss(dataset, params, kept, batch):
    output = reference_output(dataset, params, kept)
    batch = [np.asarray(ids) for ids in batch]
    total = ref.bpr(output, batch)
    for name, layer in params["projection"].items():
        content = params["features"][name] @ layer["weight"].T + layer["bias"]
        total += 0.7 * ref.bpr(np.concatenate([output[: ref.USERS], content]), batch)
    return total


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_embeddings_loss_and_gradients_equal_the_reference(modalities):
    dataset, params, inputs = problem(modalities)
    batch, kept = ref.make_batch(), some_kept(dataset)
    pruned = freedom.prune(inputs, jnp.asarray(kept), int(kept.sum()))

    @jax.jit
    def encode(params, inputs):
        return FREEDOM.encode(params, inputs, HYPERPARAMETERS)

    def loss(params):
        encoded = encode(params, pruned)
        return FREEDOM.loss(params, encoded, batch, lambda f, users, items: f, HYPERPARAMETERS, None)

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, reference_loss(dataset, ref.wide(params), kept, batch), rtol=1e-5)
    ref.assert_gradient_equals_differences(
        gradient, lambda p: reference_loss(dataset, p, kept, batch), params, rtol=1e-4, zero=("bias",)
    )
    everything = np.ones(len(dataset.train), bool)
    for found, mask in ((inputs, everything), (pruned, kept)):
        encoded = encode(params, found)
        expected = reference_output(dataset, ref.wide(params), mask)
        np.testing.assert_allclose(np.concatenate([encoded.users, encoded.items]), expected, atol=1e-5)


def test_the_score_enters_the_first_bpr_alone():
    _, params, inputs = problem(2)
    batch = ref.make_batch()
    encoded = FREEDOM.encode(params, inputs, HYPERPARAMETERS)
    of = lambda factor, reg: FREEDOM.loss(
        params, encoded, batch, lambda f, u, i: factor * f, dataclasses.replace(HYPERPARAMETERS, reg=reg), None
    )
    np.testing.assert_allclose(of(3.0, 0.7) - of(3.0, 0.0), of(1.0, 0.7) - of(1.0, 0.0), rtol=1e-5)
    assert of(3.0, 0.0) != of(1.0, 0.0)


@pytest.mark.parametrize(
    ("interactions", "dropout", "expected"),
    [(272, 0.8, 54), (118551, 0.8, 23710), (10, 0.9, 0), (5, 0.8, 0), (7, 0.0, 7), (7, 1.0, 0)],
)
def test_as_many_are_kept_as_double_precision_says(interactions, dropout, expected):
    assert freedom.kept_interactions(interactions, dropout) == expected


def chances_of_sets(weights, count):
    """The probability of each set under successive draws by weight among those left."""
    chances = {}
    for order in itertools.permutations(range(len(weights)), count):
        left, chance = sum(weights), 1.0
        for number in order:
            chance *= weights[number] / left
            left -= weights[number]
        chances[frozenset(order)] = chances.get(frozenset(order), 0.0) + chance
    return chances


@pytest.mark.parametrize(("weights", "count"), [([1.0, 1.0, 1.0, 1.0], 2), ([8.0, 4.0, 2.0, 1.0, 0.5], 3)])
def test_every_set_is_drawn_as_often_as_successive_draws_draw_it(weights, count):
    draws = 40_000
    keys = jax.random.split(jax.random.key(0), draws)
    log_chances = jnp.log(jnp.array(weights))
    drawn = np.asarray(jax.vmap(lambda key: freedom.draw(key, log_chances, count))(keys))
    assert (drawn.sum(axis=1) == count).all()
    for members, chance in chances_of_sets(weights, count).items():
        share = (drawn == np.isin(np.arange(len(weights)), list(members))).all(axis=1).mean()
        assert abs(share - chance) < 5 * np.sqrt(chance * (1 - chance) / draws), members


def test_an_epochs_graph_is_that_of_its_interactions_and_the_whole_one_stays():
    dataset, _, inputs = problem(1)
    train, whole = dataset.train, inputs["graph"]
    degrees = np.bincount(train.users)[train.users] * np.bincount(train.items)[train.items]
    np.testing.assert_allclose(np.exp(inputs["log_chances"]), degrees**-0.5, rtol=1e-6)
    draw = jax.jit(FREEDOM.per_epoch)
    graphs = []
    for seed in range(5):
        graph = draw(jax.random.key(seed), inputs, HYPERPARAMETERS)["graph"]
        users = np.asarray(graph.senders)[np.asarray(graph.receivers) >= ref.USERS]
        items = np.asarray(graph.receivers)[np.asarray(graph.receivers) >= ref.USERS] - ref.USERS
        assert len(users) == freedom.kept_interactions(len(train), 0.6) < len(train)
        assert set(zip(users, items, strict=True)) <= set(zip(train.users, train.items, strict=True))
        expected = bipartite_graph(users, items, ref.USERS, ref.ITEMS)
        assert jax.tree.structure(graph) == jax.tree.structure(expected)
        for found, array in zip(jax.tree.leaves(graph), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(found, array, rtol=1e-6)
            assert found.dtype == array.dtype
        graphs.append(frozenset(zip(users.tolist(), items.tolist(), strict=True)))
    assert len(set(graphs)) == 5
    assert inputs["graph"] is whole


@pytest.mark.slow
def test_a_resumed_run_draws_what_the_uninterrupted_one_does(small_dataset, tmp_path):
    config = RunConfig(backbone="freedom", hparams={"dim": 4}, batch_size=1024, training_strategy=False)
    problem = make_problem(config, small_dataset)

    def go_on(state, epochs):
        learner = make_learner(config, problem)
        for _ in range(epochs):
            train, _, _ = learner.train_epoch(state.train)
            state = dataclasses.replace(state, train=train)
        return state

    start = lambda: make_learner(config, problem).initial_state(5)
    uninterrupted = go_on(start(), 3)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, go_on(start(), 1))
        resumed = go_on(checkpoints.restore_latest(start()), 2)
    for found, expected in zip(jax.tree.leaves(resumed.train), jax.tree.leaves(uninterrupted.train), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_without_dropout_every_epoch_has_the_whole_graph():
    hyperparameters = dataclasses.replace(HYPERPARAMETERS, dropout=0.0)
    _, _, inputs = problem(1, hyperparameters)
    assert FREEDOM.per_epoch(jax.random.key(0), inputs, hyperparameters) is inputs


def test_features_start_raw_and_are_trained_and_the_item_graph_stays_as_the_raw_ones_made_it():
    dataset, _, inputs = problem(2)
    params = FREEDOM.init(jax.random.key(0), dataset, HYPERPARAMETERS)
    for name, feature in dataset.features.items():
        np.testing.assert_array_equal(params["features"][name], feature)
    drawn = jax.jit(FREEDOM.per_epoch)(jax.random.key(0), inputs, HYPERPARAMETERS)
    for found, made in zip(*(jax.tree.leaves(x["item_graph"]) for x in (drawn, inputs)), strict=True):
        np.testing.assert_array_equal(found, made)

    def loss(params):
        encoded = FREEDOM.encode(params, drawn, HYPERPARAMETERS)
        return FREEDOM.loss(params, encoded, ref.make_batch(), lambda f, u, i: f, HYPERPARAMETERS, None), encoded

    step = jax.jit(jax.grad(loss, has_aux=True))
    gradient, before = step(params)
    trained = jax.tree.map(lambda x, slope: x - slope, params["features"], gradient["features"])
    for name, feature in dataset.features.items():
        assert np.abs(trained[name] - feature).max() > 0
    _, after = step({**params, "features": trained})
    np.testing.assert_array_equal(after.users, before.users)
    np.testing.assert_array_equal(after.items, before.items)
