"""The flags for working on several devices, and in several processes."""

import re
from collections import Counter

import jax
from absl import flags

from isolator_jax import processes
from isolator_jax.devices.placement import Placement, make_placement
from isolator_jax.errors import ConfigError, brief

from . import process

_DEVICES = flags.DEFINE_integer(
    "devices",
    None,
    "Devices to work on: tables, graph and similarity are cut into so many parts, batches and users split. Results "
    "are those of one device up to rounding; a run may go on with another number. Default: 1; of several processes "
    "all their devices, and no fewer.",
    1,
)
_EXCHANGE = flags.DEFINE_enum(
    "exchange",
    "float32",
    ["float32", "bfloat16"],
    "With --devices: the type in which propagation sends rows from device to device; sums stay float32.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT where process 0 of several listens. Not needed under srun, mpirun and on Cloud TPU, which JAX knows.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes",
    None,
    "How many processes work on the run, all started with the same flags but --process_id; 1: this one alone, "
    "whatever the environment says.",
    1,
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0; process 0 writes and prints.", 0)


def join_processes() -> None:
    """Joins the processes that flags or environment name; those but the first are silent from then on.

    Raises:
      ConfigError: flags that contradict each other, or other processes' flags.
      RunError: the processes could not be joined.
    """
    if not _several():
        return
    processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if processes.is_first():
        process.keep_stdout_for_python()
    else:
        process.fall_silent()
    of_each = Counter(device.process_index for device in jax.devices())
    if len(set(of_each.values())) > 1:
        raise ConfigError(f"every process must have equally many devices; they have {sorted(of_each.values())}")
    processes.same("flags", _flags_of_all)


def _several() -> bool:
    """Whether several processes are named.

    Raises:
      ConfigError: in a way that makes no sense.
    """
    coordinator, number, own = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    if coordinator is not None and not _is_address(coordinator):
        raise ConfigError(f"--coordinator must be HOST:PORT, as in 10.0.0.1:1234; got {brief(repr(coordinator))}")
    if own is not None and number is not None and own >= number:
        raise ConfigError(f"--process_id={own} must be below --num_processes={number}; the first process is 0")
    if number == 1:
        return False
    given = [value is not None for value in (coordinator, number, own)]
    if any(given) != all(given):
        raise ConfigError("--coordinator, --num_processes and --process_id go together; give all three, or none")
    if coordinator is None:
        return processes.in_a_cluster()
    return True


def _is_address(text: str) -> bool:
    return bool(re.fullmatch(r"\S+:\d{1,5}", text)) and int(text.rpartition(":")[2]) in range(1, 65536)


def _flags_of_all() -> list[tuple[str, object]]:
    return sorted((name, value) for name, value in flags.FLAGS.flag_values_dict().items() if name != "process_id")


def placement_from_flags() -> Placement:
    """The devices asked for.

    Raises:
      ConfigError: there are fewer; or one, which has nothing to exchange; or several processes have more.
    """
    devices = _DEVICES.value or 1
    if processes.count() > 1:
        devices = len(jax.devices())
        if _DEVICES.value not in (None, devices):
            raise ConfigError(
                f"--devices={_DEVICES.value}, and {processes.count()} processes have {devices}; several processes work "
                "on all of their devices: leave --devices out, or start fewer"
            )
    if devices == 1 and _EXCHANGE.value != "float32":
        raise ConfigError(f"--exchange={_EXCHANGE.value} is for several devices; give --devices=N, or leave it out")
    return make_placement(devices, _EXCHANGE.value)
