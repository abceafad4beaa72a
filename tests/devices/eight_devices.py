"""Tests that need a mesh of several devices; `test_placement.py` runs them in processes that have eight.

By hand: XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m pytest tests/devices/eight_devices.py
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from isolator_jax import checks
from isolator_jax import graph as graphs
from isolator_jax.backbones import BACKBONES, Encoded
from isolator_jax.backbones.freedom import normalized_by_degree
from isolator_jax.consistency import content_consistency, fill_undefined
from isolator_jax.content import Content, make_content
from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset
from isolator_jax.devices.graph import partition
from isolator_jax.devices.mesh import AXIS, make_mesh
from isolator_jax.devices.placement import make_placement
from isolator_jax.devices.ranking import count_hits_on, place_similarity, top_k_lists_on
from isolator_jax.errors import ConfigError
from isolator_jax.evaluation import count_hits, top_k_lists
from isolator_jax.features import fuse_channels
from isolator_jax.histories import Histories
from isolator_jax.runs import evaluate_problem, load_run, make_learner, make_problem, strategies_of, train_run
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.plan import plan_memory
from isolator_jax.similarity import similarity_on_the_fly
from isolator_jax.strategies import d_isolator, u_isolator
from tests.hyperparameters import every_loop_once

# 31 users and 22 items: no table divides evenly by 4 or 8, nor does a batch.
CONFIG = SyntheticConfig(users=31, items=22, clusters=3, styles=3, modalities={"image": 5, "text": 4}, seed=3)
DATASET, TRUTH = make_dataset(CONFIG)


def problem_on(devices, name, **options):
    hparams = {"dim": 8, "learning_rate": 0.01, **every_loop_once(name)}
    config = RunConfig(backbone=name, batch_size=65, hparams=hparams, **options)
    return config, make_problem(config, DATASET, make_placement(devices))


def learn(devices, name, epochs=2, **options):
    """Losses and embeddings of a few epochs."""
    config, problem = problem_on(devices, name, **options)
    learner = make_learner(config, problem)
    state, losses = learner.initial_state(0).train, []
    for _ in range(epochs):
        state, loss, finite = learner.train_epoch(state)
        assert bool(finite)
        losses.append(float(loss))
    encoded = learner.encode(state.params)
    return {"losses": np.array(losses), "users": np.asarray(encoded.users), "items": np.asarray(encoded.items)}


SIZES = dict.fromkeys(BACKBONES, 8) | {"mfbpr": 3, "lightgcn": 4, "vbpr": 2}


@pytest.mark.parametrize(("name", "devices"), SIZES.items())
def test_training_does_not_depend_on_the_number_of_devices(name, devices):
    expected, found = learn(1, name), learn(devices, name)
    for part, values in expected.items():
        error = np.abs(found[part] - values).max() / np.abs(values).max()
        # Adam divides a gradient by its size: where that is near epsilon, rounding shows.
        assert error < 1e-4, f"{part} differ by {error}"


def test_training_with_similarity_from_features_does_not_depend_on_the_number_of_devices():
    expected, found = (learn(devices, "mfbpr", similarity_budget_mb=0) for devices in (1, 8))
    for part, values in expected.items():
        np.testing.assert_allclose(found[part], values, atol=2e-5, err_msg=part)


def test_inputs_without_a_row_for_users_or_items_arrive_as_they_are(monkeypatch):
    """22 items are padded to 24, the number of users: sizes say nothing, `tables` does."""
    users, items = 24, 22
    dataset, _ = make_dataset(dataclasses.replace(CONFIG, users=users, items=items))
    shapes = []

    def prepare(dataset, hyperparameters, *, find_neighbours):
        return {
            "scale": jnp.float32(0.5),
            "of_users": jnp.ones((users, 1)),
            "of_items": jnp.ones((items, 1)),
            "weights": jnp.ones((users, users)),
        }

    def encode(params, inputs, hyperparameters, key=None):
        shapes.append({name: x.shape for name, x in inputs.items()})
        scaled = inputs["weights"] @ params["user"] * inputs["of_users"] * inputs["scale"]
        return Encoded(scaled, params["item"] * inputs["of_items"])

    odd = dataclasses.replace(
        BACKBONES["mfbpr"], prepare=prepare, encode=encode, tables=("user", "item", "of_users", "of_items")
    )
    monkeypatch.setitem(BACKBONES, "odd", odd)
    config = RunConfig(backbone="odd", batch_size=65, hparams={"dim": 8})
    found = []
    for devices in (1, 8):
        learner = make_learner(config, make_problem(config, dataset, make_placement(devices)))
        state, loss, _ = learner.train_epoch(learner.initial_state(0).train)
        found.append((float(loss), np.asarray(learner.encode(state.params).users)))
    assert all(seen == {"scale": (), "of_users": (24, 1), "of_items": (22, 1), "weights": (24, 24)} for seen in shapes)
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-5)


def lists_of(devices, name, **options):
    """Evaluations of an untrained model's test lists by strategy."""
    config, problem = problem_on(devices, name, **options)
    learner = make_learner(config, problem)
    encoded = learner.encode(learner.initial_state(0).train.params)
    strategies = strategies_of(config, with_content=True)
    return evaluate_problem(problem, encoded, "test", strategies, ks=(5, 10), user_chunk=3, item_chunk=9)


