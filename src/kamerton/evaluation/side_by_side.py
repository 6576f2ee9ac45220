"""Before and after: what a prompt writes and what a variant writes, beside the right answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kamerton.evaluation.checks import check_all
from kamerton.evaluation.edits import edit_share
from kamerton.evaluation.items import Answers, Item, spread
from kamerton.evaluation.results import Comparison
from kamerton.evaluation.settings import Check
from kamerton.evaluation.style import FittedStyle
from kamerton.evaluation.verdicts import best_opponent, judged_variant

__all__ = ["Pair", "SideBySide", "message_text", "side_by_side"]

_PAIRS = 8


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with two answers.

    Attributes:
        question: The last message before the answer.
        num_earlier: Messages before it.
        reference: The right answer, or one with a verdict.
        is_liked: Whether users liked it; None where there is no verdict.
        before: The baseline's answer.
        after: The variant's answer.
        others: The answers of the others by name.
        passed: The names of checks, and whether `before` and `after` pass; none of items that a
            check does not count.
    """

    question: str
    num_earlier: int
    reference: str
    is_liked: bool | None
    before: str
    after: str
    others: tuple[tuple[str, str], ...]
    passed: tuple[tuple[str, bool, bool], ...]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Some pairs of answers.

    Attributes:
        before: The name of the baseline.
        after: The name of the variant.
        num_items: Items that the pairs were taken from.
        pairs: The pairs, those first that differ most.
    """

    before: str
    after: str
    num_items: int
    pairs: tuple[Pair, ...]


def side_by_side(
    comparison: Comparison,
    items: Sequence[Item],
    answers: Sequence[Answers],
    checks: Sequence[Check | FittedStyle] = (),
) -> SideBySide | None:
    """Choose pairs evenly over the items, so that none is picked for how it looks.

    Args:
        comparison: Made of these items and answers.
        items: The questions.
        answers: One per variant, in the comparison's order.
        checks: Those of the comparison's settings.

    Returns:
        At most eight, the baseline being the best one; None where nothing was written, or
        where there is no baseline.
    """
    variant = judged_variant(comparison)
    opponent = best_opponent(comparison, variant)
    if opponent is None or answers[0].kind != "generated":
        return None
    by_name = {answer.variant: answer for answer in answers}
    before, after = by_name[opponent], by_name[variant]
    shares = []
    if comparison.kind == "checks":
        checked = [check_all(checks, items, answer) for answer in (before, after)]
        shares = [
            (old.metric, old.values, new.values)
            for old, new in zip(*checked, strict=True)
            if old.unit == "share"
        ]
    pairs = [
        Pair(
            question=message_text(items[at].chat[-1]),
            num_earlier=len(items[at].chat) - 1,
            reference=items[at].reference,
            is_liked=items[at].is_desirable,
            before=before.texts[at],
            after=after.texts[at],
            others=tuple(
                (answer.variant, answer.texts[at])
                for answer in answers
                if answer.variant not in (opponent, variant)
            ),
            passed=tuple(
                (metric, bool(old[at]), bool(new[at]))
                for metric, old, new in shares
                if old[at] == old[at]
            ),
        )
        for at in spread(range(len(items)), _PAIRS)
    ]
    # The order among those chosen evenly; what hardly changed says least.
    pairs.sort(key=lambda pair: -edit_share(pair.before, pair.after))
    return SideBySide(opponent, variant, len(items), tuple(pairs))


def message_text(message: Mapping[str, Any]) -> str:
    """Write out a message of a chat.

    Args:
        message: The message.

    Returns:
        Its text, or all that it holds but its role as JSON.
    """
    content = message.get("content")
    if isinstance(content, str) and not message.get("tool_calls"):
        return content
    rest = {key: value for key, value in message.items() if key != "role" and value}
    return json.dumps(rest, ensure_ascii=False)
