"""`kamerton advise`."""

from typing import TYPE_CHECKING, cast

import click
from rich.table import Table
from rich.text import Text

from kamerton.cli.console import busy, data_console, messages, print_table, progress_sink
from kamerton.cli.options import language_option
from kamerton.core.language import translated

if TYPE_CHECKING:
    from kamerton.advisor.methods import Aim, Must

__all__ = ["advise"]

_SHARES = "benchmarks/results/method_shares_cpu2-avx512_2026-11-27.md"


@click.command()
@click.argument("source", metavar="FILE|PROJECT")
@click.option(
    "--aim",
    type=click.Choice(["once", "lasting", "critical"]),
    default="lasting",
    show_default=True,
    help="A one-off job, something that lasts, or something in which errors are dear.",
)
@click.option(
    "--must",
    multiple=True,
    type=click.Choice(["switch", "merge"]),
    help="What the variant must do: switch by request, merge into the base. May be repeated.",
)
@language_option
def advise(source: str, aim: str, must: tuple[str, ...]) -> None:
    """Rank the methods for FILE, or for the folder or recipe of a PROJECT.

    Says of each whether it fits, how much it trains, why, and where that is measured or explained.
    """
    with busy(translated("loading PyTorch")):
        from kamerton.flows.advise import advise_on

    with progress_sink() as sink:
        ranked = advise_on(source, cast("Aim", aim), cast("tuple[Must, ...]", must), sink)
    table = Table(box=None, pad_edge=False)
    for title in ("", "method", "trains", "why"):
        table.add_column(title, overflow="fold")
    for number, advice in enumerate(ranked, 1):
        method = advice.method
        why = Text(f"{advice.why} ({method.source})" if advice.fits else advice.why)
        if advice.fits:
            why.append(f"\n{method.setting}", style="cyan")
        table.add_row(
            str(number) if advice.fits else "no", method.name, method.trained, why,
            style="" if advice.fits else "dim",
        )  # fmt: skip
    print_table(data_console(), table)
    messages.print(
        translated(
            "trains: share of the weights of bases of 8 to 0.6 billion ({SHARES})", SHARES=_SHARES
        )
    )
