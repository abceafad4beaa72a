"""The processes that work on one run together, each with devices of its own, as `jax.distributed` joins them.

All run the same program on the same data. What one alone may do the first does, and all have its
outcome (`first`); what each does has succeeded where it has for all (`each`). An error in either
is raised on all of them. Of one process, the usual case, these are plain calls.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from isolator_jax.errors import ConfigError, RunError, brief
from isolator_jax.files import draft_beside

T = TypeVar("T")
P = ParamSpec("P")

# A process that gave no sign of life for so long is dead to the others, and JAX ends them.
HEARTBEAT_SECONDS = 100
# How long processes wait for each other when they start.
JOIN_SECONDS = 300

# What a broadcast holds at once: eight bytes of length, and as much of the content as fits.
_HEAD = 1024
# Of errors that are raised on all processes.
_MARK = "_of_all_processes"
# In what JAX says where another process is gone.
_SIGNS_OF_LOSS = ("Gloo", "NCCL", "coordination", "UNAVAILABLE", "DEADLINE_EXCEEDED")

_inside = threading.local()


class _OutOfStep(RuntimeError):
    """Another process asks for something else than this one."""


def join(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Joins the other processes; before anything else is asked of JAX.

    Args:
      coordinator: `host:port` of the first process; None where JAX finds it, as in `in_a_cluster`.
      num_processes, process_id: how many there are, and which this is; None likewise.

    Raises:
      RunError: JAX could not join them. Where others are missing after `JOIN_SECONDS`, a line
        says so and this process ends.
    """
    # It would take SIGTERM for itself. What asks to stop is noted by the commands (`anywhere`).
    jax.config.update("jax_enable_preemption_service", False)
    with _ending_unless_joined():
        try:
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                initialization_timeout=2 * JOIN_SECONDS,  # JAX ends the process without saying why
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except Exception as error:  # of many types
            raise RunError(
                f"the processes could not be joined ({brief(error)}); check the coordinator's address, that its port "
                "is free, and that all processes are started alike"
            ) from None


def in_a_cluster() -> bool:
    """Whether the environment names several processes that `join` finds by itself: SLURM, Open MPI, Cloud TPU."""
    slurm = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
    if all(name in os.environ for name in slurm):
        return os.environ["SLURM_NTASKS"] != "1"
    if "OMPI_MCA_orte_hnp_uri" in os.environ:
        return os.environ.get("OMPI_COMM_WORLD_SIZE", "1") != "1"
    wanted = os.environ.get("JAX_PLATFORMS") or "tpu"
    return "tpu" in wanted and importlib.util.find_spec("libtpu") is not None and _is_tpu_host()


def _is_tpu_host() -> bool:
    return any(os.path.exists(path) for path in ("/dev/accel0", "/dev/vfio/0"))


