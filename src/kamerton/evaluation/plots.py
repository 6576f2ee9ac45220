"""The plot of a training run as SVG text; matplotlib is loaded only when it is drawn."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.core.language import translated

__all__ = ["training_plot"]

_COLOURS = ("#4a86c7", "#c4631c")
_GREY = "#808080"
"""Readable on a light page and on a dark one."""

Point = Mapping[str, Any]


def training_plot(steps: Sequence[Point], holdout: Sequence[Point] = ()) -> str:
    """Draw what a run logged: its loss and, of preferences and rewards, their own numbers.

    Args:
        steps: `step`, `loss` and perhaps `metrics` by name, per optimiser step.
        holdout: The same per measurement on the holdout.

    Returns:
        SVG elements, one per panel: each is narrow enough for a telephone, and a page can put
        several side by side.
    """
    known = {name for point in (*steps, *holdout) for name in point.get("metrics", {})}
    panels = [(title, names) for title, names in _panels() if known.issuperset(names)]
    if "reward" not in known:
        # The loss of what the model writes itself says nothing.
        title = translated("loss") if known else translated("loss per token")
        panels.insert(0, (title, ("loss",)))
    drawn = []
    for number, (title, names) in enumerate(panels):
        figure = _figure()
        _draw(figure.subplots(), title, names, steps, holdout)
        drawn.append(_svg(figure, number))
    return "\n".join(drawn)


def _panels() -> list[tuple[str, tuple[str, ...]]]:
    """Give the title of each panel, and the metrics that it shows."""
    distance, length = translated("distance in nats"), translated("length in tokens")
    change = translated("log-probability, change")
    return [
        (translated("reward"), ("reward",)),
        (distance, ("kl",)),
        (distance, ("distance",)),
        (translated("accuracy"), ("accuracy",)),
        (translated("reward accuracy"), ("reward_accuracy",)),
        (translated("preference accuracy"), ("preference_accuracy",)),
        (translated("liked above disliked"), ("liked_above_disliked",)),
        (translated("margin"), ("margin",)),
        (change, ("chosen_change", "rejected_change")),
        (change, ("desirable_change", "undesirable_change")),
        (translated("log-probability"), ("chosen_logprob", "rejected_logprob")),
        (length, ("chosen_tokens", "rejected_tokens")),
        (length, ("length",)),
        (translated("share that ended"), ("ended",)),
    ]


def _side(name: str) -> str:
    """Word the side of a pair that a metric is about."""
    match name.partition("_")[0]:
        case "chosen":
            return translated("chosen")
        case "rejected":
            return translated("rejected")
        case "desirable":
            return translated("desirable")
        case "undesirable":
            return translated("undesirable")
        case side:
            return side


def _draw(
    panel: Any, title: str, names: Sequence[str], steps: Sequence[Point], holdout: Sequence[Point]
) -> None:
    """Training as lines and the holdout as points; two sides of a pair have a colour each."""
    both = len(names) == 2
    values: list[float] = []
    for number, name in enumerate(names):
        for points, style, source in (
            (steps, "-", translated("training")),
            (holdout, "o-", translated("holdout")),
        ):
            x = [point["step"] for point in points if _has(point, name)]
            y = [_value(point, name) for point in points if _has(point, name)]
            behind = both and points is steps and bool(holdout)
            label = _side(name) if both else source
            if x:
                panel.plot(
                    x, y, style, color=_COLOURS[number if both else points is holdout],
                    label=None if behind else label, alpha=0.4 if behind else 1.0, lw=1.5, ms=5,
                )  # fmt: skip
            values += y
    # Most of a fine-tuning's fall is in its first steps: only a logarithm shows the rest.
    if names == ("loss",) and all(value > 0 for value in values):
        _logarithmic(panel)
    panel.set_xlabel(translated("step"))
    panel.set_ylabel(title)
    panel.legend(frameon=False, labelcolor="linecolor", fontsize=9)
    _soften(panel)


def _has(point: Point, name: str) -> bool:
    return name == "loss" or name in point.get("metrics", {})


def _value(point: Point, name: str) -> float:
    return float(point["loss"] if name == "loss" else point["metrics"][name])


def _logarithmic(panel: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _figure() -> Any:
    # Figure without pyplot: no global state, no window system.
    from matplotlib.figure import Figure

    return Figure(figsize=(4.4, 2.8), layout="constrained")


def _soften(panel: Any) -> None:
    panel.grid(color=_GREY, alpha=0.25)
    panel.tick_params(colors=_GREY)
    for text in (panel.xaxis.label, panel.yaxis.label):
        text.set_color(_GREY)
    for side, spine in panel.spines.items():
        spine.set_color(_GREY)
        spine.set_visible(side == "bottom")


def _svg(figure: Any, number: int) -> str:
    from matplotlib import rc_context

    target = io.StringIO()
    # Real text stays searchable; a fixed salt and no date make equal plots equal bytes, and a salt
    # of its own keeps each panel's names apart on one page.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": f"kamerton {number}"}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    svg = target.getvalue()
    return svg[svg.index("<svg") :]
