"""`kamerton train RECIPE`."""

import json
import shlex
from pathlib import Path

import click

from kamerton.cli.console import busy, messages, progress_sink
from kamerton.cli.options import in_project, project_option, set_option
from kamerton.cli.stopping import stop_flag
from kamerton.cli.suggestions import print_suggestions, train_command
from kamerton.core.errors import SettingsError
from kamerton.core.events import fan_out
from kamerton.core.settings import read_toml
from kamerton.core.wording import counted
from kamerton.data.reading.readers import READABLE

__all__ = ["train"]


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@set_option
@project_option
@click.option(
    "--fresh", is_flag=True, help="Start over; what the variant was before is kept as NAME.1."
)
@click.option("--json", "as_json", is_flag=True, help="Print the variant's manifest as JSON.")
def train(
    recipe: Path, overrides: tuple[str, ...], project: Path, fresh: bool, as_json: bool
) -> None:
    """Make a variant from RECIPE.

    A run that was stopped goes on with the same command, and ends with the same bits.
    """
    _ensure_no_data(recipe)
    read_toml(recipe)  # what is wrong with the file is said before PyTorch is loaded
    with busy("loading PyTorch"):
        from kamerton.flows.after_training import suggest_after_training
        from kamerton.flows.recipe import Recipe
        from kamerton.flows.train import make_variant
        from kamerton.flows.workspace import Workspace

    settings = Recipe.read(recipe, overrides)
    workspace = Workspace(project)
    try:
        with progress_sink() as bars, stop_flag() as stop:
            sink = fan_out([stop.watch, bars])
            made = make_variant(
                settings, recipe.parent, workspace, sink, should_stop=stop, fresh=fresh
            )
    except KeyboardInterrupt:
        messages.print("the same command goes on from the last state that was saved, if any")
        raise
    variant, outcome = made.variant, made.outcome
    if outcome is not None:
        loss = "" if outcome.holdout_loss is None else f", held-out loss {outcome.holdout_loss:.4f}"
        steps = counted(outcome.num_steps, "step")
        messages.print(
            f"{outcome.reason} after {steps} in {outcome.seconds:.0f} s; "
            f"kept step {outcome.kept_step}{loss}"
        )
    again = train_command(recipe, overrides, project)
    print_suggestions(suggest_after_training(made, workspace, again))
    # Without examples kept aside there is nothing to evaluate on.
    verb = "evaluate" if variant.manifest.data.num_holdout else "chat"
    following = f"next: kamerton {verb} {variant.name}{in_project(project)}"
    messages.print(following, style="dim", soft_wrap=True)
    if as_json:
        click.echo(json.dumps(variant.manifest.model_dump(mode="json"), ensure_ascii=False))
    else:
        click.echo(variant.folder)


def _ensure_no_data(recipe: Path) -> None:
    """Refuse a file of examples where a recipe is wanted."""
    suffixes = [suffix.lower() for suffix in recipe.suffixes if suffix != ".gz"]
    # A recipe may be called .txt.
    if recipe.is_file() and suffixes and suffixes[-1] in set(READABLE) - {".txt", ".md"}:
        where = shlex.quote(str(recipe))
        raise SettingsError(
            f"{recipe}: this is data, and train takes a recipe",
            hint=f"write a recipe whose [data] has train = {json.dumps(str(recipe))}, such as "
            f"those in recipes/; kamerton check {where} shows what is in the data",
        )
