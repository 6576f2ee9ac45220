"""Options that several verbs share."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kamerton.core.errors import SettingsError
from kamerton.core.language import Language, speak, translated

__all__ = [
    "DTYPES",
    "base_option",
    "device_option",
    "dtype_option",
    "ensure_parent",
    "in_project",
    "language_option",
    "project_option",
    "set_option",
    "store_option",
]

DTYPES = click.Choice(["auto", "float32", "bfloat16", "float16"])
"""What weights may be held in."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def project_option(command: _Command) -> _Command:
    """Add `--project`.

    Args:
        command: The verb.

    Returns:
        The verb with the option.
    """
    return click.option(
        "--project",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(),
        show_default="here",
        callback=_existing,
        help="Folder with variants, runs and the store.",
    )(command)


def store_option(command: _Command) -> _Command:
    """Add `--store`, whose value is called `address`.

    Args:
        command: The verb.

    Returns:
        The verb with the option.
    """
    return click.option(
        "--store",
        "address",
        default="",
        show_default="that of the project",
        metavar="URL",
        help="Database URL or SQLite file that traffic is recorded in.",
    )(command)


def _existing(_context: click.Context, _option: click.Parameter, project: Path) -> Path:
    """Refuse a folder that is not there: a mistyped one would be made, and hold no variants."""
    _ensure_folder(project, "--project")
    return project


def ensure_parent(path: Path, option: str) -> None:
    """Refuse to write into a folder that is not there, before hours of work rather than after.

    Args:
        path: File or folder to write.
        option: Option that gave it.

    Raises:
        SettingsError: If its folder does not exist.
    """
    _ensure_folder(path.parent, option)


def _ensure_folder(folder: Path, option: str) -> None:
    if not folder.is_dir():
        raise SettingsError(
            translated("{option}: there is no folder {folder}", option=option, folder=folder),
            hint=translated(
                "check the path; mkdir -p {quote} makes it", quote=shlex.quote(str(folder))
            ),
        )


def base_option(command: _Command) -> _Command:
    """Add `--base`.

    Args:
        command: A verb that opens variants.

    Returns:
        The verb with the option.
    """
    return click.option(
        "--base",
        default="",
        metavar="PLACE",
        show_default="where the recipe found it",
        help="Where the variants' base is now: a folder, a GGUF file or a Hub id. Other weights "
        "are refused.",
    )(command)


def device_option(command: _Command) -> _Command:
    """Add `--device`.

    Args:
        command: A verb that opens variants.

    Returns:
        The verb with the option.
    """
    return click.option(
        "--device",
        default="",
        metavar="DEVICE",
        show_default="as the recipe says",
        help="What to compute on: auto, cpu, cuda, cuda:1 or mps.",
    )(command)


def dtype_option(command: _Command) -> _Command:
    """Add `--dtype`.

    Args:
        command: A verb that opens variants.

    Returns:
        The verb with the option.
    """
    return click.option(
        "--dtype",
        type=DTYPES,
        default=None,
        show_default="as the recipe says",
        help="Of weights and computation.",
    )(command)


def in_project(project: Path) -> str:
    """Give the words that a command after this one needs to find the same project.

    Args:
        project: The folder that `--project` gives.

    Returns:
        " --project FOLDER", or nothing where it is here.
    """
    return "" if project == Path() else f" --project {shlex.quote(str(project))}"


def language_option(command: _Command) -> _Command:
    """Add `--language`, which counts for the whole process.

    Args:
        command: A verb of the main path, or the whole command line.

    Returns:
        The verb with the option.
    """

    def choose(_context: click.Context, _option: click.Parameter, value: Language | None) -> None:
        if value:
            speak(value)

    return click.option(
        "--language",
        type=click.Choice(["en", "ru"]),
        expose_value=False,
        is_eager=True,
        callback=choose,
        show_default="KAMERTON_LANGUAGE, or the locale's",
        help="Of messages and reports.",
    )(command)


def set_option(command: _Command) -> _Command:
    """Add `--set`.

    Args:
        command: The verb.

    Returns:
        The verb with the option.
    """
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a setting of the recipe, such as train.epochs=3. May be repeated.",
    )(command)
