"""Plots of a report as SVG text; matplotlib is loaded only when one is drawn."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.evaluation.results import Comparison

__all__ = ["interval_plot", "loss_plot"]

_COLOURS = ("#2f6fb3", "#c4631c", "#2f8f5b", "#a23b72", "#7a6a1f", "#5b5bb0")
_GREY = "#808080"
"""Readable on a light page and on a dark one."""


def interval_plot(comparison: Comparison) -> str:
    """Draw every metric with its intervals, a panel per metric.

    Args:
        comparison: What to draw.

    Returns:
        An SVG element.
    """
    num, names = len(comparison.metrics), comparison.variants
    figure = _figure(0.55 + num * (0.65 + 0.3 * len(names)))
    panels = figure.subplots(num, 1, sharex=True, squeeze=False)[:, 0]
    for panel, metric in zip(panels, comparison.metrics, strict=True):
        for place, name in enumerate(names):
            found = comparison.measure(metric, name)
            colour = _COLOURS[place % len(_COLOURS)]
            panel.plot([100 * found.low, 100 * found.high], [place, place], color=colour, lw=3)
            panel.plot(100 * found.value, place, "o", color=colour, ms=7)
        panel.set_yticks(range(len(names)), [_plain(_short(name)) for name in names])
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_title(_plain(metric), loc="left", fontsize=10)
        _soften(panel)
    panels[-1].set_xlabel("percent")
    return _svg(figure)


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
    panel.set_xlabel("step")
    panel.set_ylabel("loss per token")
    panel.legend(frameon=False, labelcolor=_GREY)
    _soften(panel)
    return _svg(figure)


def _figure(height: float) -> Any:
    # Figure without pyplot: no global state, no window system.
    from matplotlib.figure import Figure

    return Figure(figsize=(7, height), layout="constrained")


def _soften(panel: Any) -> None:
    panel.grid(axis="x", color=_GREY, alpha=0.25)
    panel.tick_params(colors=_GREY)
    for text in (panel.xaxis.label, panel.yaxis.label, panel._left_title):
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


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def _plain(text: str) -> str:
    # A dollar sign would begin a formula.
    return text.replace("$", r"\$")
