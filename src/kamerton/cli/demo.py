"""`kamerton demo`."""

import time
from pathlib import Path

import click
from rich.console import Console
from rich.panel import Panel

from kamerton.cli.audit_table import print_audit
from kamerton.cli.console import messages, progress_sink

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
    from kamerton.evaluation.table import terminal_table
    from kamerton.flows.demo import Demo, side_by_side

    started = time.monotonic()
    out = Console(highlight=False)
    with progress_sink() as sink:
        run = Demo(folder, sink)
        _step(1, "check the examples")
        print_audit(out, run.check().audit)
        _step(2, "train a LoRA on builtin:nano")
        made = run.train()
        _step(3, "compare it with prompting on held-out questions")
        evaluated = run.evaluate(made)
    out.print(terminal_table(evaluated.comparison))
    question, answers = side_by_side(evaluated)
    out.print(Panel(question, title="a customer asks", border_style="cyan"))
    for name, answer in answers.items():
        out.print(Panel(answer or "(nothing)", title=name))
    report = run.report(made, evaluated)
    seconds = time.monotonic() - started
    messages.print(f"done in {seconds // 60:.0f} min {seconds % 60:.0f} s; report: {report}")
    messages.print(
        f"next: kamerton chat {made.variant.name} --project {folder}, then your own recipe",
        style="dim",
    )


def _step(number: int, what: str) -> None:
    messages.print(f"{number}/3 {what}", style="bold")
