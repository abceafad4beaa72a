"""The mesh of devices, of one axis, and rows padded to a multiple of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, Sharding
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
    return put(tree, NamedSharding(mesh, EVERYWHERE))


def put(tree: Any, shardings: Any) -> Any:
    """`jax.device_put`, also on devices of other processes, which have the same values.

    Each process puts the parts of its own devices; nothing is sent between them.

    Args:
      tree: arrays.
      shardings: one for all of them, or one for each.
    """
    if all(sharding.is_fully_addressable for sharding in jax.tree.leaves(shardings)):
        return jax.device_put(tree, shardings)
    if isinstance(shardings, Sharding):
        one = shardings
        shardings = jax.tree.map(lambda _: one, tree)
    return jax.tree.map(_put_own_part, tree, shardings)


def _put_own_part(x: Any, sharding: Sharding) -> Array:
    if isinstance(x, Array) and not x.is_fully_addressable:
        return jax.device_put(x, sharding)
    values = np.asarray(x)
    return jax.make_array_from_callback(values.shape, sharding, lambda part: values[part])


def on_host(x: Array | np.ndarray) -> np.ndarray:
    """The whole of an array on the host of every process; called by all of them."""
    if isinstance(x, Array) and not (x.is_fully_addressable or x.is_fully_replicated):
        return multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(x)
