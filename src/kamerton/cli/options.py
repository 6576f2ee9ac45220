"""Options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["project_option", "set_option"]

_Command = Callable[..., Any]

project_option: Callable[[_Command], _Command] = click.option(
    "--project",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="here",
    help="Folder with variants, runs and the store.",
)

set_option: Callable[[_Command], _Command] = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting of the recipe, such as train.epochs=3. May be repeated.",
)
