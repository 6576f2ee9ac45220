"""`kamerton demo`."""

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
from rich.console import Console

from kamerton.cli.answers import answer_panel, print_side_by_side
from kamerton.cli.audit_table import print_audit
from kamerton.cli.console import busy, data_console, messages, print_table, progress_sink
from kamerton.cli.options import in_project, language_option
from kamerton.core.language import translated

if TYPE_CHECKING:
    from kamerton.flows.demo import Demo, DemoBase, Shown

__all__ = ["demo"]

_ABOUT = {
    "smollm2": "builtin:smollm2, a real chat model in English: prompting is a rival on it; about "
    "three minutes on two cores (--base nano shows the bundled toy, in one)",
    "nano": "builtin:nano, the bundled toy in English and Russian: prompting does not work on it",
}
_REAL = (
    "on a real chat model: `make base` brings builtin:smollm2 (93 MB), `make demo` then shows it"
)


@click.command()
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the variant, the run and the report.",
)
@click.option(
    "--base",
    "wanted",
    type=click.Choice(["auto", "smollm2", "nano"]),
    default="auto",
    show_default=True,
    help="What is adapted: the real base that `make base` brings, or the bundled toy. auto takes "
    "the real one if it is there; nothing is fetched.",
)
@language_option
def demo(folder: Path, wanted: str) -> None:
    """Go the whole way on the support desk of a fictional company, offline, in minutes.

    Audits its examples, trains a LoRA, compares it with zero-shot and 4-shot prompting on held-out
    questions, shows answers of each, and writes an HTML report.
    """
    started = time.monotonic()
    with busy(translated("loading PyTorch")):
        from kamerton.cli.verdict import print_headline
        from kamerton.evaluation.headline import headline
        from kamerton.evaluation.table import terminal_table
        from kamerton.flows.demo import Demo, base_at_hand, shown_answers
        from kamerton.models.smollm2 import find_smollm2

    if wanted == "smollm2":
        find_smollm2()
    run = Demo(folder, base_at_hand() if wanted == "auto" else cast("DemoBase", wanted))
    messages.print(translated("base: {ABOUT}", ABOUT=_ABOUT[run.base]), soft_wrap=True)
    if run.base == "nano" and wanted == "auto":
        messages.print(_REAL, style="dim", soft_wrap=True)
    out = data_console()
    # Bars are over before anything goes to stdout: the two would write into one another.
    _step(1, "check the examples")
    with progress_sink() as sink:
        checked = run.check(sink)
    print_audit(out, checked.audit)
    _step(2, f"train a LoRA on builtin:{run.base}")
    with progress_sink() as sink:
        made = run.train(sink)
    _step(3, "compare it with prompting on held-out questions")
    with progress_sink() as sink:
        evaluated = run.evaluate(made, sink)
    print_headline(out, headline(evaluated.comparison))
    print_table(out, terminal_table(evaluated.comparison))
    for shown in shown_answers(evaluated):
        _show(out, shown, made.variant.name)
    with busy(translated("writing the report")):
        report = run.report(made, evaluated)
    seconds = time.monotonic() - started
    messages.print()
    messages.print(
        translated(
            "done in {value:.0f} min {value2:.0f} s; report: {report}",
            value=seconds // 60,
            value2=seconds % 60,
            report=report,
        ),
        soft_wrap=True,
    )
    _say_next(run, made.variant.name)


def _show(out: Console, shown: "Shown", name: str) -> None:
    """Print a question with all answers to it; the right one too where facts are missing."""
    asked = "a customer asks" if shown.right else f"a customer asks, and {name} misses the facts"
    out.print()
    out.print(answer_panel(shown.question, asked, style="cyan"))
    print_side_by_side(out, shown.answers)
    if not shown.right:
        out.print(answer_panel(shown.reference, "the right answer", style="green"))


def _say_next(run: "Demo", name: str) -> None:
    """Say what to do now: talk to the variant, then go the same way with one's own examples."""
    program = _program()
    commands = {
        f"{program} chat {name}{in_project(run.folder)}": "ask it yourself",
        f"cp {_from_here(run.recipe_file)} recipe.toml": "then name your own files in it",
        f"{program} check recipe.toml --show 3": "their faults, and how a base reads them",
        f"{program} train recipe.toml": "again after Ctrl-C: it goes on",
        f"{program} evaluate {name} --report report.html": "beside prompting, as here",
    }
    width = max(map(len, commands))
    messages.print(translated("next, with examples of your own:"))
    for command, why in commands.items():
        messages.print(f"  {command:{width}}  # {why}", soft_wrap=True)


def _program() -> str:
    """Name this program as a shell finds it: `make demo` does not need an activated .venv."""
    called = Path(sys.argv[0])
    if called.name != "kamerton" or shutil.which("kamerton"):
        return "kamerton"
    return _from_here(called.absolute())


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _step(number: int, what: str) -> None:
    messages.print()
    messages.print(f"{number}/3 {what}", style="bold")