@pytest.mark.parametrize(("budget", "fusion"), [(2048, "per_modality"), (0, "mean")])
def test_lists_and_metrics_do_not_depend_on_the_number_of_devices(budget, fusion):
    single, several = (lists_of(n, "vbpr", similarity_budget_mb=budget, fusion=fusion) for n in (1, 8))
    for name, evaluation in single.items():
        np.testing.assert_array_equal(several[name].lists, evaluation.lists)
        for metric, expected in evaluation.metrics.items():
            assert several[name].metrics[metric] == pytest.approx(expected, abs=1e-6)


STORES = {
    "S": lambda channels, histories: similarity_on_the_fly(channels, histories),
    "features": lambda channels, histories: similarity_on_the_fly(channels, histories, 0),
}


@pytest.mark.parametrize(
    ("store", "fusion", "k"), [("S", "mean", 5), ("features", "mean", 1), ("features", "per_modality", 40)]
)
def test_lists_merged_over_items_equal_those_of_one_device(store, fusion, k):
    """Equal scores (few values of f), users who have everything, and lists longer than a device's share."""
    rng = np.random.default_rng(k)
    users, items, ranked = 13, 21, jnp.asarray(rng.integers(13, size=11), jnp.int32)
    pairs = np.concatenate([np.argwhere(rng.random((users, items)) < 0.2), np.argwhere(np.ones((1, items)))])
    histories = Histories.from_pairs(*np.unique(pairs, axis=0).T, num_users=users)
    features = [rng.integers(-1, 2, size=(items, width)).astype(np.float32) for width in (3, 2)]
    channels = fuse_channels(features, fusion)
    embeddings = (jnp.asarray(rng.integers(-1, 2, size=(n, 2)), jnp.float32) for n in (users, items))
    consistency = fill_undefined(np.stack([content_consistency(x, histories) for x in channels]))
    strategies = {"d": d_isolator(), "u": u_isolator(2.0, 5.0, 0.5)}
    arguments = (Encoded(*embeddings), ranked, histories, strategies)
    modalities = dict(enumerate(channels))
    content = Content(STORES[store](channels, histories), consistency, np.asarray(consistency[0]), modalities)
    single = top_k_lists(*arguments, content, k=k, user_chunk=4, item_chunk=6)
    mesh = make_mesh(8)
    placed = content.replace(similarity=place_similarity(content.similarity, mesh))
    several = top_k_lists_on(mesh, *arguments, placed, k=k, user_chunk=4, item_chunk=2)
    np.testing.assert_array_equal(several["d"][0], single["d"][0])
    np.testing.assert_array_equal(several["d"][1], single["d"][1])
    # Rounding may swap items whose similarities are equal.
    np.testing.assert_allclose(several["u"][1], single["u"][1], atol=1e-5)
    assert (np.asarray(several["u"][0]) == -1).sum() == (np.asarray(single["u"][0]) == -1).sum()


