"""How questions and answers look in a terminal: as they were written, whatever they hold."""

from collections.abc import Mapping

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kamerton.cli.console import harmless

__all__ = ["answer_panel", "print_side_by_side"]

_NARROWEST = 28
"""Columns of a panel; where two do not fit side by side, they stand one below the other."""


def answer_panel(text: str, title: str, *, style: str = "none") -> Panel:
    """Frame a text.

    Args:
        text: Text that a user or a model wrote; never read as markup.
        title: Whose it is.
        style: Style of the frame.

    Returns:
        The panel, as wide as its place.
    """
    shown = Text(harmless(text)) if text.strip() else Text("(empty)", style="dim")
    return Panel(shown, title=Text(title), border_style=style)


def print_side_by_side(out: Console, answers: Mapping[str, str]) -> None:
    """Print answers in columns of equal width, or one below the other on a narrow terminal.

    Args:
        out: Where.
        answers: Answers by name.
    """
    panels = [answer_panel(text, name) for name, text in answers.items()]
    if out.width < _NARROWEST * len(panels):
        for panel in panels:
            out.print(panel)
        return
    row = Table.grid(expand=True)
    for _ in panels:
        row.add_column(ratio=1)
    row.add_row(*panels)
    out.print(row)
