"""What `kamerton label` says of its result: the curve, the labels, what was left out."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

from kamerton.core.language import translated, translated_count

if TYPE_CHECKING:
    from kamerton.flows.labelled_files import Labelled
    from kamerton.labelling.precision import Selection

__all__ = ["curve_table", "facts", "labels_table", "next_steps"]

_MOST_LABELS = 40


def curve_table(selection: "Selection") -> Table:
    """Show what each threshold keeps and how much of that is right.

    Args:
        selection: The thresholds that were looked at.

    Returns:
        The table, the strictest threshold first.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column(translated("confidence from"), justify="right")
    table.add_column(translated("of the file kept"), justify="right")
    table.add_column(translated("gold rows right"), justify="right")
    table.add_column(translated("at least right"), justify="right")
    table.add_column("")
    words = {
        "passed": translated("proven"),
        "failed": translated("not proven"),
        "not tested": translated("below a threshold that is not proven"),
        "too few": translated("too few gold rows"),
    }
    for point in selection.curve:
        chosen = point == selection.chosen
        table.add_row(
            f"{point.threshold:.4g}",
            f"{100 * point.coverage:.0f} %",
            f"{point.num_right:,} / {point.num_gold:,}",
            f"{100 * point.lower:.1f} %",
            translated("chosen") if chosen else words[point.state],
            style="bold" if chosen else "dim" if point.state != "passed" else None,
        )
    return table


def labels_table(done: "Labelled") -> Table:
    """Show how often each label is kept, beside its share of the gold rows.

    Args:
        done: What came of the file.

    Returns:
        The table, the most frequent label first.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column(translated("labelled as"))
    table.add_column(translated("kept"), justify="right")
    table.add_column(translated("share"), justify="right")
    table.add_column(translated("share of the gold rows"), justify="right")
    num_gold = max(sum(done.gold_balance.values()), 1)
    names = dict.fromkeys([*done.balance, *done.gold_balance])
    for name in list(names)[:_MOST_LABELS]:
        num, of_gold = done.balance.get(name, 0), done.gold_balance.get(name, 0)
        table.add_row(
            name,
            f"{num:,}",
            f"{100 * num / done.num_kept:.0f} %",
            f"{100 * of_gold / num_gold:.0f} %",
        )
    return table


def facts(done: "Labelled") -> Iterator[str]:
    """Say what was kept and what became of the other rows.

    Args:
        done: What came of the file.

    Yields:
        Lines.
    """
    rows, chosen = translated_count(done.num_rows, "row"), done.selection.chosen
    level = f"{100 * done.selection.confidence_level:g}"
    asked = f"{100 * done.selection.precision:g}"
    if chosen is None:
        yield translated(
            "no label is kept: that {asked} % are right cannot be shown with {count}",
            asked=asked,
            count=translated_count(done.num_gold, "gold row"),
        )
        yield translated(
            "ask for a lower --precision, label more gold rows by hand, or take a better teacher; "
            "what the teacher has answered is kept"
        )
    else:
        yield translated(
            "{kept} of {rows} have a label that is kept: {place}",
            kept=f"{done.num_kept:,}", rows=rows, place=done.to,
        )  # fmt: skip
        yield translated(
            "at least {lower} % of them are right, with {level} % confidence ({asked} % were asked "
            "for), if the gold rows were drawn at random from the same source as the file",
            lower=f"{100 * chosen.lower:.1f}", level=level, asked=asked,
        )  # fmt: skip
    words = {
        "unusable": translated("cannot be read or are empty"),
        "repeat": translated("repeat another row"),
        "known": translated("have a label already, as a gold row or where the teacher learned"),
        "refusal": translated("the teacher declined"),
        "format": translated("the teacher named none of the labels"),
        "too long": translated("are too long for the teacher"),
        "not asked": translated("were not asked: the budget was spent"),
        "below": translated("the teacher is not sure enough"),
        "over cap": translated("are more than select.per_label of one label"),
    }
    for name, text in words.items():
        if name in done.dropped:
            yield f"  {done.dropped[name]:,}: {text}"
    if done.paid is not None:
        tokens = translated_count(done.paid.total, "token")
        money = "" if done.cost is None else f", {done.cost:.4f}"
        yield translated("paid for this job: {what}", what=f"{tokens}{money}")
    if "over cap" in done.dropped:
        yield translated(
            "select.per_label changes the shares of labels: the proven precision is that before it"
        )


def next_steps(done: "Labelled") -> Iterator[str]:
    """Say what can be done with the files.

    Args:
        done: What came of the file.

    Yields:
        Lines.
    """
    if done.review is not None:
        yield translated(
            "for people, the most useful row first; fill in the column label: {place}",
            place=done.review,
        )
        yield translated("learn from these rows too, but do not add them to the gold rows")
    yield translated("plot: {place}", place=done.plot)
    if done.to is not None:
        yield translated("to learn from it, write in a recipe:")
        yield "[data]"
        yield f'train = "{done.to.as_posix()}"'
        yield 'format = "classification"'
        yield 'columns = { text = "text", label = "label" }'
