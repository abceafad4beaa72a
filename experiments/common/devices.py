"""The flag for working on several devices."""

from absl import flags

from isolator_jax.devices.placement import Placement, make_placement
from isolator_jax.errors import ConfigError

_DEVICES = flags.DEFINE_integer(
    "devices",
    1,
    "Devices to work on: tables, graph and similarity are cut into so many parts, batches and users split. Results "
    "are those of one device up to rounding; a run may go on with another number.",
    1,
)
_EXCHANGE = flags.DEFINE_enum(
    "exchange",
    "float32",
    ["float32", "bfloat16"],
    "With --devices: the type in which propagation sends rows from device to device; sums stay float32.",
)


def placement_from_flags() -> Placement:
    """The devices asked for.

    Raises:
      ConfigError: there are fewer; or one, which has nothing to exchange.
    """
    if _DEVICES.value == 1 and _EXCHANGE.value != "float32":
        raise ConfigError(f"--exchange={_EXCHANGE.value} is for several devices; give --devices=N, or leave it out")
    return make_placement(_DEVICES.value, _EXCHANGE.value)
