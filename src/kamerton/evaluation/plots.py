"""The loss plot of a report as SVG text; matplotlib is loaded only when it is drawn."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["loss_plot"]

_COLOURS = ("#4a86c7", "#c4631c")
_GREY = "#808080"
"""Readable on a light page and on a dark one."""


def loss_plot(steps: Sequence[Mapping[str, Any]], holdout: Sequence[Mapping[str, Any]] = ()) -> str:
    """Draw how the loss fell.

    Args:
        steps: `step` and `loss` per optimiser step.
        holdout: `step` and `loss` per measurement on the holdout.

    Returns:
        An SVG element.
    """
    figure = _figure(3.2)
    panel = figure.subplots()
    for points, colour, style, label in (
        (steps, _COLOURS[0], "-", "training"),
        (holdout, _COLOURS[1], "o-", "holdout"),
    ):
        if points:
            x, y = [p["step"] for p in points], [p["loss"] for p in points]
            panel.plot(x, y, style, color=colour, label=label, lw=1.5, ms=5)
    # Most of a fine-tuning's fall is in its first steps: only a logarithm shows the rest.
    if all(point["loss"] > 0 for point in (*steps, *holdout)):
        _logarithmic(panel)
    panel.set_xlabel("step")
    panel.set_ylabel("loss per token")
    panel.legend(frameon=False, labelcolor="linecolor", fontsize=11)
    _soften(panel)
    return _svg(figure)


def _logarithmic(panel: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _figure(height: float) -> Any:
    # Figure without pyplot: no global state, no window system.
    from matplotlib.figure import Figure

    return Figure(figsize=(7, height), layout="constrained")


def _soften(panel: Any) -> None:
    panel.grid(color=_GREY, alpha=0.25)
    panel.tick_params(colors=_GREY)
    for text in (panel.xaxis.label, panel.yaxis.label):
        text.set_color(_GREY)
    for side, spine in panel.spines.items():
        spine.set_color(_GREY)
        spine.set_visible(side == "bottom")


def _svg(figure: Any) -> str:
    from matplotlib import rc_context

    target = io.StringIO()
    # Real text stays searchable; a fixed salt and no date make equal plots equal bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "kamerton"}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    svg = target.getvalue()
    return svg[svg.index("<svg") :]