def test_a_table_made_without_the_mesh_is_padded_to_it():
    rng = np.random.default_rng(0)
    pairs = np.argwhere(rng.random((13, 21)) < 0.2)
    histories = Histories.from_pairs(*pairs.T, num_users=13)
    content = make_content({"image": rng.standard_normal((21, 3))}, histories)
    model = Encoded(*(jnp.asarray(rng.standard_normal((n, 2)), jnp.float32) for n in (13, 21)))
    arguments = (model, np.arange(13), histories, {"u": u_isolator(2.0, 5.0, 0.5)}, content)
    np.testing.assert_array_equal(
        top_k_lists_on(make_mesh(8), *arguments, k=5)["u"][0], top_k_lists(*arguments, k=5)["u"][0]
    )


def test_hits_counted_on_several_devices_are_those_of_one():
    rng = np.random.default_rng(0)
    users, items, ranked = 13, 21, jnp.asarray(rng.integers(13, size=11), jnp.int32)
    histories, truth = (
        Histories.from_pairs(*np.argwhere(rng.random((users, items)) < share).T, num_users=users)
        for share in (0.2, 0.3)
    )
    model = Encoded(*(jnp.asarray(rng.integers(-1, 2, size=(n, 2)), jnp.float32) for n in (users, items)))
    expected = count_hits(model, ranked, histories, truth, k=5)
    assert np.unique(expected).size > 2
    np.testing.assert_array_equal(count_hits_on(make_mesh(8), model, ranked, histories, truth, k=5), expected)


def test_similarity_made_on_the_fly_lies_by_item():
    _, problem = problem_on(8, "vbpr", similarity_budget_mb=0)
    (channel,) = problem.content.similarity.channels
    assert {shard.data.shape for shard in channel.addressable_shards} == {(3, 9)}


def exchanged(compiled):
    """Elements of every array that a compiled function's devices exchange."""
    operations = re.findall(r"= (.*) (?:all-gather|all-reduce|all-to-all|collective-permute)\(", compiled.as_text())
    shapes = [shape for operation in operations for shape in re.findall(r"\w\d+\[([\d,]*)\]", operation)]
    return [int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes]


def test_a_step_of_factors_exchanges_rows_of_its_batch_and_no_table():
    config = RunConfig(backbone="vbpr", batch_size=10, hparams={"dim": 2})
    learner = make_learner(config, make_problem(config, DATASET, make_placement(8)))
    state = learner.initial_state(0).train
    largest = max(exchanged(learner.epoch_program.lower(state, *learner.epoch_arguments()).compile()))
    # 16 rows: the batch's, padded to the devices; features have 5 + 4 columns, the user table 31 rows.
    assert 0 < largest <= 16 * 2 * 2 < min(16 * (5 + 4), 31 * 2 * 2)


