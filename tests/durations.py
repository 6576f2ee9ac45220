"""Where the time of a test session goes: seconds by folder, printed at its end."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

__all__ = ["FolderTime", "table", "time_by_folder"]

FolderTime = tuple[int, float]
"""Tests of a folder, and their seconds with setup and teardown."""


def time_by_folder(reports: Iterable[Any]) -> dict[str, FolderTime]:
    """Add up the reports of a session.

    Args:
        reports: Of setups, calls and teardowns, from all workers; others are left out.

    Returns:
        By folder of the test's file, the slowest first.
    """
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, set[str]] = defaultdict(set)
    for report in reports:
        if getattr(report, "when", None) not in ("setup", "call", "teardown"):
            continue
        folder = str(PurePosixPath(report.nodeid.partition("::")[0]).parent)
        seconds[folder] += report.duration
        tests[folder].add(report.nodeid)
    slowest = sorted(seconds, key=lambda folder: -seconds[folder])
    return {folder: (len(tests[folder]), seconds[folder]) for folder in slowest}


def table(times: Mapping[str, FolderTime]) -> list[str]:
    """Write the times as lines.

    Args:
        times: By folder.

    Returns:
        Seconds, tests, folder; a sum when there are several folders.
    """
    rows = [*times.items()]
    if len(rows) > 1:
        total = sum(tests for tests, _ in times.values()), sum(took for _, took in times.values())
        rows.append(("all, one worker after another", total))
    return [f"{took:8.1f} s {tests:6} tests  {folder}" for folder, (tests, took) in rows]
