"""Fixtures: shared data where it is present, and a small made dataset."""

import os
from pathlib import Path

import jax
import pytest
from hypothesis import settings

from isolator_jax.backbones import BACKBONES
from isolator_jax.data import Dataset, SyntheticConfig, make_dataset

# Half of the tests' time was XLA's newer code generator. It is read when JAX first compiles, here and in what tests
# start; other versions of JAX may not know the flags, and would end.
if jax.__version_info__[:2] == (0, 10):
    _FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()

# Tests that call the equations themselves hold them to float64 references, and GPUs and TPUs would round the products.
jax.config.update("jax_default_matmul_precision", "float32")

# The same examples each time, and no deadline: the first example of a test compiles.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=12)
# New examples each time, thousands of them: pytest --hypothesis-profile=thorough tests/fuzz
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("repeatable")

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared_folder(name: str) -> Path:
    folder = _SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs {name} files next to the repository ({folder}), which are not part of it")
    return folder


def pytest_xdist_auto_num_workers():
    """One more than there are cores: a test that waits for what it started leaves its core to another."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks tests of backbones that compile for seconds as slow: the contract of three is what stays quick.

    Files that start processes come first: they take longest, and so the workers end together.
    """
    costly = BACKBONES.keys() - {"mfbpr", "lightgcn", "vbpr"}
    for item in items:
        parameters = set(map(str, item.callspec.params.values())) if hasattr(item, "callspec") else set()
        beside_the_contract = item.path.parent.name == "backbones" and item.path.name != "test_contract.py"
        if beside_the_contract or costly & parameters:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not {"subprocess", "command", "start"} & vars(item.module).keys())


@pytest.fixture
def compilations():
    """Names of the events of every compilation from here on."""
    events = []
    listener = lambda name, seconds, **_: events.append(name) if "backend_compile" in name else None
    jax.monitoring.register_event_duration_secs_listener(listener)
    yield events
    jax.monitoring.unregister_event_duration_listener(listener)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Parity vectors of an independent implementation."""
    return _shared_folder("golden")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real datasets in MMRec's format."""
    return _shared_folder("data")


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """A made dataset that trains in seconds: 120 users, 80 items, two modalities."""
    config = SyntheticConfig(users=120, items=80, clusters=4, styles=4, modalities={"image": 12, "text": 8}, seed=3)
    return make_dataset(config)[0]


# What looks at the programs themselves, or holds them to another implementation's numbers.
_OPTIMIZED = {"test_learner", "test_parity", "test_placement", "test_platforms"}


@pytest.fixture(scope="module", autouse=True)
def compiled_fast(request):
    """Programs are compiled fast rather than to run fast: most run once or twice, on few rows."""
    fast = request.module.__name__.rpartition(".")[2] not in _OPTIMIZED
    jax.config.update("jax_disable_most_optimizations", fast)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Tests, their worker processes and the commands they run compile the same program once, not once each."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # of the commands they run
        yield
