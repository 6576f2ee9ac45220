"""`kamerton new FILE`."""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kamerton.cli.console import busy, harmless, messages, progress_sink
from kamerton.cli.options import language_option
from kamerton.core.durations import duration_text
from kamerton.core.errors import KamertonError
from kamerton.core.language import translated, translated_count

if TYPE_CHECKING:
    from kamerton.advisor.columns import Column
    from kamerton.flows.forecast import Measured
    from kamerton.flows.new import Looked
    from kamerton.flows.recipe import Recipe

__all__ = ["forecast_text", "new"]

_SHOWN_LABELS = 8


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option(
    "--recipe",
    "case_name",
    type=click.Choice(["classify", "tone", "support", "extract", "segments", "compliance"]),
    help="In the place of FILE: a business case with made-up examples, its checks and a page.",
)
@click.option("--question", default="", metavar="COLUMN", help="Column that asks, or '{a}\\n{b}'.")
@click.option("--answer", default="", metavar="COLUMN", help="Column with the answer or label.")
@click.option("--task", default="", metavar="SENTENCE", help="The task in one sentence.")
@click.option(
    "--base",
    default="",
    show_default="the real one that `make base` brings, else builtin:nano",
    help="What is adapted: a Hub id, a folder, a GGUF file.",
)
@click.option("--name", default="", show_default="FILE-lora", help="Name of the variant.")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    show_default="named as the file",
    help="Folder of the project; new or empty.",
)
@click.option("--no-measure", is_flag=True, help="Do not take steps to forecast time and memory.")
@language_option
def new(
    files: tuple[str, ...],
    case_name: str | None,
    question: str,
    answer: str,
    task: str,
    base: str,
    name: str,
    folder: Path | None,
    no_measure: bool,
) -> None:
    """Make a project of FILE: a recipe with the columns, the instruction and the checks.

    Several files with the same columns are joined; one with "test" in its name is the test set,
    one with "valid" or "holdout" chooses the step that training keeps.

    Says what the file is. In a terminal it asks what it cannot know, at most three questions;
    elsewhere the options say it, and several columns that fit equally are an error. The data
    stays where it is. A few steps are taken, about ten seconds, to forecast time and memory.
    """
    if bool(files) == bool(case_name):
        raise click.UsageError("give either FILE or --recipe")
    began = time.monotonic()
    with busy(translated("starting")):
        from kamerton.advisor.cases import CASES, lay_out
        from kamerton.flows import new as flow
        from kamerton.flows.new_files import sources_of

    imports_s = time.monotonic() - began
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    case = CASES[case_name] if case_name else None
    folder = folder or Path(case_name or flow.variant_name(files[0]).removesuffix("-lora"))
    flow.ensure_empty(folder)
    sources = sources_of([str(lay_out(case, folder))] if case else files, folder)
    name = name or ("" if case else flow.variant_name(files[0]))
    for sentence in sources.told:
        messages.print(harmless(sentence), soft_wrap=True)
    try:
        with progress_sink() as sink:
            looked = flow.look_at(sources, question, answer, _choose if asks else None, sink)
    except KamertonError:
        sources.undo()
        raise
    _say_what(looked)
    if asks and not task and case is None and looked.kind.name != "texts":
        task = click.prompt(
            translated("the task in one sentence"), default="", show_default=False, err=True
        )
    began = time.monotonic()
    with busy(translated("loading PyTorch")):
        from kamerton.flows.demo import base_at_hand
        from kamerton.flows.forecast import measure  # noqa: F401 (its time is a run's, too)
        from kamerton.flows.recipe import Recipe

    imports_s += time.monotonic() - began
    plan = flow.make_plan(looked, folder, name, task, base or f"builtin:{base_at_hand()}", case)
    _say_base(plan.base, bool(base), looked.language)
    _say_method(looked, sources.train)
    written = flow.write_project(folder, plan)
    forecast = "" if no_measure else _forecast(Recipe.read(written[0]), folder, imports_s)
    if forecast:
        messages.print(forecast, style="bold", soft_wrap=True)
        flow.write_project(folder, plan, forecast)
    if case is not None:
        written += [folder / "METHOD.md"]
    messages.print(
        translated("wrote {listed}", listed=", ".join(map(str, written))), soft_wrap=True
    )
    messages.print(translated("next:"))
    for command in (
        f"cd {shlex.quote(str(folder))}",
        "kamerton check recipe.toml --show 3",
        "kamerton train recipe.toml",
        f"kamerton evaluate {plan.name} --report report.html",
    ):
        messages.print(f"  {command}", soft_wrap=True)
    click.echo(folder)


def _forecast(recipe: "Recipe", folder: Path, imports_s: float) -> str:
    """Say what training will take here; nothing where that cannot be measured now."""
    from kamerton.flows.forecast import is_at_hand, measure

    if not is_at_hand(recipe.base.id):
        messages.print(
            translated("nothing was measured: the base would have to be fetched; train forecasts")
        )
        return ""
    messages.print(
        translated("taking a few steps to forecast time and memory, about 20 s"), style="dim"
    )
    try:
        with progress_sink() as sink:
            measured = measure(recipe, folder, sink, imports_s=imports_s)
    except KamertonError as error:
        messages.print(
            harmless(
                translated(
                    "no forecast, and training would end with: {message}", message=error.message
                )
            ),
            style="yellow",
        )
        return ""
    return forecast_text(measured)


