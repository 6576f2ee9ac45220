"""The plot of precision against coverage as SVG; matplotlib is loaded only when it is drawn."""

import io
from typing import Any

from kamerton.core.language import translated
from kamerton.labelling.precision import Selection

__all__ = ["curve_plot"]

_COLOUR, _CHOSEN, _GREY = "#4a86c7", "#c4631c", "#808080"
"""Readable on a light page and on a dark one."""


def curve_plot(selection: Selection) -> str:
    """Draw what each threshold keeps and how much of that is right.

    Args:
        selection: The thresholds that were looked at.

    Returns:
        An SVG document.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    panel = figure.subplots()
    seen = [point for point in selection.curve if point.precision is not None]
    x = [100 * point.coverage for point in seen]
    measured = [100 * (point.precision or 0.0) for point in seen]
    lower = [100 * point.lower for point in seen]
    panel.plot(x, measured, "o-", color=_COLOUR, ms=4, lw=1.5, label=translated("measured"))
    panel.fill_between(x, lower, measured, color=_COLOUR, alpha=0.2, lw=0)
    asked = 100 * selection.precision
    panel.axhline(asked, color=_GREY, lw=1, ls="--", label=translated("asked for"))
    if (chosen := selection.chosen) is not None and chosen.precision is not None:
        panel.plot(
            [100 * chosen.coverage], [100 * chosen.precision], "o", color=_CHOSEN, ms=8,
            label=translated("chosen"),
        )  # fmt: skip
    panel.set_xlabel(translated("share of the file that is kept, %"))
    panel.set_ylabel(translated("labels that are right, %"))
    panel.set_ylim(min([*lower[1:], *measured, asked], default=0) - 3, 101)
    panel.legend(frameon=False, labelcolor="linecolor", fontsize=9, loc="lower left")
    _soften(panel)
    target = io.StringIO()
    # Real text stays searchable; a fixed salt and no date make equal plots equal bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "kamerton labels"}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    return target.getvalue()


def _soften(panel: Any) -> None:
    panel.grid(color=_GREY, alpha=0.25)
    panel.tick_params(colors=_GREY)
    for text in (panel.xaxis.label, panel.yaxis.label):
        text.set_color(_GREY)
    for side, spine in panel.spines.items():
        spine.set_color(_GREY)
        spine.set_visible(side == "bottom")
