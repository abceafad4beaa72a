"""What a training step cannot leave out is counted from its program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.measure.floor import Products, count_products, floor_seconds
from experiments.measure.rates import Ceilings
from isolator_jax.backbones import BACKBONES
from isolator_jax.graph import edge_dots, propagate, user_item_block
from isolator_jax.runs import make_learner, make_problem
from isolator_jax.runs.config import RunConfig

pytestmark = pytest.mark.slow

GRAPH = user_item_block(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 0]), np.ones(4), 3, 2)


def counted(function, *arguments):
    return count_products(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_products_are_counted_within_derivatives_compiled_parts_and_loops():
    x, w = jnp.ones((2, 5)), jnp.ones((5, 7))
    assert counted(jnp.matmul, x, w) == Products(dense_flops=2 * 2 * 5 * 7)
    # The product with w, and for its gradient one more: x needs none.
    assert counted(jax.grad(lambda w: jnp.sum(jnp.sin(x @ w))), w) == Products(dense_flops=2 * 2 * 2 * 5 * 7)
    assert counted(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: jax.jit(jnp.matmul)(x, w[:, :5]), x), x) == Products(
        dense_flops=3 * 2 * 2 * 5 * 5
    )
    assert counted(lambda x: propagate(GRAPH, x), x) == Products(sparse_terms=4 * 5)
    assert counted(lambda x: edge_dots(GRAPH, jnp.ones((3, 5)), x), x) == Products(dot_terms=4 * 5)
    # By the weights: forward a product, backward the dots alone, not the gradient of x.
    by_weights = jax.grad(lambda weights: jnp.sum(jnp.sin(propagate(GRAPH, x, weights))))
    assert counted(by_weights, jnp.ones(4))[1:] == (4 * 5, 4 * 5)


def step_products(small_dataset, name, **hparams):
    config = RunConfig(backbone=name, hparams=hparams, batch_size=10_000)
    problem = make_problem(config, small_dataset)
    learner = make_learner(config, problem)
    return counted(learner.epoch_program, learner.initial_state(0).train, *learner.epoch_arguments())


def test_products_of_a_step(small_dataset):
    edges, items = 2 * small_dataset.train.users.size, small_dataset.num_items
    assert step_products(small_dataset, "mfbpr") == Products()
    lightgcn = step_products(small_dataset, "lightgcn", layers=3, dim=16)
    assert lightgcn == Products(sparse_terms=2 * 3 * edges * 16)
    # Projection and its gradient, of 12 and 8 features.
    vbpr = step_products(small_dataset, "vbpr", dim=16)
    assert vbpr == Products(dense_flops=2 * 2 * items * 20 * 16)
    assert step_products(small_dataset, "grcn").dot_terms > 0
    # The pruned graph has a fifth of the edges, the item graph ten an item.
    freedom = step_products(small_dataset, "freedom", dim=16, neighbours=10)
    item_edges = freedom.sparse_terms / (2 * 16) - 2 * 2 * int(small_dataset.train.users.size * (1 - 0.8))
    assert 10 * items <= item_edges <= 20 * items
    # JAX's own choices by platform, as in the diagonal of the logits, are no operations of a graph.
    assert step_products(small_dataset, "slmrec").dot_terms == 0


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_has_its_products_counted(name, small_dataset):
    products, backbone = step_products(small_dataset, name, dim=4), BACKBONES[name]
    # Over the user-item graph, or, in GRCN, by weights that are learned on it.
    assert (products.sparse_terms > 0) == backbone.graph_based
    assert (products.dense_flops > 0) == backbone.uses_content


def test_the_floor_is_the_sum_of_each_work_at_its_own_rate():
    found = floor_seconds(Products(8.0, 6.0, 4.0), 10, Ceilings(5.0, 2.0), 0.5, 0.25)
    assert found == {
        "floor_dense_seconds": 4.0,
        "floor_sparse_seconds": 3.0,
        "floor_dots_seconds": 1.0,
        "floor_state_seconds": 4.0,
        "floor_seconds": pytest.approx(12.0),
    }
