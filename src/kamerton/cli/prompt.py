"""`kamerton prompt search`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from kamerton.cli.console import busy, data_console, messages, print_table, progress_sink
from kamerton.cli.options import in_project, language_option, project_option, set_option
from kamerton.core.errors import SettingsError
from kamerton.core.language import translated

if TYPE_CHECKING:
    from kamerton.flows.prompt_search import Searched

__all__ = ["prompt"]

_SHOWN_CHARACTERS = 60


@click.group()
def prompt() -> None:
    """Search the best instruction and demonstrations; nothing is trained."""


@prompt.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--instructions",
    type=click.Path(path_type=Path),
    help="Text file of system texts to try, with an empty line between them.",
)
@click.option(
    "--questions",
    default=96,
    show_default=True,
    type=click.IntRange(min=12),
    help="Most questions of the training part to search on.",
)
@click.option("--name", default="", help="The variant's name; the recipe's with -prompt if empty.")
@set_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print what was tried as JSON.")
@language_option
def search(
    recipe: Path,
    instructions: Path | None,
    questions: int,
    name: str,
    overrides: tuple[str, ...],
    project: Path,
    as_json: bool,
) -> None:
    """Search the best prompt for RECIPE, and make a variant of it.

    The instructions are the recipe's, one that is built of the data, and yours. With each, worked
    examples are tried: none, 4 and 8, chosen in several ways. Weak ones drop out early. What is
    kept aside is not looked at: kamerton evaluate measures the winner on it.
    """
    texts = _read(instructions) if instructions else []
    with busy(translated("loading PyTorch")):
        from kamerton.flows.prompt_search import search_prompts
        from kamerton.flows.recipe import Recipe
        from kamerton.flows.workspace import Workspace

    settings = Recipe.read(recipe, overrides)
    workspace = Workspace(project)
    with progress_sink() as sink:
        found = search_prompts(
            settings, recipe.parent, workspace, sink,
            name=name, instructions=texts, most_questions=questions,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        print_table(data_console(), _table(found))
    for line in found.recipe_lines:
        messages.print(line, style="bold", soft_wrap=True)
    following = translated(
        "next, on what the search did not see: kamerton evaluate {name}{project}",
        name=found.variant.name,
        project=in_project(project),
    )
    messages.print(following, style="dim", soft_wrap=True)


def _read(path: Path) -> list[str]:
    """Read texts between empty lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            translated("--instructions {path}: cannot be read as UTF-8 text", path=path)
        ) from error
    return [part.strip() for part in text.replace("\r\n", "\n").split("\n\n") if part.strip()]


def _table(found: "Searched") -> Table:
    """All candidates: those that came farthest first."""
    by_label = found.measured[0] == "right"
    table = Table(box=None, pad_edge=False)
    table.add_column(translated("instruction"), overflow="fold")
    table.add_column(translated("shown"), overflow="fold")
    table.add_column(translated("tried on"), justify="right")
    if by_label:
        table.add_column(translated("right"), justify="right")
    table.add_column(translated("log-probability"), justify="right")
    for place, trial in enumerate(found.trials):
        one = found.settings[trial.candidate]
        shown = f"{one.demonstrations} {one.selection}" if one.demonstrations else "0"
        shown += translated(", seed {seed}", seed=one.seed) if one.seed else ""
        cells = [f"{100 * trial.score[0]:.0f} %"] if by_label else []
        table.add_row(
            Text(_shortened(one.system) or translated("none")), shown, str(trial.num_questions),
            *cells, f"{trial.score[-1]:.3f}", style="bold" if place == 0 else "",
        )  # fmt: skip
    return table


def _shortened(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _SHOWN_CHARACTERS else one_line[:_SHOWN_CHARACTERS] + "…"
