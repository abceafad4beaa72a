"""Memory that training may use."""

import jax

from isolator_jax.memory import host_bytes


def available_bytes() -> int:
    """Memory of the first device; where that is the CPU, what this process may hold on the host."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit or host_bytes()
