"""Training and scoring are lowered whole for CPU, GPU and TPU, on a machine that need not have them."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax import export

from isolator_jax.backbones import BACKBONES, Encoded
from isolator_jax.content import make_content
from isolator_jax.data import SyntheticConfig, make_dataset
from isolator_jax.evaluation import mean_recall, top_k_lists, users_to_validate
from isolator_jax.features import fuse_channels
from isolator_jax.runs import make_learner, make_problem
from isolator_jax.runs.config import RunConfig
from isolator_jax.similarity import build_similarity, list_similarity
from isolator_jax.strategies import d_isolator, training_strategy, u_isolator

pytestmark = pytest.mark.slow

CSR_KERNEL = "cpu_csr_sparse_dense_ffi"
WITHOUT_GRAPH = {"mfbpr", "vbpr"}
STRATEGIES = {
    "d": d_isolator(),
    "u": u_isolator(2.0, 5.0, 0.1),
    "training_strategy": training_strategy(0.1),
}
each_platform = pytest.mark.parametrize("platforms", [("cpu", "cuda", "tpu"), ("tpu",)], ids="+".join)
# Bytes for one channel of the dataset below: 480 hold its table, 400 its S.
each_store = pytest.mark.parametrize("budget", [0, 479, 480], ids=["from features", "from S", "table"])


@pytest.fixture(scope="module")
def dataset():
    config = SyntheticConfig(users=12, items=10, clusters=2, styles=2, modalities={"image": 4, "text": 3})
    return make_dataset(config)[0]


@pytest.fixture(scope="module")
def histories(dataset):
    return dataset.train.histories(dataset.num_users)


def cpu_kernels(function, arguments, platforms):
    """Lowers a function for the platforms; names of the custom calls that only a CPU can run.

    Export itself refuses custom calls that it does not know to be stable.
    """
    allowed = [export.DisabledSafetyCheck.custom_call(CSR_KERNEL)] if "cpu" in platforms else []
    exported = export.export(
        function if hasattr(function, "lower") else jax.jit(function), platforms=platforms, disabled_checks=allowed
    )(*arguments)
    assert exported.platforms == platforms
    calls = re.findall(r"custom_call @([\w.]+)", exported.mlir_module())
    return {name for name in calls if name.startswith(("cpu_", "lapack_", "blas_"))}


@each_platform
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_an_epoch_of_every_backbone_is_lowered_with_the_cpu_kernel_for_the_cpu_alone(name, platforms, dataset):
    config = RunConfig(backbone=name, batch_size=16)
    learner = make_learner(config, make_problem(config, dataset))
    arguments = (learner.initial_state(0).train, *learner.epoch_arguments())
    expected = {CSR_KERNEL} if "cpu" in platforms and name not in WITHOUT_GRAPH else set()
    assert cpu_kernels(learner.epoch_program, arguments, platforms) == expected


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_an_epoch_on_a_gpu_adds_numbers_in_a_fixed_order(name, dataset):
    config = RunConfig(backbone=name, batch_size=16)
    learner = make_learner(config, make_problem(config, dataset))
    arguments = (learner.initial_state(0).train, *learner.epoch_arguments())
    module = export.export(learner.epoch_program, platforms=["cuda"])(*arguments).mlir_module()
    scatters = re.findall(r'"stablehlo.scatter"\([^\n]*\n[^\n]*\n[^\n]*', module)
    assert len(scatters) == module.count('"stablehlo.scatter"') > 0
    # Integers add up to the same in any order; places that are given once are added to once.
    assert not [scatter for scatter in scatters if "unique_indices = true" not in scatter and "i32" not in scatter]


@pytest.mark.parametrize("setting, found", [(None, "HIGHEST"), ("tensorfloat32", "HIGH")])
def test_products_of_an_epoch_are_in_float32_unless_jax_is_set_otherwise(setting, found, dataset):
    config = RunConfig(backbone="vbpr", batch_size=16)
    learner = make_learner(config, make_problem(config, dataset))
    with jax.default_matmul_precision(setting):
        lowered = export.export(learner.epoch_program, platforms=["cuda"])(
            learner.initial_state(0).train, *learner.epoch_arguments()
        )
    precisions = re.findall(r"dot_general.*precision = \[(\w+), (\w+)\]", lowered.mlir_module())
    assert precisions and set(precisions) == {(found, found)}


@each_platform
@each_store
@pytest.mark.parametrize("fusion", ["mean", "per_modality"])
def test_lists_of_all_strategies_are_lowered(budget, fusion, platforms, dataset, histories):
    channels = {"mean": 1, "per_modality": len(dataset.features)}[fusion]
    content = make_content(dataset.features, histories, fusion=fusion, table_budget_bytes=budget * channels)
    arguments = (
        Encoded(jnp.ones((dataset.num_users, 4)), jnp.ones((dataset.num_items, 4))),
        jnp.arange(dataset.num_users),
        histories,
        STRATEGIES,
        content,
    )
    # Smaller chunks than there are users and items: the loops over them are there.
    lists = functools.partial(top_k_lists, k=3, user_chunk=5, item_chunk=4)
    assert not cpu_kernels(lists, arguments, platforms)


@each_platform
@each_store
def test_similarity_is_lowered(budget, platforms, dataset, histories):
    channels = fuse_channels(list(dataset.features.values()))
    build = functools.partial(build_similarity, table_budget_bytes=budget)
    assert not cpu_kernels(build, (channels, histories), platforms)


@each_platform
def test_consistency_validation_and_similarity_of_lists_are_lowered(platforms, dataset, histories):
    truth = dataset.validation.histories(dataset.num_users)
    users = users_to_validate(histories, truth)
    encoded = Encoded(jnp.ones((dataset.num_users, 4)), jnp.ones((dataset.num_items, 4)))
    lists = jnp.zeros((users.size, 3), jnp.int32)
    assert not cpu_kernels(functools.partial(mean_recall, k=3), (encoded, users, histories, truth), platforms)
    square = jnp.ones((dataset.num_items, dataset.num_items))
    assert not cpu_kernels(list_similarity, (square, histories, users, lists), platforms)
