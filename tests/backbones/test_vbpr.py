"""VBPR: a batch that is small beside the catalogue projects its own items alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.backbones import Batch, get_backbone, mfbpr
from isolator_jax.data import SyntheticConfig, make_dataset
from isolator_jax.neighbours import nearest_neighbours


@pytest.mark.parametrize("rows", [3, 40])
def test_loss_and_gradients_are_those_of_the_whole_tables(rows):
    dataset, _ = make_dataset(SyntheticConfig(users=20, items=30, clusters=3, styles=3, modalities={"text": 5}, seed=0))
    vbpr = get_backbone("vbpr")
    hyperparameters = vbpr.hyperparameters(dim=4, reg=0.3)
    params = vbpr.init(jax.random.key(0), dataset, hyperparameters)
    inputs = vbpr.prepare(dataset, hyperparameters, find_neighbours=nearest_neighbours)
    ids = np.random.default_rng(0).integers(20, size=(3, rows))
    batch = Batch(*jnp.asarray(ids, jnp.int32))

    def value(params, loss):
        encoded = vbpr.encode(params, inputs, hyperparameters)
        return loss(params, encoded, batch, lambda f, users, items: f, hyperparameters, jax.random.key(1))

    found, expected = (jax.value_and_grad(value)(params, loss) for loss in (vbpr.loss, mfbpr.loss))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), found, expected)


def test_no_step_of_a_small_batch_projects_the_catalogue():
    dataset, _ = make_dataset(SyntheticConfig(users=20, items=37, clusters=3, styles=3, modalities={"text": 5}, seed=0))
    vbpr = get_backbone("vbpr")
    hyperparameters = vbpr.hyperparameters(dim=4)
    params = vbpr.init(jax.random.key(0), dataset, hyperparameters)
    inputs = vbpr.prepare(dataset, hyperparameters, find_neighbours=nearest_neighbours)

    def value(params, inputs, batch):
        encoded = vbpr.encode(params, inputs, hyperparameters)
        return vbpr.loss(params, encoded, batch, lambda f, users, items: f, hyperparameters, jax.random.key(1))

    def products(rows):
        batch = Batch(*jnp.zeros((3, rows), jnp.int32))
        return jax.jit(jax.grad(value)).lower(params, inputs, batch).compile().cost_analysis()["flops"]

    assert products(2) < products(30) / 3
