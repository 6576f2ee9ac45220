"""`kamerton advise`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import click
from rich.table import Table
from rich.text import Text

from kamerton.cli.console import busy, data_console, messages, print_table, progress_sink
from kamerton.cli.options import language_option
from kamerton.core.durations import duration_text
from kamerton.core.language import translated

if TYPE_CHECKING:
    from kamerton.advisor.methods import Aim, Must, Team
    from kamerton.flows.advise import Measure
    from kamerton.flows.method_costs import Cost

__all__ = ["advise"]


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
@click.option(
    "--team",
    type=click.Choice(["any", "small", "middle", "large"]),
    default="any",
    show_default=True,
    help="Who will keep it: common guidance for such a team stands first.",
)
@click.option(
    "--measure",
    type=click.Choice(["none", "first", "all"]),
    default="first",
    show_default=True,
    help="Which methods take a few steps for a forecast; the others are scaled from the first.",
)
@language_option
def advise(source: str, aim: str, must: tuple[str, ...], team: str, measure: str) -> None:
    """Rank the methods for FILE, or for the folder or recipe of a PROJECT.

    Says of each whether it fits, how much of the base it trains, a forecast of time and memory on
    this machine, why, and where that is measured or explained.
    """
    with busy(translated("loading PyTorch")):
        from kamerton.flows.advise import advise_on

    with progress_sink() as sink:
        advised = advise_on(
            source,
            cast("Aim", aim),
            cast("tuple[Must, ...]", must),
            sink,
            team=cast("Team", team),
            measure=cast("Measure", measure),
        )
    table = Table(box=None, pad_edge=False)
    titles = ("", "method", "trains", "time", "memory", "why")
    for title in titles:
        table.add_column(title, overflow="fold")
    for number, advice in enumerate(advised.ranked, 1):
        method = advice.method
        why = Text(f"{advice.why} ({method.source})" if advice.fits else advice.why)
        if advice.fits:
            why.append(f"\n{method.setting}", style="cyan")
        table.add_row(
            str(number) if advice.fits else "no", method.name,
            *_costs(method.name, advised.costs), why,
            style="" if advice.fits else "dim",
        )  # fmt: skip
    print_table(data_console(), table)
    if advised.guidance:
        told = translated("common guidance that applies: {what}", what=advised.guidance)
        messages.print(told, soft_wrap=True)
    if advised.costs:
        told = translated(
            "trains: share and number of the parameters of {base} with default settings; time and "
            "memory: of this data on this machine as busy as it is now, ~ scaled from the measured "
            "method",
            base=advised.base,
        )
        messages.print(told, soft_wrap=True)
    else:
        told = translated(
            "{base} is not at hand, so nothing was counted or measured", base=advised.base
        )
        messages.print(told, soft_wrap=True)


def _costs(name: str, costs: "Mapping[str, Cost]") -> tuple[str, str, str]:
    """Write how much a method trains, how long, with how much memory."""
    cost = costs.get(name)
    if cost is None:
        return "", "", ""
    millions = cost.trained / 1e6
    number = f"{millions:,.0f}" if millions >= 10 else f"{millions:.2g}"
    share = f"{100 * cost.share:.0f}" if cost.share >= 0.1 else f"{100 * cost.share:.2g}"
    trains = f"{share} % ({number} M)" if cost.trained else "0"
    if cost.seconds is None or cost.peak_bytes is None:
        return trains, "", ""
    about = "~" if cost.how == "scaled" else ""
    return (
        trains,
        f"{about}{duration_text(cost.seconds)}",
        f"{about}{cost.peak_bytes / 2**30:.1f} GiB",
    )
