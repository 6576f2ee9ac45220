"""`kamerton check DATA`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kamerton.cli.console import messages, progress_sink
from kamerton.cli.options import set_option

if TYPE_CHECKING:
    from kamerton.data.audit import Audit
    from kamerton.flows.check import Shown

__all__ = ["check"]

_LISTED = 10


@click.command()
@click.argument("data")
@set_option
@click.option("--show", default=0, metavar="N", help="Show N examples, trained text coloured.")
@click.option("--base", default="builtin:nano", help="Whose template --show uses.")
@click.option(
    "--redact", type=click.Path(path_type=Path), help="Write a copy without personal data."
)
@click.option("--strict", is_flag=True, help="Exit with 1 when any row cannot be used.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(
    data: str,
    overrides: tuple[str, ...],
    show: int,
    base: str,
    redact: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Audit the examples in DATA: a file or a Hub data set.

    Lists rows that cannot be used with file, line, field and reason; reports duplicates, leakage
    into the holdout, labels, lengths, languages and personal data. --set data.KEY=VALUE and
    --set render.KEY=VALUE are those of a recipe.
    """
    from kamerton.core.settings import apply_overrides
    from kamerton.data.rendered import RenderSettings
    from kamerton.data.settings import DataSettings
    from kamerton.flows.check import check_data, show_examples

    values = apply_overrides({"data": {"train": data}, "render": {}}, overrides)
    settings = DataSettings.parse(values["data"], source="--set data")
    with progress_sink() as sink:
        checked = check_data(settings, sink)
    if as_json:
        click.echo(json.dumps(checked.audit.to_json(), ensure_ascii=False, indent=2))
    else:
        _print_audit(Console(highlight=False), checked.audit)
    if show:
        rendering = RenderSettings.parse(values["render"], source="--set render")
        facts, notices, shown = show_examples(checked.loaded, base, rendering, show)
        _print_shown(facts, notices, shown)
    if redact is not None:
        from kamerton.flows.redact import write_redacted

        count = write_redacted(checked.loaded, redact)
        messages.print(f"wrote {redact}: {count} values replaced by placeholders")
    if strict and checked.audit.rejections:
        sys.exit(1)


def _print_audit(out: Console, found: "Audit") -> None:
    out.print(
        f"[bold]{found.source}[/]: {found.num_examples} of {found.num_rows} rows can be used, "
        f"format {found.format}"
    )
    for rejection in found.rejections[:_LISTED]:
        out.print(Text(f"  {rejection}", style="red"))
    if len(found.rejections) > _LISTED:
        out.print(f"  and {len(found.rejections) - _LISTED} more (--json lists all)", style="red")
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in _lines(found):
        table.add_row(name, value)
    out.print(table)
    for warning in found.warnings:
        out.print(Text(f"mind: {warning}", style="yellow"))
    for notice in found.notices:
        out.print(Text(notice, style="dim"))


def _lines(found: "Audit") -> list[tuple[str, str]]:
    lines = []
    for part, units in found.lengths.items():
        said = "; ".join(
            f"{unit}: median {q.median}, 90 % to {q.p90}, 99 % to {q.p99}, longest {q.longest}"
            for unit, q in units.items()
        )
        lines.append((f"{part} length", said))
    if found.labels:
        most = ", ".join(f"{label} {n}" for label, n in list(found.labels.items())[:6])
        lines.append(
            ("labels", f"{len(found.labels)}: {most}" + (", ..." * (len(found.labels) > 6)))
        )
    total = sum(found.languages.values()) or 1
    lines.append(
        ("languages", ", ".join(f"{k} {n / total:.0%}" for k, n in found.languages.items()))
    )
    counts = {
        "exact duplicates": found.exact_duplicates,
        "near duplicates": found.near_duplicates,
        "contradictions": found.contradictions,
        "leaked into holdout": found.leaked,
        "nearly leaked": found.nearly_leaked,
        **{f"personal: {kind}": count for kind, count in found.personal.items()},
    }
    for name, count in counts.items():
        if count is not None and (count.number or not name.startswith("personal")):
            places = f"  ({', '.join(count.places[:3])})" if count.number else ""
            lines.append((name, f"{count.number}{places}"))
    return lines


def _print_shown(facts: list[tuple[str, str]], notices: list[str], shown: "list[Shown]") -> None:
    out = Console(highlight=False)
    out.print()
    for name, value in facts:
        out.print(f"[dim]{name}:[/] {value}")
    for notice in notices:
        out.print(Text(notice, style="yellow"))
    for example in shown:
        out.rule(example.place, style="dim")
        if example.problem:
            out.print(Text(example.problem, style="red"))
            continue
        text = Text()
        for span in example.spans:
            text.append(span.text, style="bold green" if span.trained else "dim")
        out.print(text)
        out.print(
            f"{example.num_tokens} tokens, {example.num_trained} trained (green); "
            f"BOS {example.num_bos}, trained ends {example.num_ends}",
            style="cyan",
        )
