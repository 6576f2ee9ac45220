"""Tables of a comparison, for a terminal and for Markdown."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kamerton.core.language import translated, translated_count, translated_number
from kamerton.evaluation.amounts import change_text, metric_title, number_text, range_text
from kamerton.evaluation.commonest import shown_name
from kamerton.evaluation.free_text import LOSS, explained
from kamerton.evaluation.jackknife import FEWEST_ROWS
from kamerton.evaluation.preferred import preference_text
from kamerton.evaluation.results import Comparison, Cost, Difference, Measured, Unit
from kamerton.evaluation.style_text import style_text

__all__ = [
    "cost_cells",
    "cost_heads",
    "has_general_loss",
    "markdown_table",
    "p_text",
    "terminal_table",
    "value_text",
]


def value_text(measured: Measured, unit: Unit = "share") -> str:
    """Word a value with its interval.

    Args:
        measured: The measurement.
        unit: What the metric is counted in.

    Returns:
        Such as `83.1 [80.2, 85.7]`, in percent, or `1.27 [1.01, 1.60]` in nats.
    """
    value = number_text(measured.value, unit)
    if measured.low is None or measured.high is None:
        return f"{value} [{translated('no interval')}]"
    low, high = number_text(measured.low, unit), number_text(measured.high, unit)
    return f"{value} {range_text(low, high)}"


def p_text(p_value: float) -> str:
    """Word a p-value.

    Args:
        p_value: The p-value, in [0, 1].

    Returns:
        Such as `p=0.012` or `p<0.001`.
    """
    return translated_number("p<0.001" if p_value < 0.001 else f"p={p_value:.3f}")


def terminal_table(comparison: Comparison) -> Group:
    """Make the tables of a comparison; nothing is cut off from 60 columns on.

    Args:
        comparison: The comparison to show.

    Returns:
        A row per metric and variant with its value and its differences to the baselines, in bold
        where significant; below it the costs. Long names fold.
    """
    caption = Text(_caption(comparison), style="dim")
    told = [
        Text(f"{metric}: {sentence}", style="dim")
        for metric, sentence in explained(comparison).items()
    ]
    beside = [Text(style_text(comparison, style), style="dim") for style in comparison.styles]
    preferred = [Text(f"\n{preference_text(one)}") for one in comparison.preferences]
    return Group(
        _results(comparison), caption, *told, *beside, *preferred, Text(), _costs(comparison)
    )


def markdown_table(comparison: Comparison) -> str:
    """Make a Markdown table with a row per variant, and a line that explains it.

    Args:
        comparison: The comparison to show.

    Returns:
        The text, ending with a line break.
    """
    titles = [metric_title(comparison, metric) for metric in comparison.metrics]
    heads = [translated("variant"), *titles, *cost_heads(comparison)]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for cost in comparison.costs:
        cells = [shown_name(cost.variant)]
        for metric in comparison.metrics:
            differences = _differences(comparison, metric, cost.variant)
            unit = comparison.unit_of(metric)
            text = value_text(comparison.measure(metric, cost.variant), unit)
            told = [_difference_text(difference, unit) for difference in differences]
            cells.append("<br>".join([text, *told]))
        lines.append([*cells, *cost_cells(comparison, cost)])
    rows = ["| " + " | ".join(map(_escape, line)) + " |" for line in lines]
    said = [style_text(comparison, style) for style in comparison.styles]
    said += map(preference_text, comparison.preferences)
    beside = [line for text in said for line in ("", text)]
    return "\n".join([*rows, "", _caption(comparison), *beside, ""])


def cost_heads(comparison: Comparison) -> list[str]:
    """Name the columns of costs that were measured.

    Args:
        comparison: The comparison to show.

    Returns:
        Names with units.
    """
    heads = [
        translated("ms/item, median (p95)"),
        translated("tokens/item"),
        translated("cut off"),
    ]
    if _has_loss(comparison):
        heads.append(translated("loss (perplexity)"))
    if has_general_loss(comparison):
        heads.append(translated("general loss"))
    if _has_reward_accuracy(comparison):
        heads.append(translated("reward accuracy"))
    return heads


def cost_cells(comparison: Comparison, cost: Cost) -> list[str]:
    """Word the costs of one variant.

    Args:
        comparison: Decides which columns there are.
        cost: One of `comparison.costs`.

    Returns:
        One text per name of `cost_heads`.
    """
    cells = [
        f"{1000 * cost.seconds_median:,.1f} ({1000 * cost.seconds_p95:,.1f})",
        f"{cost.tokens_mean:,.1f}",
        f"{100 * cost.cut_off:.1f} %",
    ]
    if _has_loss(comparison):
        known = cost.holdout_loss is not None and cost.perplexity is not None
        cells.append(f"{cost.holdout_loss:.3f} ({cost.perplexity:.4g})" if known else "-")
    if has_general_loss(comparison):
        cells.append("-" if cost.general_loss is None else f"{cost.general_loss:.3f}")
    if _has_reward_accuracy(comparison):
        share = cost.reward_accuracy
        cells.append("-" if share is None else f"{100 * share:.1f} %")
    return [translated_number(cell) for cell in cells]


def has_general_loss(comparison: Comparison) -> bool:
    """Tell whether a loss on general text was measured.

    Args:
        comparison: The comparison to show.

    Returns:
        Whether `cost_heads` names it.
    """
    return any(cost.general_loss is not None for cost in comparison.costs)


def _has_loss(comparison: Comparison) -> bool:
    # A loss that is measured with its interval is not told twice.
    measured = any(cost.holdout_loss is not None for cost in comparison.costs)
    return measured and LOSS not in comparison.metrics


def _has_reward_accuracy(comparison: Comparison) -> bool:
    return any(cost.reward_accuracy is not None for cost in comparison.costs)


def _results(comparison: Comparison) -> Table:
    """A heading per metric, and below it one row per variant."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("", overflow="fold")
    in_percent = set(comparison.units) == {"share"}
    head = translated("value, %") if in_percent else translated("value")
    table.add_column(head, justify="right", no_wrap=True)
    for other in comparison.against:
        against = translated("to {other}", other=shown_name(other))
        table.add_column(Text(against), justify="right", overflow="fold")
    for position, metric in enumerate(comparison.metrics):
        num = f"{comparison.measure(metric, comparison.variants[0]).n:,}"
        table.add_row(
            Text(metric_title(comparison, metric) + _direction(comparison, position), style="bold"),
            Text(f"n={translated_number(num)}", style="dim"),
        )
        for variant in comparison.variants:
            unit = comparison.unit_of(metric)
            value = value_text(comparison.measure(metric, variant), unit)
            found = (comparison.difference(metric, variant, o) for o in comparison.against)
            cells = [_difference_cell(comparison, one) for one in found]
            table.add_row(Text(f"  {shown_name(variant)}"), Text(value), *cells)
        table.add_section()
    return table


