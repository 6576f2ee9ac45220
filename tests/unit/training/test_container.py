"""A container's limit counts, of both versions of control groups, wherever it is set."""

from pathlib import Path

import psutil
import pytest
import torch

from kamerton.training import memory
from kamerton.training.container import container_free_bytes

NAMES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
UNLIMITED = {1: str(0x7FFFFFFFFFFFF000), 2: "max"}


def group(folder: Path, version: int, limit: str, used: int = 0, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    limit_name, use_name, cache_name = NAMES[version]
    (folder / limit_name).write_text(f"{limit}\n")
    (folder / use_name).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{cache_name} {cached}\n")


def machine(root: Path, version: int, path: str) -> Path:
    """Lay out `proc` and `sys`; return where memory groups are mounted."""
    (root / "proc/self").mkdir(parents=True)
    line = {1: f"5:cpu,cpuacct:/x\n4:memory:{path}\n0::/\n", 2: f"0::{path}\n"}[version]
    (root / "proc/self/cgroup").write_text(line)
    mount = root / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    mount.mkdir(parents=True)
    if version == 2:
        (mount / "cgroup.controllers").write_text("memory\n")
    return mount


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("path", ["/", "/pod/box", "/only/on/the/host"])
def test_the_limit_is_found(tmp_path: Path, version: int, path: str) -> None:
    mount = machine(tmp_path, version, path)
    group(mount / "pod/box" if path == "/pod/box" else mount, version, "1000", 700, 200)
    assert container_free_bytes(tmp_path) == 500


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_group_around_counts(tmp_path: Path, version: int) -> None:
    mount = machine(tmp_path, version, "/pod/box")
    group(mount, version, UNLIMITED[version], 5000)
    group(mount / "pod", version, "1000", 900)
    group(mount / "pod/box", version, "800", 100)
    assert container_free_bytes(tmp_path) == 100


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    assert container_free_bytes(tmp_path) is None
    group(machine(tmp_path, 2, "/"), 2, "max", 10)
    assert container_free_bytes(tmp_path) is None


@pytest.mark.parametrize(("left", "free"), [(None, 900), (300, 300), (5000, 900)])
def test_free_memory_is_the_smaller_of_both(monkeypatch, left: int | None, free: int) -> None:
    found = type("Found", (), {"available": 900})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found)
    monkeypatch.setattr(memory, "container_free_bytes", lambda: left)
    assert memory.free_bytes(torch.device("cpu")) == free
