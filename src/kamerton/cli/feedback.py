"""`kamerton feedback import | export | agreement`."""

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from kamerton.cli.console import busy, data_console, messages, print_table, progress_sink
from kamerton.cli.options import ensure_parent, project_option, store_option
from kamerton.core.language import translated
from kamerton.core.wording import counted

__all__ = ["feedback"]

_MOST_SHOWN = 20


@click.group()
def feedback() -> None:
    """Bring in judgements of recorded answers, and make training rows of them."""


@feedback.command("import", short_help="Store the judgements of FILE.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--name", default="", help="Metric of rows that name none in a column name, such as rating."
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Where a field stands: --column id=Ticket --column value=Оценка. May be repeated.",
)
@click.option("--keep-personal", is_flag=True, help="Store comments and corrections as they are.")
@store_option
@project_option
def import_(
    file: Path,
    name: str,
    columns: tuple[str, ...],
    keep_personal: bool,
    address: str,
    project: Path,
) -> None:
    """Store the judgements of FILE, each by the id of its completion.

    The table has the columns id, name, and value or label; rater, comment and correction are
    optional. A row that was imported before is stored once. Personal data in comments and
    corrections is replaced by placeholders.
    """
    from kamerton.flows.feedback import import_feedback
    from kamerton.flows.recording import project_metrics, recorded_store
    from kamerton.store.database import open_store

    placed = {}
    for each in columns:
        key, is_pair, column = each.partition("=")
        if not is_pair:
            raise click.BadParameter(f"must look like FIELD=COLUMN, got '{each}'")
        placed[key] = column
    metrics = project_metrics(project).metrics
    with progress_sink() as sink, open_store(recorded_store(address, project)) as store:
        told = import_feedback(
            store, file, metrics, columns=placed, name=name, keeps_personal=keep_personal, sink=sink
        )
    for rejection in told.refused[:_MOST_SHOWN]:
        messages.print(f"not usable: {rejection}", style="yellow", soft_wrap=True)
    if len(told.refused) > _MOST_SHOWN:
        messages.print(f"and {len(told.refused) - _MOST_SHOWN:,} more", style="yellow")
    said = (
        f"{told.num_new:,} new, {told.num_known:,} known before, {len(told.refused):,} not usable"
    )
    messages.print(said)
    if told.num_early:
        messages.print(f"{counted(told.num_early, 'new one')} without a recorded answer")
    if told.refused:
        raise SystemExit(1)


@feedback.command("export", short_help="Write training rows to FILE.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--to",
    "kind",
    required=True,
    type=click.Choice(["sft", "pairs", "kto", "prompts"]),
    help="sft: corrections as right answers. pairs: a correction before its answer, a good answer "
    "before a bad one. kto: answers with thumbs, or with 4 and 5 against 1 and 2 stars. prompts: "
    "recorded questions, judged or not, for kamerton evaluate --data.",
)
@click.option(
    "--per-rater",
    default=100,
    show_default=True,
    type=click.IntRange(min=1),
    help="Most judgements of one rater that are used.",
)
@click.option(
    "--limit",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Most questions of --to prompts, the newest ones.",
)
@click.option("--keep-personal", is_flag=True, help="Write personal data as it was recorded.")
@store_option
@project_option
def export(
    file: Path,
    kind: Any,
    per_rater: int,
    limit: int,
    keep_personal: bool,
    address: str,
    project: Path,
) -> None:
    """Write training rows to FILE, JSON Lines that `kamerton check` and `train` take as they are.

    Rows in which raters contradict each other stand in a file of their own beside it. Personal
    data is replaced by placeholders.
    """
    from kamerton.flows.feedback import export_feedback
    from kamerton.flows.recording import recorded_store
    from kamerton.store.database import open_store

    ensure_parent(file, "FILE")
    with (
        busy(translated("reading judgements")),
        open_store(recorded_store(address, project)) as store,
    ):
        found = export_feedback(
            store, kind, file, per_rater=per_rater, limit=limit, keeps_personal=keep_personal
        )
    messages.print(f"{counted(len(found.rows), 'row')} in {file}", soft_wrap=True)
    if found.conflicts:
        beside = file.with_name(f"{file.stem}.conflicts{file.suffix}")
        apart = counted(len(found.conflicts), "contradictory row")
        messages.print(f"{apart} in {beside}", soft_wrap=True)
    if found.num_over_cap:
        left_out = counted(found.num_over_cap, "judgement")
        messages.print(f"{left_out} left out: --per-rater {per_rater}")
    if found.num_without_text:
        what = "request" if kind == "prompts" else "judged answer"
        messages.print(
            f"{counted(found.num_without_text, what)} without recorded text: "
            "kamerton serve --record-text redacted keeps it",
            soft_wrap=True,
        )


@feedback.command(short_help="Tell how far several raters agree.")
@store_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def agreement(address: str, project: Path, as_json: bool) -> None:
    """Tell how far several raters of the same answers agree: Krippendorff's alpha.

    1 is full agreement and 0 that of chance. Below 0.67 a metric is too unclear to decide on.
    """
    from dataclasses import asdict

    from kamerton.flows.feedback import measure_agreement
    from kamerton.flows.recording import project_metrics, recorded_store
    from kamerton.store.database import open_store

    with (
        busy(translated("reading judgements")),
        open_store(recorded_store(address, project)) as store,
    ):
        found = measure_agreement(store, project_metrics(project).metrics)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("metric", "answers with several raters", "alpha"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for one in found:
        alpha = "-" if one.alpha is None else f"{one.alpha:.2f}"
        table.add_row(one.metric, f"{one.num_items:,}", alpha)
    print_table(data_console(), table)