def _costs(comparison: Comparison) -> Table:
    """A row per kind of cost: their names are longer than those of most variants."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(translated("cost"), overflow="fold")
    for variant in comparison.variants:
        table.add_column(Text(shown_name(variant)), justify="right", overflow="fold")
    costs = [cost_cells(comparison, cost) for cost in comparison.costs]
    for head, cells in zip(cost_heads(comparison), zip(*costs, strict=True), strict=True):
        table.add_row(head, *map(Text, cells))
    return table


def _direction(comparison: Comparison, position: int) -> str:
    if comparison.better[position] != "lower":
        return ""
    return f" ({translated('lower is better')})"


def _difference_cell(comparison: Comparison, difference: Difference | None) -> Text:
    if difference is None:
        return Text()
    significant = difference.p_corrected < 1 - comparison.confidence_level
    change = change_text(difference.value, comparison.unit_of(difference.metric))
    text = f"{change} {p_text(difference.p_corrected)}"
    return Text(text, style="bold" if significant else "dim")


def _differences(comparison: Comparison, metric: str, variant: str) -> Iterator[Difference]:
    for other in comparison.against:
        found = comparison.difference(metric, variant, other)
        if found is not None:
            yield found


def _difference_text(difference: Difference, unit: Unit) -> str:
    change, other = change_text(difference.value, unit), shown_name(difference.against)
    points = translated("{change} to {other}", change=change, other=other)
    return f"{points}, {p_text(difference.p_corrected)}"


def _caption(comparison: Comparison) -> str:
    caption = translated_count(comparison.num_items, "item")
    if comparison.is_grouped:
        groups = translated_count(comparison.num_groups, "group")
        caption += translated(" in {groups}", groups=groups)
    if comparison.measured_on:
        caption += translated(" of {place}", place=comparison.measured_on)
    level = translated_number(f"{100 * comparison.confidence_level:g}")
    caption += translated("; {level} % intervals in brackets", level=level)
    if any(measured.low is None for measured in comparison.measured):
        caption += translated(
            ", where there are {fewest} or more independent groups", fewest=FEWEST_ROWS
        )
    if num := len(comparison.differences):
        in_points = set(comparison.units) == {"share"}
        points = translated("points") if in_points else translated("the same units")
        caption += (
            translated(
                "; differences in {points}, with p-values corrected for {num} comparisons (Holm)",
                points=points,
                num=num,
            )
            if num > 1
            else translated(
                "; difference in {points}, one comparison, p-value not corrected", points=points
            )
        )
    return caption


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
