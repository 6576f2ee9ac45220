"""Suggestions as lines: what was seen, and below it the command to paste."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kamerton.cli.console import harmless, messages
from kamerton.cli.options import in_project
from kamerton.core.language import translated

if TYPE_CHECKING:
    from kamerton.advisor.suggestion import Suggestion

__all__ = ["print_suggestions", "train_command"]


def print_suggestions(suggestions: "Sequence[Suggestion]") -> None:
    """Print suggestions among the messages; nothing where there are none.

    Args:
        suggestions: The suggestions, the most pressing first.
    """
    if suggestions:
        messages.print(translated("what to do next:"), style="bold")
    for suggestion in suggestions:
        messages.print(f"- {harmless(suggestion.text)}", soft_wrap=True)
        if suggestion.command:
            messages.print(f"  {harmless(suggestion.command)}", style="cyan", soft_wrap=True)


def train_command(
    recipe: Path, overrides: Sequence[str], project: Path
) -> Callable[[Mapping[str, object]], str]:
    """Give the command that trains a recipe anew with other settings.

    Args:
        recipe: The recipe's path, as the user gave it.
        overrides: The values of `--set` that the user gave.
        project: The folder of `--project`.

    Returns:
        Takes settings by key, which replace the user's own, and gives the command.
    """

    def command(settings: Mapping[str, object]) -> str:
        kept = [one for one in overrides if one.partition("=")[0].strip() not in settings]
        given = [*kept, *(f"{key}={value}" for key, value in settings.items())]
        options = "".join(f" --set {shlex.quote(one)}" for one in given)
        return f"kamerton train {shlex.quote(str(recipe))}{in_project(project)} --fresh{options}"

    return command
