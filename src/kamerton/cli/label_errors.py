"""What `kamerton check --labels` shows: labels that are probably wrong."""

from typing import TYPE_CHECKING

from rich.table import Table

from kamerton.cli.console import data_console, harmless, messages, print_table
from kamerton.cli.locations import short_location
from kamerton.core.language import translated, translated_count

if TYPE_CHECKING:
    from kamerton.flows.label_errors import CheckedLabels

__all__ = ["print_label_errors"]

_MOST_SHOWN = 50
_TEXT = 60


def print_label_errors(checked: "CheckedLabels") -> None:
    """Print probable errors as a table, and what was left out.

    Args:
        checked: The findings.
    """
    out = data_console()
    if checked.found:
        table = Table(box=None, pad_edge=False)
        for name in (
            translated("place"), translated("labelled as"), translated("probably"),
            translated("text"),
        ):  # fmt: skip
            table.add_column(name)
        for one in checked.found[:_MOST_SHOWN]:
            text = " ".join(one.text.split())
            table.add_row(
                harmless(short_location(one.place)),
                f"{harmless(one.label)} {100 * one.probability:.0f} %",
                f"{harmless(one.likely)} {100 * one.likely_probability:.0f} %",
                harmless(text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"),
            )
        out.print()
        print_table(out, table)
    if (more := len(checked.found) - _MOST_SHOWN) > 0:
        messages.print(translated("and {count} more; --json lists all", count=f"{more:,}"))
    messages.print(
        translated(
            "{count} of {rows} may be wrong: look at these, the variant can be wrong as well",
            count=translated_count(len(checked.found), "label"),
            rows=translated_count(checked.num_checked, "row"),
        ),
        soft_wrap=True,
    )
    if checked.num_learned:
        messages.print(
            translated(
                "{count} left out: the variant learned from them and agrees with every error there",
                count=translated_count(checked.num_learned, "row"),
            ),
            soft_wrap=True,
        )
    if checked.num_unknown:
        messages.print(
            translated(
                "{count} left out: the variant does not know their labels",
                count=translated_count(checked.num_unknown, "row"),
            )
        )
