"""Paths and locations as people read them: short, and seen from where they stand."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["short_location", "short_locations", "short_path"]

_LONGEST = 40


def short_path(path: str) -> str:
    """Shorten a path.

    Args:
        path: Path of a file or folder; other names, such as a Hub id, stay as they are.

    Returns:
        The path from the working directory when it is inside it, else as given; the last two
        names after an ellipsis when that is longer than 40 characters.
    """
    if not Path(path).is_absolute():
        return path
    here, found = Path.cwd(), Path(path)
    shown = found.relative_to(here) if found.is_relative_to(here) else found
    if len(str(shown)) > _LONGEST and len(shown.parts) > 2:
        return f"…/{'/'.join(shown.parts[-2:])}"
    return str(shown)


def short_location(location: str) -> str:
    """Shorten the path of a location.

    Args:
        location: `file:line`, as data.examples.SourceLocation writes it.

    Returns:
        The same with a short path.
    """
    file, _, line = location.rpartition(":")
    return f"{short_path(file)}:{line}" if file else location


def short_locations(locations: Sequence[str], source: str) -> str:
    """Name several locations in a few words.

    Args:
        locations: Each `file:line`.
        source: The file that is spoken of anyway: its name is left out.

    Returns:
        Such as `lines 3, 7`, or `data/holdout.jsonl:3` where another file is meant.
    """
    lines = [location.removeprefix(f"{source}:") for location in locations]
    if all(line != location for line, location in zip(lines, locations, strict=True)):
        return f"line{'s' * (len(lines) > 1)} {', '.join(lines)}"
    return ", ".join(map(short_location, locations))
