"""The flag for working on several devices."""

from absl import flags
from jax.sharding import Mesh

from isolator_jax.devices.mesh import make_mesh

_DEVICES = flags.DEFINE_integer(
    "devices",
    1,
    "Devices to work on: tables, graph and similarity are cut into so many parts, batches and users split. Results "
    "are those of one device up to rounding; a run may go on with another number.",
    1,
)


def mesh_from_flags() -> Mesh | None:
    """The mesh asked for; None for one device.

    Raises:
      ConfigError: there are fewer devices.
    """
    return None if _DEVICES.value == 1 else make_mesh(_DEVICES.value)
