"""`kamerton label FILE --teacher VARIANT --gold GOLD --to OUT`."""

import json
from pathlib import Path
from typing import Any

import click

from kamerton.cli.console import busy, data_console, harmless, messages, print_table, progress_sink
from kamerton.cli.options import (
    base_option,
    device_option,
    dtype_option,
    ensure_parent,
    project_option,
    set_option,
)

__all__ = ["label"]

_SHOWN_PROBLEMS = 20


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--teacher", required=True, metavar="VARIANT", help="Variant of this project that labels."
)
@click.option(
    "--to",
    required=True,
    metavar="OUT",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the labels that are kept: .jsonl, .csv, .tsv or .parquet.",
)
@click.option(
    "--gold",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Rows that people have labelled; they choose what is kept.",
)
@click.option(
    "--precision",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0.5, 1, max_open=True),
    help="Share of the kept labels that must be right.",
)
@click.option(
    "--redact",
    is_flag=True,
    help="Replace e-mails, phone numbers and the like by placeholders before the teacher reads.",
)
@set_option
@base_option
@device_option
@dtype_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
def label(
    file: Path,
    teacher: str,
    to: Path,
    gold: Path,
    precision: float,
    redact: bool,
    overrides: tuple[str, ...],
    base: str,
    device: str,
    dtype: Any,
    project: Path,
    as_json: bool,
) -> None:
    """Label the rows of FILE by a teacher, and keep the labels that are proven good enough.

    The same command goes on after a stop. --set data.KEY=VALUE changes how FILE is read, such as
    data.columns.text=question; --set select.KEY=VALUE what is kept.
    """
    with busy("loading PyTorch"):
        from kamerton.cli.label_words import curve_table, facts, labels_table, next_steps
        from kamerton.flows.label import label_settings, label_with_variant
        from kamerton.flows.workspace import Workspace
        from kamerton.store.variants import find_variant
        from kamerton.variants.load import Opening

    ensure_parent(to, "--to")
    settings = label_settings(file, overrides, redact=redact)
    workspace = Workspace(project)
    found = find_variant(teacher, workspace.variants)
    with progress_sink() as sink:
        done = label_with_variant(
            found, file, to, gold, precision, settings, workspace, sink,
            opening=Opening(base, device, dtype, sink),
        )  # fmt: skip
    for problem in done.problems[:_SHOWN_PROBLEMS]:
        messages.print(harmless(problem), style="yellow", soft_wrap=True)
    if as_json:
        click.echo(json.dumps(done.to_json(), ensure_ascii=False))
    else:
        print_table(data_console(), curve_table(done.selection))
        if done.num_kept:
            print_table(data_console(), labels_table(done))
    for line in (*facts(done), *next_steps(done)):
        messages.print(harmless(line), soft_wrap=True)
    if done.to is None:
        raise SystemExit(1)
