"""Seconds, bytes and operations of compiled functions, and what the device can do at most."""

import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isolator_jax.precision import in_float32

# Far more than any cache holds, and a matrix that keeps all cores of the device busy.
_COPIED_BYTES = {"cpu": 256 << 20}
_COPIED_BYTES_ACCELERATOR = 4 << 30
_MATMUL_SIZE = {"cpu": 1024}
_MATMUL_SIZE_ACCELERATOR = 8192


class Timing(NamedTuple):
    """Seconds of a call: median and interquartile range over repeats, and the fastest."""

    median: float
    spread: float
    fastest: float


class Work(NamedTuple):
    """Bytes moved and floating-point operations done by one call."""

    bytes: float
    flops: float


class Ceilings(NamedTuple):
    """What the device reached on plain work: bytes/s of a copy, FLOP/s of a matrix product."""

    bytes_per_second: float
    flops_per_second: float


def timed(function: Callable[[], object], repeats: int) -> Timing:
    """Times `repeats` calls after one warm-up; the function must wait for its result."""
    function()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    low, median, high = np.percentile(seconds, [25, 50, 75])
    return Timing(float(median), float(high - low), min(seconds))


def measure_ceilings(repeats: int) -> Ceilings:
    """Measures both ceilings on the default device, from the fastest of the repeats."""
    backend = jax.default_backend()
    copied = _COPIED_BYTES.get(backend, _COPIED_BYTES_ACCELERATOR)
    update = jax.jit(lambda x: x + 1.0, donate_argnums=0)
    x = jnp.zeros(copied // 4)

    def copy() -> None:
        nonlocal x
        # In place: a new result would also be charged for mapping fresh pages.
        x = jax.block_until_ready(update(x))

    copying = timed(copy, repeats)
    size = _MATMUL_SIZE.get(backend, _MATMUL_SIZE_ACCELERATOR)
    matrix = jnp.ones((size, size))
    product = jax.jit(in_float32(jnp.matmul))
    multiplying = timed(lambda: jax.block_until_ready(product(matrix, matrix)), repeats)
    return Ceilings(2 * copied / copying.fastest, 2 * size**3 / multiplying.fastest)


def propagation_work(edges: int, receivers: int, dim: int) -> Work:
    """A sparse product by count: of each edge its weight, sender and sender's row, of each receiver its row."""
    return Work(4.0 * (edges * (2 + dim) + receivers * (1 + dim)), 2.0 * edges * dim)


def achieved(name: str, work: Work, seconds: float, ceilings: Ceilings) -> dict[str, float]:
    """Bytes/s and FLOP/s of a measurement and their shares of the ceilings."""
    rates = Ceilings(work.bytes / seconds, work.flops / seconds)
    return {
        f"{name}_bytes_per_second": rates.bytes_per_second,
        f"{name}_share_of_copy": rates.bytes_per_second / ceilings.bytes_per_second,
        f"{name}_flops_per_second": rates.flops_per_second,
        f"{name}_share_of_matmul": rates.flops_per_second / ceilings.flops_per_second,
    }


def peak_host_bytes() -> int:
    """The most memory this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's ru_maxrss begins with what held the process that started this one
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes() -> dict[str, int]:
    """The most device memory in use so far, under its name; empty where the device does not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return {"peak_device_bytes": stats["peak_bytes_in_use"]} if "peak_bytes_in_use" in stats else {}
