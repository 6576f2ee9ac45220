"""Tables of a comparison, for a terminal and for Markdown."""

from collections.abc import Iterator

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from kamerton.evaluation.results import Comparison, Cost, Difference, Measured

__all__ = [
    "cost_cells",
    "cost_heads",
    "markdown_table",
    "p_text",
    "terminal_table",
    "value_text",
]

_WIDTH = 100


def value_text(measured: Measured) -> str:
    """Word a value with its interval.

    Args:
        measured: The measurement.

    Returns:
        Such as `83.1 [80.2, 85.7]`, in percent.
    """
    low, high = 100 * measured.low, 100 * measured.high
    return f"{100 * measured.value:.1f} [{low:.1f}, {high:.1f}]"


def p_text(p_value: float) -> str:
    """Word a p-value.

    Args:
        p_value: In [0, 1].

    Returns:
        Such as `p=0.012` or `p<0.001`.
    """
    return "p<0.001" if p_value < 0.001 else f"p={p_value:.3f}"


def terminal_table(comparison: Comparison) -> Table:
    """Make a table at most 100 columns wide, as narrow terminals show it.

    Args:
        comparison: What to show.

    Returns:
        Variants as columns where they fit, else variant and metric as rows. Below a value stand
        its differences to the baselines with corrected p-values, in bold where significant.
    """
    wide = _by_columns(comparison)
    return wide if _width(wide) <= _WIDTH else _by_rows(comparison)


def markdown_table(comparison: Comparison) -> str:
    """Make a Markdown table with a row per variant, and a line that explains it.

    Args:
        comparison: What to show.

    Returns:
        The text, ending with a line break.
    """
    heads = ["variant", *comparison.metrics, *cost_heads(comparison)]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for cost in comparison.costs:
        cells = [cost.variant]
        for metric in comparison.metrics:
            differences = _differences(comparison, metric, cost.variant)
            text = value_text(comparison.measure(metric, cost.variant))
            cells.append("<br>".join([text, *map(_difference_text, differences)]))
        lines.append([*cells, *cost_cells(comparison, cost)])
    rows = ["| " + " | ".join(map(_escape, line)) + " |" for line in lines]
    return "\n".join([*rows, "", _caption(comparison), ""])


def cost_heads(comparison: Comparison) -> list[str]:
    """Name the columns of costs that were measured.

    Args:
        comparison: What to show.

    Returns:
        Names with units.
    """
    heads = ["ms/item (p95)", "tokens/item", "cut off"]
    if any(cost.holdout_loss is not None for cost in comparison.costs):
        heads.append("loss (perplexity)")
    return heads


def cost_cells(comparison: Comparison, cost: Cost) -> list[str]:
    """Word the costs of one variant.

    Args:
        comparison: Decides which columns there are.
        cost: Of `comparison.costs`.

    Returns:
        One text per name of `cost_heads`.
    """
    cells = [
        f"{1000 * cost.seconds_mean:,.1f} ({1000 * cost.seconds_p95:,.1f})",
        f"{cost.tokens_mean:,.1f}",
        f"{100 * cost.cut_off:.1f} %",
    ]
    if len(cost_heads(comparison)) > len(cells):
        known = cost.holdout_loss is not None and cost.perplexity is not None
        cells.append(f"{cost.holdout_loss:.3f} ({cost.perplexity:.4g})" if known else "-")
    return cells


def _by_columns(comparison: Comparison) -> Table:
    """One column per variant."""
    table = _table(comparison)
    table.add_column("", no_wrap=True)
    for variant in comparison.variants:
        table.add_column(Text(variant), justify="right", no_wrap=True)
    for metric in comparison.metrics:
        cells = []
        for variant in comparison.variants:
            value = Text(value_text(comparison.measure(metric, variant)))
            below = _difference_cell(comparison, metric, variant, separator="\n")
            cells.append(Text("\n").join([value, below]) if below else value)
        table.add_row(Text(f"{metric}, %"), *cells, end_section=True)
    costs = [cost_cells(comparison, cost) for cost in comparison.costs]
    for head, row in zip(cost_heads(comparison), zip(*costs, strict=True), strict=True):
        table.add_row(Text(head), *map(Text, row))
    return table


def _by_rows(comparison: Comparison) -> Table:
    """One row per variant and metric; long names fold."""
    table = _table(comparison)
    table.width = _WIDTH
    table.add_column("variant", overflow="fold", ratio=3)
    table.add_column("metric", overflow="fold", ratio=2)
    table.add_column("value", justify="right", no_wrap=True, min_width=24)
    table.add_column("difference", overflow="fold", ratio=4)
    for cost in comparison.costs:
        for place, metric in enumerate(comparison.metrics):
            table.add_row(
                Text(cost.variant if place == 0 else ""),
                Text(f"{metric}, %"),
                Text(value_text(comparison.measure(metric, cost.variant))),
                _difference_cell(comparison, metric, cost.variant, separator=", "),
            )
        pairs = zip(cost_heads(comparison), cost_cells(comparison, cost), strict=True)
        (head, cell), *others = pairs
        rest = "; ".join(f"{name} {value}" for name, value in others)
        table.add_row("", Text(head), Text(cell), Text(rest), end_section=True)
    return table


def _table(comparison: Comparison) -> Table:
    return Table(caption=_caption(comparison), caption_justify="left", show_edge=False)


def _difference_cell(comparison: Comparison, metric: str, variant: str, *, separator: str) -> Text:
    lines = []
    for difference in _differences(comparison, metric, variant):
        significant = difference.p_corrected < 1 - comparison.level
        text = _difference_text(difference, separator)
        lines.append(Text(text, style="bold" if significant else "dim"))
    return Text("\n").join(lines)


def _differences(comparison: Comparison, metric: str, variant: str) -> Iterator[Difference]:
    for other in comparison.against:
        found = comparison.difference(metric, variant, other)
        if found is not None:
            yield found


def _difference_text(difference: Difference, separator: str = ", ") -> str:
    points = f"{100 * difference.value:+.1f} to {difference.against}"
    return f"{points}{separator}{p_text(difference.p_corrected)}"


def _caption(comparison: Comparison) -> str:
    caption = f"{comparison.num_items:,} items; {100 * comparison.level:g} % intervals in brackets"
    if comparison.differences:
        caption += (
            f"; p-values corrected for {len(comparison.differences)} comparisons (Holm)"
            if len(comparison.differences) > 1
            else "; one comparison, p-value not corrected"
        )
    return caption


def _width(table: Table) -> int:
    """Columns a table needs: the widest line of each, and three between two of them."""
    widths = []
    for column in table.columns:
        texts = [str(column.header), *map(str, column.cells)]
        widths.append(max(cell_len(line) for text in texts for line in text.splitlines() or [""]))
    return sum(widths) + 3 * len(widths)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
