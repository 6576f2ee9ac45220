"""The memory limit of a container, as Linux control groups give it, of version 1 and 2.

The machine's free memory does not show this limit, and a process that exceeds it is killed.
"""

from pathlib import Path

__all__ = ["container_free_bytes"]

# For each version: limit, use, and the part of the use that the kernel gives back when it must.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def container_free_bytes(root: Path = Path("/")) -> int | None:
    """Tell how much memory the container of this process has left.

    Args:
        root: The folder that has `proc` and `sys`.

    Returns:
        Bytes, the least over its group and those around it; None where there is no limit.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found: list[int] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            version, mount = 2, root / "sys/fs/cgroup"
            if not (mount / "cgroup.controllers").is_file():
                mount = mount / "unified"
        elif "memory" in controllers.split(","):
            version, mount = 1, root / "sys/fs/cgroup/memory"
        else:
            continue
        # In a container the mount itself may be the group, and the path one that only the host has.
        inner = Path(path.strip("/"))
        for group in (inner, *inner.parents):
            left = _left(mount / group, version)
            if left is not None:
                found.append(left)
    return min(found) if found else None


def _left(group: Path, version: int) -> int | None:
    """The bytes that a group has left; None if it has no limit, or does not exist."""
    limit_name, use_name, cache_name = _FILES[version]
    try:
        limit = int((group / limit_name).read_text())
        used = int((group / use_name).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        reclaimable = int(stat.get(cache_name, 0))
    # "max" is no number.
    except (OSError, ValueError):
        return None
    return max(0, limit - used + reclaimable)
