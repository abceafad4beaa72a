"""The flag for working on several devices."""

from absl import flags

from isolator_jax.devices.placement import Placement, make_placement

_DEVICES = flags.DEFINE_integer(
    "devices",
    1,
    "Devices to work on: tables, graph and similarity are cut into so many parts, batches and users split. Results "
    "are those of one device up to rounding; a run may go on with another number.",
    1,
)


def placement_from_flags() -> Placement:
    """The devices asked for.

    Raises:
      ConfigError: there are fewer.
    """
    return make_placement(_DEVICES.value)