@contextlib.contextmanager
def _ending_unless_joined() -> Iterator[None]:
    def end() -> None:
        message = f"error: not all processes have joined within {JOIN_SECONDS} s; start all, with the same flags\n"
        os.write(2, message.encode())
        os._exit(1)

    timer = threading.Timer(JOIN_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def count() -> int:
    """How many there are."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Which of them this is, from 0."""
    return jax.process_index() if count() > 1 else 0


def is_first() -> bool:
    """Whether this is the one that writes and prints."""
    return index() == 0


def first(function: Callable[[], T]) -> T:
    """Calls a function on the first process alone; all get what it returns, or the error it raises."""
    if _is_plain():
        return function()
    value, error = _tried(function) if is_first() else (None, None)
    return _outcome(0, value, error)


def of_first(value: T) -> T:
    """What the first process has, on all: for decisions that all must take alike."""
    return value if _is_plain() else _broadcast(0, value)


def by_first(function: Callable[P, T]) -> Callable[P, T]:
    """A function that, called by all processes, runs on the first (`first`)."""

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        return first(lambda: function(*arguments, **options))

    return call


def each(function: Callable[[], T]) -> T:
    """Calls a function on every process; where it fails on one, all raise that one's error.

    The function must not compute with arrays that other processes hold a part of.
    """
    if _is_plain():
        return function()
    value, error = _tried(function)
    failed = _gathered(np.uint32(error is not None))
    if failed.max() > 1:
        raise _OutOfStep("it is at another step than this one")
    if failed.any():
        return _outcome(int(failed.argmax()), None, error)
    return value


def anywhere(flag: bool) -> bool:
    """Whether it is set on any process."""
    return flag if _is_plain() else bool(_gathered(np.uint32(flag)).any())


def same(what: str, value: Callable[[], object]) -> None:
    """Refuses processes that differ in something.

    Args:
      what: its name.
      value: gives it; equal values have equal `repr`.

    Raises:
      ConfigError: names a process that has another than the first.
    """
    if _is_plain():
        return
    digests = _gathered(np.frombuffer(hashlib.sha256(repr(value()).encode()).digest(), np.uint32))
    others = np.flatnonzero((digests != digests[0]).any(axis=1))
    if others.size:
        raise ConfigError(
            f"process {others[0]} has other {what} than process 0; the processes of one run need the same. Runs of "
            "their own are told apart by --num_processes=1"
        )


def check_shared(folder: Path) -> None:
    """Refuses a folder that is not the same for all processes, by a file that the first leaves in it for a moment.

    Raises:
      RunError: a process does not see it.
    """
    if _is_plain():
        return
    sign = folder / of_first(draft_beside(folder / "sign").name)
    first(sign.touch)

    def look() -> None:
        if not sign.exists():
            raise RunError(f"{folder} is not the folder of process 0; all processes need one that they share")

    try:
        each(look)
    finally:
        first(lambda: sign.unlink(missing_ok=True))


def is_of_all(error: BaseException) -> bool:
    """Whether `first` or `each` raised an error, so that all processes have it."""
    return getattr(error, _MARK, False)


def tells_of_loss(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    return count() > 1 and (isinstance(error, _OutOfStep) or any(sign in str(error) for sign in _SIGNS_OF_LOSS))


def _is_plain() -> bool:
    """Whether there is one process, or the others do not take part now."""
    return getattr(_inside, "alone", False) or count() == 1


def _tried(function: Callable[[], T]) -> tuple[Any, Exception | None]:
    _inside.alone = True
    try:
        return function(), None
    except Exception as error:
        return None, error
    finally:
        _inside.alone = False


def _outcome(source: int, value: Any, error: Exception | None) -> Any:
    """What one process has, on all: its value, or its error raised."""
    sent, found = _broadcast(source, (value, _sendable(error, source)))
    if found is None:
        return sent
    raised = error if error is not None and index() == source else found
    setattr(raised, _MARK, True)
    raise raised


def _sendable(error: Exception | None, source: int) -> Exception | None:
    """An error for other processes to raise; it names a process that is not the first."""
    if error is None:
        return None
    where = f"process {source}: " if source else ""
    try:
        return pickle.loads(pickle.dumps(type(error)(f"{where}{error}")))
    except Exception:  # its type takes other arguments
        return RuntimeError(f"{where}{type(error).__name__}: {error}")


def _gathered(value: np.ndarray | np.generic) -> np.ndarray:
    """`[P, ...]`, of each process."""
    return np.asarray(multihost_utils.process_allgather(np.asarray(value)))


def _broadcast(source: int, value: Any) -> Any:
    """What process `source` has, on all; the others' is not looked at."""
    content = pickle.dumps(value) if index() == source else b""
    head = _sent(source, len(content).to_bytes(8, "little") + content[: _HEAD - 8], _HEAD)
    length = int.from_bytes(head[:8], "little")
    if length > _HEAD - 8:
        # Of few different sizes: each is compiled for.
        return pickle.loads(_sent(source, content, 1 << (length - 1).bit_length())[:length])
    return pickle.loads(head[8 : 8 + length])


def _sent(source: int, content: bytes, size: int) -> bytes:
    padded = np.zeros(size, np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    sent = multihost_utils.broadcast_one_to_all(padded, is_source=index() == source)
    return np.asarray(sent, np.uint8).tobytes()
