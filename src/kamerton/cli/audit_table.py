"""Show an audit in a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kamerton.cli.console import harmless, print_table
from kamerton.cli.locations import short_location, short_locations, short_path
from kamerton.core.language import translated, translated_count
from kamerton.data.audit.findings import Audit, Count

__all__ = ["print_audit"]

_LISTED = 10
_LOCATIONS = 3


def print_audit(out: Console, found: Audit) -> None:
    """Print what an audit found.

    Args:
        out: Where.
        found: The findings.
    """
    num_usable = found.num_rows - len(found.rejections)
    usable = translated(
        "{usable} of {total} rows can be used, format {format}",
        usable=num_usable, total=found.num_rows, format=found.format,
    )  # fmt: skip
    if found.num_examples != num_usable:
        usable += f", {translated_count(found.num_examples, 'pair')}"
    out.print(Text.assemble((short_path(found.source), "bold"), f": {usable}"))
    for rejection in found.rejections[:_LISTED]:
        field = f"{rejection.field}: " if rejection.field else ""
        location = short_location(str(rejection.location))
        out.print(Text(harmless(f"  {location}: {field}{rejection.reason}"), style="red"))
    if len(found.rejections) > _LISTED:
        more = len(found.rejections) - _LISTED
        out.print(translated("  and {number} more (--json lists all)", number=more), style="red")
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    # Names of labels and locations may be long: fold them rather than cut them.
    table.add_column(overflow="fold")
    for name, value in _lines(found):
        table.add_row(name, Text(harmless(value)))
    print_table(out, table)
    for warning in found.warnings:
        for location in found.leaked.locations if found.leaked else ():
            warning = warning.replace(location, short_location(location))
        out.print(Text(harmless(translated("warning: {warning}", warning=warning)), style="yellow"))
    for notice in found.notices:
        out.print(Text(harmless(notice), style="dim"))


def _lines(found: Audit) -> list[tuple[str, str]]:
    # A template may hold line breaks, which would look like rows of the table.
    sources = {name: source.replace("\n", "\\n") for name, source in found.columns.items()}
    taken = (c if c == name else f"{name} = {c}" for name, c in sources.items())
    lines = [(translated("columns"), ", ".join(taken))] if found.columns else []
    unused = ", ".join(found.unused_columns)
    if found.unused_keys:
        keys = ", ".join(f"{key} ({number})" for key, number in found.unused_keys.items())
        unused += "; " if unused else ""
        unused += translated("keys of turns: {keys}", keys=keys)
    if unused:
        lines.append((translated("not learned"), unused))
    for part, units in found.lengths.items():
        said = "; ".join(
            translated(
                "{unit}: median {median}, 90 % to {p90}, 99 % to {p99}, longest {longest}",
                unit=translated("characters") if unit == "characters" else translated("words"),
                median=q.median,
                p90=q.p90,
                p99=q.p99,
                longest=q.longest,
            )
            for unit, q in units.items()
        )
        lines.append(
            (
                translated("answer length") if part == "answer" else translated("input length"),
                said,
            )
        )
    if found.labels:
        most = ", ".join(f"{label} {n}" for label, n in list(found.labels.items())[:6])
        lines.append(
            (
                translated("labels"),
                f"{len(found.labels)}: {most}" + (", ..." * (len(found.labels) > 6)),
            )
        )
    total = sum(found.languages.values()) or 1
    lines.append(
        (
            translated("languages"),
            ", ".join(f"{k} {n / total:.0%}" for k, n in found.languages.items()),
        )
    )
    counts: dict[str, Count | None] = {
        translated("exact duplicates"): found.exact_duplicates,
        translated("near duplicates"): found.near_duplicates,
        translated("contradictions"): found.contradictions,
        translated("leaked into holdout"): found.leaked,
        translated("nearly leaked"): found.nearly_leaked,
    }
    personal = {
        translated("personal: {kind}", kind=kind): count for kind, count in found.personal.items()
    }
    for name, count in (counts | personal).items():
        if count is not None and (count.number or name not in personal):
            locations = count.locations[:_LOCATIONS]
            more = ", ..." if count.number > len(locations) else ""
            where = f"  ({short_locations(locations, found.source)}{more})" if locations else ""
            lines.append((name, f"{count.number}{where}"))
    return lines
