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
from kamerton.core.errors import SettingsError

__all__ = ["label"]

_SHOWN_PROBLEMS = 20


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--teacher",
    "teachers",
    required=True,
    multiple=True,
    metavar="VARIANT|URL",
    help="What labels: a variant of this project, or an address that speaks OpenAI's API. May be "
    "repeated: several label together.",
)
@click.option(
    "--teacher-model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Model at the address of --teacher; once for each address.",
)
@click.option(
    "--teacher-key",
    default="",
    metavar="KEY",
    envvar="KAMERTON_TEACHER_KEY",
    help="Sent to the address of --teacher; better kept in KAMERTON_TEACHER_KEY.",
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MONEY",
    help="Most money for the whole job, in the currency of teacher.price_prompt.",
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
    teachers: tuple[str, ...],
    models: tuple[str, ...],
    teacher_key: str,
    budget: float | None,
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
    data.columns.text=question; --set select.KEY=VALUE what is kept; --set teacher.KEY=VALUE how an
    address is asked, such as teacher.samples=5.
    """
    with busy("loading PyTorch"):
        from kamerton.cli.label_words import curve_table, facts, labels_table, next_steps
        from kamerton.flows.label import label_file, label_settings
        from kamerton.flows.label_remote import Endpoint, is_address
        from kamerton.flows.workspace import Workspace
        from kamerton.store.variants import find_variant
        from kamerton.variants.load import Opening

    ensure_parent(to, "--to")
    settings = label_settings(file, overrides, redact=redact)
    workspace = Workspace(project)
    urls = [name for name in teachers if is_address(name)]
    if len(urls) == len(teachers):
        _ensure_none("are for a variant", base=base, device=device, dtype=dtype)
    if not urls:
        _ensure_none("are for an address", teacher_model=models, budget=budget)
    elif len(urls) != len(models):
        raise SettingsError(
            f"--teacher-model must name a model for each of {len(urls)} addresses, "
            f"got {len(models)}",
            hint=f"{urls[0].rstrip('/').removesuffix('/v1')}/v1/models lists those of the first",
        )
    left = iter(models)
    found = [
        Endpoint(name, next(left), teacher_key, budget)
        if is_address(name)
        else find_variant(name, workspace.variants)
        for name in teachers
    ]
    with progress_sink() as sink:
        opening = Opening(base, device, dtype, sink)
        done = label_file(
            found, file, to, gold, precision, settings, workspace, sink, opening=opening
        )
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


def _ensure_none(why: str, **options: Any) -> None:
    """Refuse options that would be ignored."""
    if given := [f"--{name.replace('_', '-')}" for name, value in options.items() if value]:
        raise SettingsError(f"{', '.join(given)}: these options {why}, and --teacher is none")
