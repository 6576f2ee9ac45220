"""Paths and places as people read them: short, and seen from where they stand."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["short_path", "short_place", "short_places"]

_LONGEST = 40


def short_path(path: str) -> str:
    """Shorten a path.

    Args:
        path: Of a file or folder; other names, such as a Hub id, stay as they are.

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


def short_place(place: str) -> str:
    """Shorten the path of a place.

    Args:
        place: `file:line`, as data.examples.SourceLocation writes it.

    Returns:
        The same with a short path.
    """
    file, _, line = place.rpartition(":")
    return f"{short_path(file)}:{line}" if file else place


def short_places(places: Sequence[str], source: str) -> str:
    """Name several places in a few words.

    Args:
        places: Each `file:line`.
        source: The file that is spoken of anyway: its name is left out.

    Returns:
        Such as `lines 3, 7`, or `data/holdout.jsonl:3` where another file is meant.
    """
    lines = [place.removeprefix(f"{source}:") for place in places]
    if all(line != place for line, place in zip(lines, places, strict=True)):
        return f"line{'s' * (len(lines) > 1)} {', '.join(lines)}"
    return ", ".join(map(short_place, places))
