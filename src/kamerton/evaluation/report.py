"""The report: one HTML file that explains itself, without scripts and without a network."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kamerton.core.errors import EvaluationError
from kamerton.core.files import write_atomically
from kamerton.core.language import (
    current_language,
    translated,
    translated_count,
    translated_number,
)
from kamerton.evaluation.amounts import change_text, in_unit, metric_title, range_text
from kamerton.evaluation.checks import check_all
from kamerton.evaluation.commonest import shown_name
from kamerton.evaluation.free_text import explained
from kamerton.evaluation.headline import headline, in_words
from kamerton.evaluation.items import Answers, Item
from kamerton.evaluation.jackknife import FEW_ROWS, FEWEST_ROWS
from kamerton.evaluation.judge import JUDGE_INSTRUCTION
from kamerton.evaluation.per_label import few_said, per_label, whole_percent
from kamerton.evaluation.plots import training_plot
from kamerton.evaluation.preferred import preference_text
from kamerton.evaluation.results import Comparison, Measured, Unit
from kamerton.evaluation.settings import Check
from kamerton.evaluation.side_by_side import message_text, side_by_side
from kamerton.evaluation.style import FittedStyle
from kamerton.evaluation.style_text import style_text
from kamerton.evaluation.table import (
    cost_cells,
    cost_heads,
    has_general_loss,
    p_text,
    value_text,
)
from kamerton.evaluation.verdicts import (
    best_opponent,
    in_short,
    judged_variant,
    tone,
    verdict,
    verdict_text,
)

__all__ = ["write_report"]

_EXAMPLES_PER_KIND = 6
_TURNS_SHOWN = 6


def write_report(
    path: Path,
    comparison: Comparison,
    items: Sequence[Item],
    answers: Sequence[Answers],
    *,
    checks: Sequence[Check | FittedStyle] = (),
    loss_curve: Sequence[Mapping[str, Any]] = (),
    holdout_curve: Sequence[Mapping[str, Any]] = (),
    title: str = "",
    facts: Sequence[tuple[str, str]] = (),
    prompts: Sequence[tuple[str, str]] = (),
    advice: Sequence[tuple[str, str]] = (),
) -> None:
    """Write a report as one self-contained HTML file.

    Args:
        path: The file; its folder is made.
        comparison: Made of these items and answers.
        items: The questions.
        answers: One per variant, in the comparison's order.
        checks: Those of the comparison's settings; the first decides which examples are shown.
        loss_curve: `step`, `loss` and perhaps `metrics` per optimiser step; empty leaves the plot
            out.
        holdout_curve: The same per measurement on the holdout.
        title: Title of the page; a general one when empty.
        facts: Name and value of what was compared, such as base and data.
        prompts: The first prompt of each variant by name, exactly as its model read it.
        advice: What to do next, each a text and a command, which may be empty.

    Raises:
        EvaluationError: If the answers are not those of the comparison.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    if tuple(answer.variant for answer in answers) != comparison.variants:
        raise EvaluationError(
            f"a report needs the answers of {', '.join(comparison.variants)}, "
            f"found {', '.join(answer.variant for answer in answers) or 'none'}"
        )
    environment = Environment(
        loader=PackageLoader("kamerton.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": value_text,
        "change": change_text,
        "p": p_text,
        "tone": tone,
        "percent": _percent,
        "axis": _mark_of_axis,
    }
    environment.filters |= {
        "in_words": in_words,
        "whole_percent": whole_percent,
        "shown_name": shown_name,
        "verdict_text": verdict_text,
        "number": _number,
    }
    environment.globals["range_text"] = range_text
    environment.globals |= {"translated": translated, "translated_count": translated_count}
    curves = Markup(training_plot(loss_curve, holdout_curve)) if loss_curve or holdout_curve else ""
    page = environment.get_template("report.html.j2").render(
        title=title or translated("Comparison of variants"),
        language=current_language(),
        headline=_unbroken(headline(comparison)),
        pairs=side_by_side(comparison, items, answers, checks),
        facts=facts,
        prompts=prompts,
        advice=advice,
        comparison=comparison,
        cost_heads=cost_heads(comparison),
        has_general_loss=has_general_loss(comparison),
        costs=[cost_cells(comparison, cost) for cost in comparison.costs],
        metrics=_metrics(comparison),
        short=in_short(comparison),
        labels=per_label(items, answers),
        few_said=few_said(),
        # Drawn by us, and holds nothing from outside but numbers.
        curves=curves,
        preferred=[(one, preference_text(one)) for one in comparison.preferences],
        judge_instruction=_judge_instruction(comparison),
        beside={style.metric: style_text(comparison, style) for style in comparison.styles},
        per_token=not any(point.get("metrics") for point in (*loss_curve, *holdout_curve)),
        sections=_sections(items, answers, checks, comparison),
        tests=sorted({difference.test for difference in comparison.differences}),
        grouped=comparison.is_grouped,
        in_percent=set(comparison.units) == {"share"},
        few_rows=FEW_ROWS,
        fewest_rows=FEWEST_ROWS,
    )
    write_atomically(path, page)


def _unbroken(sentence: str) -> str:
    """Keep each percent sign in the line of its number."""
    return sentence.replace(" %", "\N{NO-BREAK SPACE}%")


def _mark_of_axis(value: float, unit: Unit) -> str:
    number = translated_number(f"{in_unit(value, unit):g}")
    return number if unit in ("nats", "score") else f"{number} %"


def _number(value: float) -> str:
    """Word a number as it is, with its thousands apart."""
    return translated_number(f"{value:,}" if isinstance(value, int) else f"{value:g}")


def _judge_instruction(comparison: Comparison) -> str:
    by_judge = [one for one in comparison.preferences if one.num_asked is not None or one.agreement]
    return JUDGE_INSTRUCTION if by_judge else ""


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _metrics(comparison: Comparison) -> list[dict[str, Any]]:
    """Arrange results by metric: what belongs together is compared with the eye."""
    metrics = []
    for metric, better in zip(comparison.metrics, comparison.better, strict=True):
        found = [comparison.measure(metric, variant) for variant in comparison.variants]
        differences = [
            (one, verdict(comparison, one))
            for variant in comparison.variants
            for other in comparison.against
            if (one := comparison.difference(metric, variant, other)) is not None
            # Baselines among themselves are in the table of the terminal; here they distract.
            and variant not in comparison.against
        ]
        unit = comparison.unit_of(metric)
        metrics.append(
            {
                "name": metric,
                "title": metric_title(comparison, metric),
                "about": explained(comparison).get(metric, ""),
                "unit": unit,
                "end": _end_of_axis(found, unit),
                "direction": _direction(better),
                "num": found[0].n,
                "rows": [
                    {"measured": one, "judged": one.variant not in comparison.against}
                    for one in found
                ],
                "differences": differences,
            }
        )
    return metrics


def _direction(better: str) -> str:
    match better:
        case "higher":
            return translated("higher is better")
        case "lower":
            return translated("lower is better")
        case _:
            return translated("no direction is better")


def _end_of_axis(found: Sequence[Measured], unit: Unit) -> float:
    """Choose where an axis that begins at 0 ends: at 100 % where nothing can be more, else at a
    round number."""
    if unit in ("share", "score"):
        return 1.0
    most = max((one.value if one.high is None else one.high) for one in found)
    size = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    return next(
        round(step * size, 10) for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if most <= step * size
    )


def _sections(
    items: Sequence[Item],
    answers: Sequence[Answers],
    checks: Sequence[Check | FittedStyle],
    comparison: Comparison,
) -> list[dict[str, Any]]:
    """Choose examples: what the variant mends, breaks, and still fails.

    Texts have none, as nothing calls them right: they stand side by side.
    """
    if comparison.kind == "texts":
        return []
    right = [check_all(checks, items, answer)[0].values for answer in answers]
    metric = comparison.metrics[0]
    judged = comparison.kind != "reading" and comparison.better[0] != "neither"
    last = judged_variant(comparison)
    first = best_opponent(comparison, last) or answers[0].variant
    new, old = (right[comparison.variants.index(name)] for name in (last, first))
    kinds = [(old == 0) & (new == 1), (old == 1) & (new == 0), (old == 0) & (new == 0)]
    if not judged or first == last:
        headings, kinds = [translated("Examples")], [~np.isnan(new)]
    elif comparison.kind == "checks":
        headings = _headings_of_checks(shown_name(last), shown_name(first))
    else:
        headings = _headings_of_labels(shown_name(last), shown_name(first))
    words = _marks(comparison)
    sections = []
    for heading, wanted in zip(headings, kinds, strict=True):
        positions = np.flatnonzero(wanted)
        shown = [
            _example(items[position], position, answers, right if judged else None, words)
            for position in positions[:_EXAMPLES_PER_KIND]
        ]
        sections.append(
            {"heading": heading, "num": len(positions), "examples": shown, "metric": metric}
        )
    return sections


def _headings_of_checks(new: str, old: str) -> list[str]:
    return [
        translated("Only {variant} passes", variant=new),
        translated("Only {variant} passes", variant=old),
        translated("Neither {variant} nor {other} passes", variant=new, other=old),
    ]


def _headings_of_labels(new: str, old: str) -> list[str]:
    said = {"variant": new, "other": old}
    return [
        translated("Mended: {variant} is right where {other} was wrong", **said),
        translated("Broken: {variant} is wrong where {other} was right", **said),
        translated("Still wrong: neither {variant} nor {other} is right", **said),
    ]


def _marks(comparison: Comparison) -> Mapping[bool, tuple[str, str]]:
    """Give what is said of an answer, and the style of it: a text is not wrong."""
    if comparison.kind == "checks":
        return {True: (translated("passes"), "soft"), False: (translated("does not pass"), "soft")}
    return {True: (translated("right"), "good"), False: (translated("wrong"), "bad")}


def _example(
    item: Item,
    position: int,
    answers: Sequence[Answers],
    right: Sequence[Any] | None,
    words: Mapping[bool, tuple[str, str]],
) -> dict[str, Any]:
    turns = [(_speaker(str(message["role"])), message_text(message)) for message in item.chat]
    return {
        "skipped": max(len(turns) - _TURNS_SHOWN, 0),
        "turns": turns[-_TURNS_SHOWN:],
        "reference": item.reference,
        "is_liked": item.is_desirable,
        "answers": [
            {
                "variant": shown_name(answer.variant),
                "text": answer.texts[position],
                "mark": None if right is None else words[bool(right[number][position])],
            }
            for number, answer in enumerate(answers)
        ],
    }


def _speaker(role: str) -> str:
    match role:
        case "user":
            return translated("user")
        case "assistant":
            return translated("assistant")
        case "system":
            return translated("system")
        case _:
            return role
