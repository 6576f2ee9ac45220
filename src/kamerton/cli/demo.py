"""`kamerton demo`."""

import time
from pathlib import Path

import click

from kamerton.cli.answers import answer_panel
from kamerton.cli.audit_table import print_audit
from kamerton.cli.console import busy, data_console, messages, print_table, progress_sink
from kamerton.cli.options import in_project

__all__ = ["demo"]


@click.command()
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the variant, the run and the report.",
)
def demo(folder: Path) -> None:
    """Go the whole way on the support desk of a fictional company, offline, in minutes.

    Audits its examples, trains a LoRA on the bundled base, compares it with zero-shot and 4-shot
    prompting on held-out questions, and writes an HTML report.
    """
    started = time.monotonic()
    with busy("loading PyTorch"):
        from kamerton.evaluation.table import terminal_table
        from kamerton.flows.demo import Demo, side_by_side

    out = data_console()
    run = Demo(folder)
    # Bars are over before anything goes to stdout: the two would write into one another.
    _step(1, "check the examples")
    with progress_sink() as sink:
        checked = run.check(sink)
    print_audit(out, checked.audit)
    _step(2, "train a LoRA on builtin:nano")
    with progress_sink() as sink:
        made = run.train(sink)
    _step(3, "compare it with prompting on held-out questions")
    with progress_sink() as sink:
        evaluated = run.evaluate(made, sink)
    print_table(out, terminal_table(evaluated.comparison))
    question, answers = side_by_side(evaluated)
    out.print()
    out.print(answer_panel(question, "a customer asks", style="cyan"))
    for name, answer in answers.items():
        out.print(answer_panel(answer, name))
    with busy("writing the report"):
        report = run.report(made, evaluated)
    seconds = time.monotonic() - started
    messages.print(
        f"done in {seconds // 60:.0f} min {seconds % 60:.0f} s; report: {report}", soft_wrap=True
    )
    messages.print(
        f"next: kamerton chat {made.variant.name}{in_project(folder)}, then your own recipe",
        style="dim",
        soft_wrap=True,
    )


def _step(number: int, what: str) -> None:
    messages.print()
    messages.print(f"{number}/3 {what}", style="bold")
