"""Programs of these tests are compiled fast rather than to run fast: each runs once or twice, on few rows."""

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def compiled_fast():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
