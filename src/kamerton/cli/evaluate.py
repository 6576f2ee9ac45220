"""`kamerton evaluate VARIANT...`."""

import json
from pathlib import Path
from typing import Any

import click

from kamerton.cli.console import busy, data_console, messages, print_table, progress_sink
from kamerton.cli.options import (
    base_option,
    device_option,
    dtype_option,
    project_option,
    set_option,
)

__all__ = ["evaluate"]


@click.command()
@click.argument("variants", nargs=-1, required=True)
@click.option(
    "--data", help="File to measure on; the variant's own test set or holdout when left out."
)
@click.option("--report", type=click.Path(path_type=Path), help="Write an HTML report.")
@set_option
@base_option
@device_option
@dtype_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def evaluate(
    variants: tuple[str, ...],
    data: str | None,
    report: Path | None,
    overrides: tuple[str, ...],
    base: str,
    device: str,
    dtype: Any,
    project: Path,
    as_json: bool,
) -> None:
    """Compare VARIANTS with zero-shot and few-shot prompting, and with what they went on from.

    --set evaluate.KEY=VALUE changes how, as in a recipe; --set data.KEY=VALUE how the file of
    --data is read, such as data.columns.text=question.
    """
    with busy("loading PyTorch"):
        from kamerton.evaluation.per_label import per_label, per_label_table
        from kamerton.evaluation.table import terminal_table
        from kamerton.flows.evaluate import evaluate_variants, evaluation_settings
        from kamerton.flows.report import ensure_writable, write_evaluation_report
        from kamerton.flows.workspace import Workspace
        from kamerton.store.variants import find_variant
        from kamerton.variants.load import Opening

    workspace = Workspace(project)
    found = [find_variant(name, workspace.variants) for name in variants]
    settings, reading = evaluation_settings(found[0], overrides, data)
    if report is not None:
        ensure_writable(report)
    with progress_sink() as sink:
        opening = Opening(base, device, dtype, sink)
        evaluated = evaluate_variants(
            found, workspace, sink, data=data, reading=reading, settings=settings, opening=opening
        )
    if as_json:
        click.echo(json.dumps(evaluated.comparison.to_json(), ensure_ascii=False))
    else:
        print_table(data_console(), terminal_table(evaluated.comparison))
        if (found_labels := per_label(evaluated.items, evaluated.answers)) is not None:
            print_table(data_console(), per_label_table(found_labels))
    if report is not None:
        with busy("writing the report"):
            write_evaluation_report(report, evaluated, workspace, found[0].name)
        messages.print(f"report: {report}", soft_wrap=True)
