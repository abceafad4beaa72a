"""How much memory this process may come to hold on its host."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def host_bytes() -> int:
    """The most memory this process can hold: what the machine has, and what limits leave of it.

    Limits are those of its control groups (a container, a batch system; both versions) and of
    its address space (`ulimit -v`), of which what is reserved and holds nothing is lost.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(physical, _address_space_left(), *_group_limits()))


def resident_bytes() -> int:
    """What this process holds now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _address_space_left() -> float:
    """The limit of the address space, less the part that this process has reserved without using it."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return math.inf
        size, resident = map(int, Path("/proc/self/statm").read_text().split()[:2])
    except (ImportError, OSError, ValueError):  # another system than Linux
        return math.inf
    return max(0, limit - (size - resident) * os.sysconf("SC_PAGE_SIZE"))


def _group_limits(membership: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS) -> list[float]:
    """Limits of the process's control groups and of those they lie in; none where there are no groups."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        # In a container the path may be the host's, and the group itself is the root.
        for folder in {base, group, *group.parents}:
            if folder.is_relative_to(base):
                limits.append(_limit(folder / name))
    return limits


def _limit(path: Path) -> float:
    try:
        return float(int(path.read_text()))
    except (OSError, ValueError):  # not there, or "max"
        return math.inf