def forecast_text(measured: "Measured") -> str:
    """Word a forecast.

    Args:
        measured: The forecast.

    Returns:
        Time, steps and memory in a sentence, and the parts that take long in another.
    """
    parts = ", ".join(
        f"{_PARTS[name]()} {duration_text(seconds)}"
        for name, seconds in measured.parts.items()
        if seconds >= _SHOWN_SHARE * measured.seconds
    )
    return translated(
        "Forecast for this machine as busy as it is now: {time} for {steps}, from the command to "
        "the variant, and {memory} GiB of memory ({parts}). It comes from {measured} spread over "
        "the run, which were taken and forgotten.",
        time=duration_text(measured.seconds),
        steps=translated_count(measured.num_steps, "step"),
        memory=f"{measured.peak_bytes / 2**30:.1f}",
        parts=parts,
        measured=translated_count(measured.num_measured, "step"),
    )


_SHOWN_SHARE = 0.05
_PARTS = {
    "start": lambda: translated("starting"),
    "steps": lambda: translated("steps"),
    "measuring": lambda: translated("measuring"),
    "saving": lambda: translated("saving"),
    "end": lambda: translated("what follows them"),
}


def _say_method(looked: "Looked", file: str) -> None:
    """Say which method is advised first; the recipe has the small one that trains."""
    from kamerton.advisor.methods import Situation, advise

    examples = looked.checked.loaded.examples
    first = advise(Situation(looked.kind.name, len(examples), has_gpu=False, is_small=False))[0]
    if first.fits:
        messages.print(
            translated(
                "method to try first: {name}; kamerton advise {file} says why, and "
                "ranks the others",
                name=first.method.name,
                file=shlex.quote(file),
            ),
            soft_wrap=True,
        )
    else:
        few = translated(
            "for every method these are too few examples; the nearest is {method}: {why}",
            method=first.method.name,
            why=first.why,
        )
        messages.print(harmless(few), style="yellow", soft_wrap=True)


def _choose(role: str, candidates: "Sequence[Column]") -> str:
    """Ask which column has a role, by its number."""
    messages.print(
        translated("which column is the question?")
        if role == "question"
        else translated("which column is the answer?")
    )
    for number, column in enumerate(candidates, 1):
        messages.print(f"  {number}  {harmless(column.shown)}")
    chosen: int = click.prompt(
        translated("number"), type=click.IntRange(1, len(candidates)), default=1, err=True
    )
    return candidates[chosen - 1].name


def _say_what(looked: "Looked") -> None:
    """Say what the file is, how it is read, and what to mind."""
    audit = looked.checked.audit
    encoding = f", {looked.encoding}" if looked.encoding else ""
    messages.print(
        translated(
            "{source}: {rows}, {columns}{encoding}",
            source=looked.source,
            rows=translated_count(audit.num_rows, "row"),
            columns=translated_count(looked.num_columns, "column"),
            encoding=encoding,
        ),
        soft_wrap=True,
    )
    messages.print(harmless(translated("it is {kind}", kind=looked.kind.shown)), style="bold")
    read = ", ".join(
        translated("{ours} from {theirs}", ours=ours, theirs=theirs)
        for ours, theirs in looked.shown_columns.items()
    )
    if read:
        messages.print(harmless(translated("read as: {read}", read=read)), soft_wrap=True)
    if looked.unused:
        unused = translated("not read: {columns}", columns=", ".join(looked.unused))
        messages.print(harmless(unused), soft_wrap=True)
    if looked.stars:
        stars = translated(
            "'{column}' rates the answers, and good and bad ones are learned from alike: leave the "
            "bad ones out of the file",
            column=looked.stars,
        )
        messages.print(harmless(stars), style="yellow", soft_wrap=True)
    if looked.kind.name == "classes":
        shown = list(audit.labels.items())[:_SHOWN_LABELS]
        more = len(audit.labels) - len(shown)
        text = ", ".join(f"{label} {number}" for label, number in shown)
        messages.print(
            harmless(
                translated("labels: {told}", told=text)
                + (translated(" and {more} more", more=more) if more else "")
            ),
            soft_wrap=True,
        )
    for warning in audit.warnings:
        messages.print(harmless(warning), style="yellow", soft_wrap=True)
    if audit.rejections:
        messages.print(
            translated(
                "{rows} cannot be used: kamerton check {file} lists them",
                rows=translated_count(len(audit.rejections), "row"),
                file=shlex.quote(looked.source),
            ),
            style="yellow", soft_wrap=True,
        )  # fmt: skip


def _say_base(base: str, is_wanted: bool, language: str) -> None:
    """Say plainly what the base is that nobody chose, and whether it knows the language."""
    if base == "builtin:nano":
        text = translated("builtin:nano is a toy: it shows the way, and its answers are of no use")
        if not is_wanted:
            text += translated("; `make base` brings a real one, --base names another")
    elif base == "builtin:smollm2" and language not in ("en", ""):
        text = translated(
            "builtin:smollm2 knows English, and the texts are in '{language}'; name a base that "
            "knows it: --base",
            language=language,
        )
    else:
        text = translated("base: {base}", base=base)
    messages.print(text, soft_wrap=True)
