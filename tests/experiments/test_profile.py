"""A profile reads compiled programs and adds up what ran; a step's bytes are counted without running it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.measure.hlo import instructions
from experiments.measure.profile import _covered, _with_waits, profile
from experiments.measure.traffic import count_traffic, step_traffic
from isolator_jax.backbones.base import dense
from isolator_jax.graph import propagate, user_item_block
from isolator_jax.runs import make_learner, make_problem
from isolator_jax.runs.config import RunConfig

GRAPH = user_item_block(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 0]), np.ones(4), 3, 2)


def test_instructions_have_their_bytes_products_and_the_function_they_come_from():
    layer, x = {"weight": jnp.ones((50, 40)), "bias": jnp.ones(50)}, jnp.ones((30, 40))
    gradient = jax.jit(jax.grad(lambda layer: jnp.sum(jnp.sin(dense(layer, x)))))
    found = instructions(gradient.lower(layer).compile().as_text()).values()
    products = [row for row in found if row.flops and row.opcode != "call"]
    # The product, and for the gradient its transpose by x; a fusion repeats the product in it.
    assert {row.flops for row in products} == {2 * 30 * 40 * 50}
    assert {row.direction for row in products} == {"forward", "backward"}
    assert any(row.bytes == 4 * (30 * 40 + 40 * 50 + 30 * 50) for row in products)
    assert {row.place for row in products} == {"base.py dense"}


def test_time_in_spans_and_waits_for_what_other_threads_do():
    spans = [("a", 0.0, 1.0), ("b", 0.5, 2.0), ("sparse", 3.0, 3.1), ("c", 5.0, 6.0), ("d", 8.0, 9.0)]
    assert _covered(spans) == pytest.approx((9.0, 4.1))
    drawn = _with_waits(spans, {"sparse"})
    assert drawn[2] == ("sparse", 3.0, 5.0) and drawn[:2] + drawn[3:] == spans[:2] + spans[3:]
    assert _covered([]) == (0.0, 0.0)


@pytest.mark.slow
def test_a_profile_of_a_step_adds_up(small_dataset):
    config = RunConfig(backbone="vbpr", batch_size=512)
    result = profile(make_learner(config, make_problem(config, small_dataset)), seed=0, repeats=1)
    rows, places = result["instructions"], result["places"]
    assert sum(row["share"] for row in rows) == pytest.approx(1) == sum(row["share"] for row in places)
    assert sum(row["seconds"] for row in places) == pytest.approx(sum(row["seconds"] for row in rows))
    assert 0 <= result["idle_seconds"] <= result["traced_step_seconds"]
    # The projection of 20 features, and its gradient.
    assert sum(row["flops"] for row in rows) >= 2 * 2 * small_dataset.num_items * 20 * 64


def counted(function, *arguments):
    return count_traffic(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_bytes_are_those_of_arrays_that_must_lie_in_memory():
    a, b = jnp.ones((30, 40)), jnp.ones((40, 50))
    product = counted(lambda a, b: jnp.sin(a @ b) + 1, a, b)
    # The sum is stored by one more kernel, which reads the product.
    assert product == (4 * (1200 + 2000 + 1500), 0, 0, 4 * (1500 + 1500), 0, 2)
    optimizer = optax.adam(1e-3)

    def update(gradient, state, x):
        updates, state = optimizer.update(gradient, state, x)
        return optax.apply_updates(x, updates), state

    adam = counted(update, a, optimizer.init(a), a)
    assert adam.elementwise == pytest.approx(4 * 7 * a.size, abs=16)  # besides, the count
    rows = counted(lambda a, i: jnp.sum(a[i]), a, jnp.arange(3))
    assert rows.gathers == 4 * (2 * 3 * 40 + 3) and rows.kernels == 2
    looped = counted(lambda a: jax.lax.fori_loop(0, 5, lambda _, x: x @ x, a[:, :30] @ a[:, :30]), a)
    assert looped.products == 6 * 4 * 3 * 900
    assert counted(lambda x: propagate(GRAPH, x), jnp.ones((2, 5))).scatters > 0


def test_a_step_moves_its_state_and_its_edges(small_dataset):
    config = RunConfig(backbone="lightgcn", batch_size=512)
    learner = make_learner(config, make_problem(config, small_dataset))
    state = learner.initial_state(0).train
    traced = learner.epoch_program.trace(state, *learner.epoch_arguments()).jaxpr.jaxpr
    traffic = step_traffic(traced)
    moved = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    edges = 2 * small_dataset.train.users.size
    assert traffic.elementwise >= 2 * moved
    # Forward and backward, three layers: rows of senders read and written, and added to receivers.
    assert traffic.gathers >= 6 * edges * 64 * 4 * 2
    assert traffic.scatters >= 6 * edges * 64 * 4 * 3