def test_each_device_holds_its_share_and_never_the_whole_similarity_table():
    config, problem = problem_on(8, "mgcn")
    learner = make_learner(config, problem)
    state, inputs = learner.initial_state(0).train, learner.inputs.inputs
    compiled = learner.epoch_program.lower(state, *learner.epoch_arguments()).compile()
    assert 0 < max(exchanged(compiled)) < 31 * 22

    by_row = [
        (state.params["user"], 32),
        (state.params["item"], 24),
        (state.params["features"]["image"], 24),
        (state.opt_state[0].mu["user"], 32),
    ]
    for table, rows in by_row:
        assert table.sharding.spec == P(AXIS)
        assert {shard.data.shape[0] for shard in table.addressable_shards} == {rows // 8}
    for weights in (inputs["graph"].weights, inputs["item_graphs"]["image"].senders):
        assert len(weights.sharding.device_set) == 8
        assert {shard.data.size for shard in weights.addressable_shards} == {weights.size // 8}
    table = problem.content.similarity.table
    assert {shard.data.shape for shard in table.addressable_shards} == {(1, 4, 22)}


def test_a_plan_counts_what_all_devices_take():
    config, _ = problem_on(8, "mfbpr")
    of_one, of_eight = (plan_memory(config, DATASET, make_placement(n), available=10**12) for n in (1, 8))
    assert of_one.state == of_eight.state and of_one.step < of_eight.step
    # Training pairs and histories lie on every device.
    assert of_eight.inputs > of_one.inputs + 7 * 4 * 2 * len(DATASET.train)


def test_a_run_goes_on_with_another_number_of_devices(tmp_path):
    write_dataset(tmp_path, "made", DATASET, TRUTH, CONFIG)

    def run(folder, devices, epochs):
        options = {"data_dir": str(tmp_path), "dataset": "made", "modalities": ("image", "text")}
        config, problem = problem_on(devices, "vbpr", max_epochs=epochs, training_strategy=False, **options)
        return train_run(config, problem, tmp_path / folder, checkpoint_every=lambda record: False)

    run("changed", 8, 1)
    changed, whole = run("changed", 1, 2), run("whole", 1, 2)
    assert changed["epochs"] == whole["epochs"] == 2
    assert changed["best_epoch"] == whole["best_epoch"]
    for metric, value in whole["test"]["vanilla"].items():
        assert changed["test"]["vanilla"][metric] == pytest.approx(value, abs=1e-5)
    *_, first, _ = load_run(tmp_path / "changed", make_placement(4))
    *_, second, _ = load_run(tmp_path / "whole")
    np.testing.assert_allclose(first.users, second.users, atol=1e-5)
    assert first.users.shape == (31, 16) and first.items.shape == (22, 16)


# Edges, senders, receivers: isolated nodes, more devices than receivers or senders, none at all.
@pytest.mark.parametrize(
    ("devices", "shape"),
    [(8, (60, 20, 17)), (4, (12, 3, 40)), (8, (12, 40, 3)), (8, (0, 5, 6))],
)
def test_operations_on_a_partitioned_graph_and_their_derivatives_equal_those_on_the_whole(devices, shape):
    edges, senders, receivers = shape
    rng = np.random.default_rng(edges)
    rows, columns = np.divmod(rng.choice(senders * receivers, edges, replace=False), senders)
    whole = graphs.user_item_block(rows, columns, rng.standard_normal(edges), receivers, senders)
    parts = partition(whole, make_mesh(devices))
    used = np.flatnonzero(np.asarray(parts.used))
    assert used.size == edges
    places = np.zeros(edges, int)
    places[np.asarray(parts.origins)[used]] = used
    x, y = (jnp.asarray(rng.standard_normal((n, 3)), jnp.float32) for n in (senders, receivers))
    weights = jnp.asarray(rng.standard_normal(edges), jnp.float32)

    @jax.jit
    def operations(graph, places, x, y, weights):
        """Results and gradients; edge values in the order of the whole graph."""

        def spread(values):
            return jnp.zeros(graph.weights.shape).at[places].set(values)

        def loss(x, y, weights):
            logits = graphs.edge_dots(graph, y, x) * spread(weights)
            alphas = [graphs.edge_softmax(graph, 100 * logits, over=over) for over in ("receivers", "senders")]
            results = {
                "own weights": graphs.propagate(graph, x),
                "back": graphs.propagate_back(graph, y),
                "weights": graphs.propagate(graph, x, spread(weights)),
                "softmax": graphs.propagate(graph, x, alphas[0]),
                "softmax back": graphs.propagate_back(graph, y, alphas[1]),
                "logits": logits[places],
                # As a backbone reads its nodes' values by edge.
                "by edge": graphs.propagate(graph, x, jnp.max(jnp.stack(alphas), 0) * x[graph.senders, 0]),
            }
            return sum(jnp.sum(jnp.sin(value)) for value in results.values()), results

        (_, results), gradients = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(x, y, weights)
        return results | dict(zip(("dx", "dy", "dw"), gradients, strict=True))

    expected = operations(whole, np.arange(edges), x, y, weights)
    found = operations(parts, places, x, y, weights)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-4, rtol=1e-4, err_msg=name)


def test_every_device_has_its_share_of_the_edges_where_items_have_more_than_users():
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers((400, 60), size=(3000, 2)), axis=0)
    parts = partition(graphs.bipartite_graph(*pairs.T, 400, 60), make_mesh(8))
    for blocks in (parts.forward, parts.backward):
        by_block = np.asarray(blocks.offsets).reshape(8, -1)[:, -1]
        assert by_block.sum() == 2 * len(pairs) and by_block.max() < 1.25 * by_block.mean()


