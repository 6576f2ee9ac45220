"""`kamerton metrics`."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from kamerton.cli.console import busy, data_console, harmless, messages, print_table
from kamerton.cli.options import project_option, store_option
from kamerton.core.language import translated

if TYPE_CHECKING:
    from kamerton.evaluation.live_series import Measured

__all__ = ["metrics"]

_TIMES = ("latency", "time_to_first_token")


@click.command()
@click.option(
    "--by",
    multiple=True,
    default=("variant",),
    show_default=True,
    type=click.Choice(["variant", "version", "segment", "language", "tenant", "arm"]),
    help="What the requests of a line have in common. May be repeated.",
)
@click.option(
    "--every",
    type=click.Choice(["hour", "day", "week"]),
    help="Gives a line for each hour, day or week (UTC).",
)
@click.option(
    "--days", type=click.FloatRange(min=0, min_open=True), help="Takes only the last days."
)
@store_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def metrics(
    by: Any, every: Any, days: float | None, address: str, project: Path, as_json: bool
) -> None:
    """Tell how the variants do on the traffic that `kamerton serve --record` has recorded.

    Shares and means stand with their 95 % intervals, which count the requests of one unit
    together. Times are median and 95th percentile. The project's file metrics.toml declares
    further metrics.
    """
    from kamerton.evaluation.live_report import measure_store, plain_measured
    from kamerton.flows.recording import project_metrics, recorded_store
    from kamerton.store.database import open_store

    known = project_metrics(project).metrics
    since = None
    if days is not None:
        since = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)
    with (
        busy(translated("reading the recorded requests")),
        open_store(recorded_store(address, project)) as store,
    ):
        found = measure_store(store, known, by=by, every=every, since=since)
    if as_json:
        plain = [plain_measured(one, known[one.metric]) for one in found]
        click.echo(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    if not found:
        messages.print("no requests are recorded: kamerton serve --record records them")
        return
    print_table(data_console(), _table(found, by, [name for name in known if _has(found, name)]))


def _has(found: "Sequence[Measured]", name: str) -> bool:
    return any(one.metric == name for one in found)


def _table(found: "Sequence[Measured]", by: Sequence[str], names: Sequence[str]) -> Table:
    has_spans = any(one.since for one in found)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (*(["since"] if has_spans else []), *by):
        table.add_column(column, overflow="fold")
    table.add_column("requests", justify="right")
    for name in names:
        unit = " s" if name in _TIMES else ""
        table.add_column(f"{name.replace('_', ' ')}{unit}", justify="right")
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for one in found:
        lines.setdefault((str(one.since or ""), *one.group.values()), {})[one.metric] = one
    for (since, *group), measured in lines.items():
        some = next(iter(measured.values()))
        table.add_row(
            *([since[:16].removesuffix(" 00:00")] if has_spans else []),
            *(harmless(value) or "-" for value in group),
            f"{some.num_requests:,}",
            *(_cell(measured.get(name)) for name in names),
        )
    return table


def _cell(one: "Measured | None") -> str:
    if one is None:
        return "-"
    if one.counts:
        return ", ".join(f"{harmless(label)} {count}" for label, count in one.counts.items())
    if one.metric in _TIMES:
        return f"{one.p50:.2f} / {one.p95:.2f}"
    assert one.value is not None
    if one.p50 is None:
        bounds = f" ({one.low:.1%}-{one.high:.1%})" if one.low is not None else ""
        return f"{one.value:.1%}{bounds}"
    bounds = f" ({one.low:.3g}-{one.high:.3g})" if one.low is not None else ""
    return f"{one.value:.3g}{bounds}"
