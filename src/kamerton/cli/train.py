"""`kamerton train RECIPE`."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from kamerton.cli.console import busy, messages, progress_sink
from kamerton.cli.options import in_project, language_option, project_option, set_option
from kamerton.cli.stopping import stop_flag
from kamerton.cli.suggestions import print_suggestions, train_command
from kamerton.core.errors import SettingsError
from kamerton.core.events import fan_out
from kamerton.core.language import translated, translated_count
from kamerton.core.settings import read_toml
from kamerton.data.reading.readers import READABLE

if TYPE_CHECKING:
    from kamerton.flows.trying import Tried
    from kamerton.flows.workspace import Workspace
    from kamerton.store.variants import Variant

__all__ = ["train"]


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@set_option
@project_option
@click.option(
    "--fresh", is_flag=True, help="Start over; what the variant was before is kept as NAME.1."
)
@click.option(
    "--try",
    "is_trying",
    is_flag=True,
    help="First try three learning rates in short runs, and go on with the best.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the variant's manifest as JSON.")
@language_option
def train(
    recipe: Path,
    overrides: tuple[str, ...],
    project: Path,
    fresh: bool,
    is_trying: bool,
    as_json: bool,
) -> None:
    """Make a variant from RECIPE.

    A run that was stopped goes on with the same command, and ends with the same bits.
    """
    _ensure_no_data(recipe)
    read_toml(recipe)  # what is wrong with the file is said before PyTorch is loaded
    with busy(translated("loading PyTorch")):
        from kamerton.flows.after_training import suggest_after_training
        from kamerton.flows.recipe import Recipe
        from kamerton.flows.train import make_variant
        from kamerton.flows.trying import try_rates, with_rate
        from kamerton.flows.workspace import Workspace

    settings = Recipe.read(recipe, overrides)
    workspace = Workspace(project)
    try:
        with progress_sink() as bars, stop_flag() as stop:
            sink = fan_out([stop.watch, bars])
            if is_trying:
                tried = try_rates(
                    settings, recipe.parent, workspace, sink, should_stop=stop, fresh=fresh
                )
                _say_tried(tried)
                settings = with_rate(settings, tried.rate)
                overrides = (*overrides, f"train.learning_rate={tried.rate:g}")
            made = make_variant(
                settings, recipe.parent, workspace, sink, should_stop=stop, fresh=fresh
            )
    except KeyboardInterrupt:
        messages.print(
            translated("the same command goes on from the last state that was saved, if any")
        )
        raise
    variant, outcome = made.variant, made.outcome
    if outcome is not None:
        loss = (
            ""
            if outcome.holdout_loss is None
            else translated(", held-out loss {loss:.4f}", loss=outcome.holdout_loss)
        )
        steps = translated_count(outcome.num_steps, "step")
        reason = translated("done") if outcome.reason == "done" else translated("early stop")
        messages.print(
            translated(
                "{reason} after {steps} in {seconds:.0f} s; kept step {kept_step}{loss}",
                reason=reason,
                steps=steps,
                seconds=outcome.seconds,
                kept_step=outcome.kept_step,
                loss=loss,
            )
        )
    again = train_command(recipe, overrides, project)
    print_suggestions(suggest_after_training(made, workspace, again))
    # Without examples kept aside there is nothing to evaluate on.
    verb = "evaluate" if variant.manifest.data.num_holdout else "chat"
    names = " ".join([variant.name, *_teacher_of(made.variant, workspace)])
    following = f"kamerton {verb} {names}{in_project(project)}"
    messages.print(
        translated("next: {following}", following=following), style="dim", soft_wrap=True
    )
    if as_json:
        click.echo(json.dumps(variant.manifest.model_dump(mode="json"), ensure_ascii=False))
    else:
        click.echo(variant.folder)


def _teacher_of(variant: "Variant", workspace: "Workspace") -> list[str]:
    """Name the teacher that a student can be compared with: one over the same base."""
    from kamerton.core.errors import VariantError
    from kamerton.flows.baselines import same_base
    from kamerton.store.variants import find_variant

    name = str(variant.manifest.recipe.get("objective", {}).get("teacher") or "")
    if not name:
        return []
    try:
        teacher = find_variant(name, workspace.variants)
    except VariantError:
        return []
    return [name] if same_base(variant, teacher) else []


def _say_tried(tried: "Tried") -> None:
    """Say what each rate came to, and which one is taken."""
    if not tried.is_new:
        text = translated("the learning rate {rate:g} was chosen before", rate=tried.rate)
        messages.print(text, style="dim")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column(translated("learning rate"), justify="right")
    table.add_column(translated("held-out loss"), justify="right")
    table.add_column()
    for trial in sorted(tried.trials, key=lambda one: one.rate):
        loss = trial.held_out_loss
        shown = translated("exploded") if loss is None else f"{loss:.4f}"
        taken = translated("taken") if trial.rate == tried.rate else ""
        table.add_row(f"{trial.rate:g}", shown, taken)
    messages.print(table)


def _ensure_no_data(recipe: Path) -> None:
    """Refuse a file of examples where a recipe is wanted."""
    suffixes = [suffix.lower() for suffix in recipe.suffixes if suffix != ".gz"]
    # A recipe may be called .txt.
    if recipe.is_file() and suffixes and suffixes[-1] in set(READABLE) - {".txt", ".md"}:
        where = shlex.quote(str(recipe))
        raise SettingsError(
            translated("{recipe}: this is data, and train takes a recipe", recipe=recipe),
            hint=translated(
                "write a recipe whose [data] has train = {dumps}, such as those in "
                "recipes/; kamerton check {where} shows what is in the data",
                dumps=json.dumps(str(recipe)),
                where=where,
            ),
        )