def test_a_graph_of_more_places_than_int32_counts_is_refused(monkeypatch):
    monkeypatch.setattr(checks, "MOST", 100)
    with pytest.raises(ConfigError, match="on 2 devices has room for 100 edges.* would take 120: take fewer"):
        partition(graphs.make_graph(np.zeros(60), np.arange(60), np.ones(60), 60), make_mesh(2))


def test_a_subgraph_on_a_mesh_is_that_of_the_whole():
    rng = np.random.default_rng(7)
    pairs = np.argwhere(rng.random((11, 9)) < 0.4)
    whole = graphs.bipartite_graph(*pairs.T, 11, 9)
    by_user, by_item = np.arange(len(pairs)), np.lexsort(pairs.T)
    kept = rng.random(len(pairs)) < 0.3
    mask, count = jnp.asarray(kept[np.concatenate([by_user, by_item])]), 2 * int(kept.sum())
    x = jnp.asarray(rng.standard_normal((20, 3)), jnp.float32)

    @functools.partial(jax.jit, static_argnums=3)
    def propagated(graph, mask, x, count):
        return graphs.propagate(normalized_by_degree(graph.subgraph(mask, count)), x)

    expected = propagated(whole, mask, x, count)
    np.testing.assert_allclose(propagated(partition(whole, make_mesh(8)), mask, x, count), expected, atol=1e-6)
    np.testing.assert_allclose(graphs.propagate(graphs.bipartite_graph(*pairs[kept].T, 11, 9), x), expected, atol=1e-6)


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="9 devices.* sees 8"):
        make_mesh(9)


def test_an_exchange_that_changes_nothing_is_refused():
    config = RunConfig(backbone="vbpr", batch_size=16, hparams={"dim": 8})
    with pytest.raises(ConfigError, match="exchange bfloat16 changes nothing for a backbone without a graph"):
        make_learner(config, make_problem(config, DATASET, make_placement(8, "bfloat16")))


def test_rows_exchanged_in_bfloat16_are_summed_in_float32():
    rng = np.random.default_rng(0)
    rows, columns = np.divmod(rng.choice(20 * 17, 60, replace=False), 20)
    whole = graphs.user_item_block(rows, columns, rng.random(60), 17, 20)
    parts = partition(whole, make_mesh(8), "bfloat16")
    x, y = (jnp.asarray(rng.standard_normal((n, 3)), jnp.float32) for n in (20, 17))

    @jax.jit
    def product(graph, x, y):
        return jax.vjp(lambda x: graphs.propagate(graph, x), x)[1](y)[0], graphs.propagate(graph, x)

    rounded = [np.asarray(values.astype(jnp.bfloat16), np.float32) for values in (x, y)]
    for found, expected in zip(product(parts, x, y), product(whole, *rounded), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
    gathered = re.findall(r"all_gather.*-> tensor<(\w+)>", product.lower(parts, x, y).as_text())
    assert gathered == ["24x3xbf16", "24x3xbf16"]
