"""The mesh of devices, of one axis, and rows padded to a multiple of it."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from isolator_jax.errors import ConfigError

AXIS = "devices"
BY_ROW, EVERYWHERE = P(AXIS), P()


def make_mesh(devices: int) -> Mesh:
    """A mesh of the first `devices` devices, with one axis.

    Raises:
      ConfigError: there are fewer.
    """
    found = len(jax.devices())
    if not 1 <= devices <= found:
        raise ConfigError(
            f"{devices} devices asked for, and JAX sees {found} ({jax.devices()[0].platform}); a CPU is split "
            "into N by the environment variable XLA_FLAGS=--xla_force_host_platform_device_count=N"
        )
    return jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


def padded(rows: int, mesh: Mesh) -> int:
    """The next multiple of the mesh's devices."""
    return -(-rows // mesh.size) * mesh.size


def pad_rows(x: Array, mesh: Mesh, axis: int = 0) -> Array:
    """Zeros appended along an axis up to `padded`."""
    missing = padded(x.shape[axis], mesh) - x.shape[axis]
    return jnp.pad(x, [(0, missing if place == axis else 0) for place in range(x.ndim)])


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a copy of every array on every device."""
    return jax.device_put(tree, NamedSharding(mesh, EVERYWHERE))
