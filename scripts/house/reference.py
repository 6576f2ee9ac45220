"""Write the reference pages from the code, or check that they are up to date.

    python scripts/house/reference.py [--check]

Settings come from the recipe's models and their docstrings, verbs from the command line, errors
from their classes.
"""

import argparse
import re
import sys
import typing
from pathlib import Path
from types import UnionType
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kamerton.cli.main import VERBS
from kamerton.cli.main import main as command
from kamerton.core import errors
from kamerton.flows.recipe import Recipe

PAGES = Path(__file__).parents[2] / "docs" / "reference"
CHECKS = ("evaluate.checks", "objective.rewards")
"""Where tables hold checks: they are described once, and not at every place."""


def settings_page() -> str:
    """Describe every setting of a recipe."""
    lines = [
        "# Settings of a recipe",
        "",
        "Generated from the code. Unknown keys are errors. A table with a `kind` has a section for "
        "each kind.",
        "",
    ]
    lines += _section(Recipe, "", set())
    return "\n".join(lines)


def _section(
    model: type[BaseModel], prefix: str, seen: set[tuple[str, type[BaseModel]]]
) -> list[str]:
    """Describe a table and those in it, but none twice: several objectives have the same."""
    nested = []
    lines = [
        _first(model),
        "",
        "| setting | type | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for name, field in model.model_fields.items():
        members, path = _models(field.annotation), f"{prefix}.{name}".strip(".")
        kind = _kind(field.annotation).replace("|", "\\|")
        if not prefix.startswith(CHECKS):
            table = f"[[{path}]]" if kind.startswith("list") else f"[{path}]"
            nested += [(member, path, table) for member in members]
            kind = _linked(kind, [one for member in members for one in _titles(member, table)])
        default = _default(field, bool(members))
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        lines.append(f"| `{name}` | {kind} | {default} | {meaning} |")
    lines.append("")
    for member, path, table in nested:
        if (path, member) not in seen:
            seen.add((path, member))
            title, *others = _titles(member, table)
            lines += [f"## {title}", "", *_section(member, path, seen)]
            for other in others:
                lines += [f"## {other}", "", f"Another name of {_link(title)}.", ""]
    return lines


def _titles(model: type[BaseModel], table: str) -> list[str]:
    """Name a table's sections: one for each kind, which a model may have two of."""
    kind = model.model_fields.get("kind")
    return [f"{table} {one}" for one in typing.get_args(kind.annotation)] if kind else [table]


def _linked(kind: str, titles: list[str]) -> str:
    """Link the type of a setting that holds tables to their sections."""
    links = [_link(title, title.rpartition("] ")[2]) for title in titles if "] " in title]
    if links:
        return f"{kind}: {', '.join(links)}"
    return f"[{kind}](#{_anchor(titles[0])})" if titles else kind


def _link(title: str, text: str = "") -> str:
    return f"[`{text or title}`](#{_anchor(title)})"


def _anchor(title: str) -> str:
    """The anchor that Markdown gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _first(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models(argument)]


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f'"{value}"' for value in arguments)
    if origin in (typing.Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(argument) for argument in arguments))
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false",
             type(None): "nothing"}  # fmt: skip
    if annotation in names:
        return names[annotation]
    if origin in (tuple, list):
        return f"list of {_kind(arguments[0])}"
    return "table" if origin is dict else str(annotation)


def _default(field: FieldInfo, is_table: bool) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if is_table or value is PydanticUndefined:
        kind = getattr(value, "kind", None)
        return f'`kind = "{kind}"`' if kind else ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`".replace("'", '"')
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def verbs_page() -> str:
    """Print the help of every verb."""
    lines = ["# Verbs", "", "Generated from the command line.", ""]
    context = click.Context(command, info_name="kamerton")
    for name in VERBS:
        found = command.get_command(context, name)
        assert found is not None
        lines += _help(found, f"kamerton {name}")
    return "\n".join(lines)


def _help(found: click.Command, name: str) -> list[str]:
    context = click.Context(found, info_name=name, terminal_width=100, max_content_width=100)
    lines = [f"## {name}", "", "```", found.get_help(context), "```", ""]
    if isinstance(found, click.Group):
        for child in found.list_commands(context):
            member = found.get_command(context, child)
            assert member is not None
            lines += _help(member, f"{name} {child}")
    return lines


def errors_page() -> str:
    """List every error with its code and exit status."""
    lines = [
        "# Errors",
        "",
        "Generated from the code.",
        "",
        "| error | code | exit status | meaning |",
    ]
    lines.append("| --- | --- | --- | --- |")
    for name in errors.__all__:
        kind = getattr(errors, name)
        lines.append(
            f"| `{name}` | {kind.code} | {kind.exit_status} | {kind.__doc__.splitlines()[0]} |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    """Write or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether they are up to date")
    only_check = parser.parse_args().check
    stale = []
    pages = {"settings.md": settings_page, "verbs.md": verbs_page, "errors.md": errors_page}
    for name, write in pages.items():
        path, text = PAGES / name, write().rstrip() + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not only_check:
                PAGES.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if only_check and stale:
        print(f"out of date: docs/reference/{', '.join(stale)}; run make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
