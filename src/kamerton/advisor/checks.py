"""The checks of a new project: what makes an answer of its kind a good one."""

from kamerton.advisor.kinds import Kind, TaskKind
from kamerton.core.language import translated
from kamerton.core.settings import toml_value

__all__ = ["checks_of"]

_MOST_KEYS = 6
_NAME_CHARACTERS = 40


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
            return [f"# {line}" for line in _measured_without_checks(kind.name)]


def _measured_without_checks(kind: TaskKind) -> list[str]:
    """Say what is measured where a recipe has no checks."""
    match kind:
        case "classes":
            return [
                translated("accuracy and macro-F1 are measured for classes, over these labels only")
            ]
        case "pairs":
            return [
                translated(
                    "how often the better answer is the more probable one is measured for pairs"
                )
            ]
        case "thumbs":
            return [
                translated("whether liked answers stand above disliked ones is measured for thumbs")
            ]
        case "texts":
            return [
                translated(
                    "how well unseen texts are foretold is measured for plain texts: their loss"
                )
            ]
        case _:
            return [
                translated(
                    "loss on the right answers, likeness (chrF) and length are measured for texts;"
                ),
                translated("[[evaluate.checks]] say what else makes an answer good"),
            ]


def _check(name: str, **settings: str) -> list[str]:
    values = {"name": name, **settings}
    lines = [f"{key} = {toml_value(value)}" for key, value in values.items()]
    return ["", "[[evaluate.checks]]", *lines]
