"""The number of cores that this process may use: by machine, affinity and container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_cores", "quota"]


def available_cores() -> int:
    """Return the number of cores that this process may use, at least one.

    A quota of 1.5 cores counts as two: one process would leave half a core idle.
    """
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(1, min(cores, math.ceil(quota() or cores)))


def quota(root: Path = Path("/")) -> float | None:
    """Return the number of cores that Linux control groups allow; None if there is no limit.

    It is the smallest quota of the group and the groups above it, by version 2 (`cpu.max`) or 1
    (`cpu.cfs_quota_us`); see the kernel's documentation of cgroups.

    Args:
        root: the folder to use as `/`.
    """
    shares = [share for group in _groups(root) if (share := _share(group)) is not None]
    return min(shares, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders where this process's groups may be, each before its parents."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container, the name is often the host's, and the mount is the group itself.
        base = mount / "cpu" if controllers else mount
        group = base / name.strip().lstrip("/")
        yield from [each for each in (group, *group.parents) if each.is_relative_to(base)]


def _share(group: Path) -> float | None:
    limit, _, period = _read(group / "cpu.max").partition(" ")
    if not limit:
        limit, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    try:
        granted, every = int(limit), int(period)
    except ValueError:  # "max", or no such file
        return None
    return granted / every if granted > 0 and every > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):  # no such file, or not valid text
        return ""
