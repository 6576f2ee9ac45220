"""The report: one HTML file that explains itself, without scripts and without a network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kamerton.core.errors import EvaluationError
from kamerton.core.files import write_atomically
from kamerton.core.language import translated, translated_count
from kamerton.evaluation.checks import check_all
from kamerton.evaluation.items import Answers, Item
from kamerton.evaluation.jackknife import FEW_ROWS, FEWEST_ROWS
from kamerton.evaluation.per_label import few_said, per_label, whole_percent
from kamerton.evaluation.plots import training_plot
from kamerton.evaluation.results import Comparison
from kamerton.evaluation.settings import Check
from kamerton.evaluation.table import cost_cells, cost_heads, p_text, value_text
from kamerton.evaluation.verdicts import in_short, last_opponent, tone, verdict

__all__ = ["write_report"]

_EXAMPLES_PER_KIND = 6
_TURNS_SHOWN = 6


def write_report(
    path: Path,
    comparison: Comparison,
    items: Sequence[Item],
    answers: Sequence[Answers],
    *,
    checks: Sequence[Check] = (),
    loss_curve: Sequence[Mapping[str, Any]] = (),
    holdout_curve: Sequence[Mapping[str, Any]] = (),
    title: str = "Comparison of variants",
    facts: Sequence[tuple[str, str]] = (),
    prompts: Sequence[tuple[str, str]] = (),
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
        title: Title of the page.
        facts: Name and value of what was compared, such as base and data.
        prompts: The first prompt of each variant by name, exactly as its model read it.

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
    environment.filters |= {"value": value_text, "p": p_text, "tone": tone, "percent": _percent}
    environment.filters["whole_percent"] = whole_percent
    environment.globals |= {"translated": translated, "translated_count": translated_count}
    curves = Markup(training_plot(loss_curve, holdout_curve)) if loss_curve or holdout_curve else ""
    page = environment.get_template("report.html.j2").render(
        title=title,
        facts=facts,
        prompts=prompts,
        comparison=comparison,
        cost_heads=cost_heads(comparison),
        costs=[cost_cells(comparison, cost) for cost in comparison.costs],
        metrics=_metrics(comparison),
        short=in_short(comparison),
        labels=per_label(items, answers),
        few_said=few_said(),
        # Drawn by us, and holds nothing from outside but numbers.
        curves=curves,
        per_token=not any(point.get("metrics") for point in (*loss_curve, *holdout_curve)),
        sections=_sections(items, answers, checks, comparison),
        tests=sorted({difference.test for difference in comparison.differences}),
        grouped=comparison.is_grouped,
        few_rows=FEW_ROWS,
        fewest_rows=FEWEST_ROWS,
    )
    write_atomically(path, page)


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
        metrics.append(
            {
                "name": metric,
                "direction": "no direction is better"
                if better == "neither"
                else f"{better} is better",
                "num": found[0].n,
                "rows": [
                    {"measured": one, "judged": one.variant not in comparison.against}
                    for one in found
                ],
                "differences": differences,
            }
        )
    return metrics


def _sections(
    items: Sequence[Item],
    answers: Sequence[Answers],
    checks: Sequence[Check],
    comparison: Comparison,
) -> list[dict[str, Any]]:
    """Choose examples: what the last variant mends, breaks, and still fails."""
    right = [check_all(checks, items, answer)[0].values for answer in answers]
    metric = comparison.metrics[0]
    last, judged = answers[-1].variant, comparison.better[0] != "neither"
    first = last_opponent(comparison, last) or answers[0].variant
    new = right[-1]
    old = right[comparison.variants.index(first)]
    if not judged or first == last:
        kinds = [("Examples", ~np.isnan(new))]
    else:
        kinds = [
            (f"Mended: {last} is right where {first} was wrong", (old == 0) & (new == 1)),
            (f"Broken: {last} is wrong where {first} was right", (old == 1) & (new == 0)),
            (f"Still wrong: neither {last} nor {first} is right", (old == 0) & (new == 0)),
        ]
    sections = []
    for heading, wanted in kinds:
        positions = np.flatnonzero(wanted)
        shown = [
            _example(items[position], position, answers, right if judged else None)
            for position in positions[:_EXAMPLES_PER_KIND]
        ]
        sections.append(
            {"heading": heading, "num": len(positions), "examples": shown, "metric": metric}
        )
    return sections


def _example(
    item: Item, position: int, answers: Sequence[Answers], right: Sequence[Any] | None
) -> dict[str, Any]:
    turns = [(str(message["role"]), _text(message)) for message in item.chat]
    return {
        "skipped": max(len(turns) - _TURNS_SHOWN, 0),
        "turns": turns[-_TURNS_SHOWN:],
        "reference": item.reference,
        "verdict": {None: "", True: " (liked)", False: " (disliked)"}[item.is_desirable],
        "answers": [
            {
                "variant": answer.variant,
                "text": answer.texts[position],
                "mark": "" if right is None else ("right" if right[number][position] else "wrong"),
            }
            for number, answer in enumerate(answers)
        ],
    }


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str) and not message.get("tool_calls"):
        return content
    rest = {key: value for key, value in message.items() if key != "role" and value}
    return json.dumps(rest, ensure_ascii=False)
