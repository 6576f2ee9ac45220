"""The checks of a new project: what makes an answer of its kind a good one."""

import json
from collections.abc import Mapping, Sequence

from kamerton.advisor.kinds import Kind, TaskKind

__all__ = ["checks_of"]

_MOST_KEYS = 6
_NAME_CHARACTERS = 40

_LINES: Mapping[TaskKind, Sequence[str]] = {
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
        Lines of TOML.
    """
    match kind.name:
        case "several classes":
            return [
                *_check("is JSON", kind="json"),
                *_check("all labels right", kind="json_values"),
                *_check("labels F1", kind="json_values", metric="f1"),
            ]
        case "fields":
            lines = [
                *_check("is JSON", kind="json"),
                *_check("all fields right", kind="json_values"),
            ]
            taken = {"is JSON", "all fields right"}
            for key in kind.labels[:_MOST_KEYS]:
                name = f"field {key}"[:_NAME_CHARACTERS]
                if name not in taken:
                    lines += _check(name, kind="json_values", key=key)
                    taken.add(name)
            return lines
        case "rewriting" | "answers" | "dialogues":
            return _check("does not refuse", kind="refusal", expect=False)
        case _:
            return list(_LINES[kind.name])


def _check(name: str, **settings: str | bool) -> list[str]:
    values = {"name": name, **settings}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return ["", "[[evaluate.checks]]", *lines]
