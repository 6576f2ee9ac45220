"""The checks of a new project: what makes an answer of its kind a good one."""

import json
from collections.abc import Mapping, Sequence

from kamerton.advisor.kinds import Kind, TaskKind

__all__ = ["checks_of"]

_MOST_KEYS = 6
_NAME_CHARACTERS = 40

_WRITTEN = (
    "# loss on the right answers, likeness (chrF) and length are measured for texts;",
    "# [[evaluate.checks]] say what else makes an answer good",
)
_LINES: Mapping[TaskKind, Sequence[str]] = {
    "rewriting": _WRITTEN,
    "answers": _WRITTEN,
    "dialogues": _WRITTEN,
    "classes": ["# accuracy and macro-F1 are measured for classes, over these labels only"],
    "pairs": ["# how often the better answer is the more probable one is measured for pairs"],
    "thumbs": ["# whether liked answers stand above disliked ones is measured for thumbs"],
    "texts": ["# how well unseen texts are foretold is measured for plain texts: their loss"],
}


def checks_of(kind: Kind) -> list[str]:
    """Write the checks for a kind of task.

    Args:
        kind: The kind, with its labels or keys.

    Returns:
        Lines of TOML. The first check is the one that decides.
    """
    match kind.name:
        case "several classes":
            return [
                *_check("all labels right", kind="json_values"),
                *_check("labels F1", kind="json_values", metric="f1"),
                *_check("is JSON", kind="json"),
            ]
        case "fields":
            names = {f"field {key}"[:_NAME_CHARACTERS]: key for key in kind.labels[:_MOST_KEYS]}
            lines = _check("all fields right", kind="json_values")
            for name, key in names.items():
                lines += _check(name, kind="json_values", key=key)
            return [*lines, *_check("is JSON", kind="json")]
        case _:
            return list(_LINES[kind.name])


def _check(name: str, **settings: str) -> list[str]:
    values = {"name": name, **settings}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return ["", "[[evaluate.checks]]", *lines]
