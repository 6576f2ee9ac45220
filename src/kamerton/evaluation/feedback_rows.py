"""Training rows from feedback: corrections, pairs and verdicts, as `kamerton check` takes them.

One rater cannot move a variant: each gives so many rows at most. Where raters contradict each
other about an answer, or correct the same question differently, the rows are set apart.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kamerton.store.feedback import Feedback
from kamerton.store.traffic import RequestRow

__all__ = ["FeedbackRows", "RowKind", "feedback_rows", "prompt_rows"]

RowKind = Literal["sft", "pairs", "kto"]

_UNKNOWN = ("", "page")
"""Raters that are many people: the unit that asked stands for them."""

_GOOD, _BAD = 4.0, 2.0
"""Stars from which on an answer is good, and up to which it is bad."""

_RawRow = dict[str, Any]


@dataclass
class FeedbackRows:
    """What feedback gives for training.

    Attributes:
        rows: To learn from.
        conflicts: The same form, where raters contradict each other.
        num_without_text: Answers that were judged and whose text is not recorded.
        num_over_cap: Judgements that were left out because their rater gave enough.
    """

    rows: list[_RawRow] = field(default_factory=list)
    conflicts: list[_RawRow] = field(default_factory=list)
    num_without_text: int = 0
    num_over_cap: int = 0


def feedback_rows(
    kind: RowKind,
    requests: Iterable[RequestRow],
    feedback: Iterable[Feedback],
    *,
    per_rater: int = 100,
) -> FeedbackRows:
    """Turn feedback into training rows.

    Args:
        kind: "sft" takes corrections as right answers; "pairs" prefers a correction to its answer,
            and a good answer to a bad one to the same question; "kto" takes verdicts.
        requests: Recorded ones, in order of time.
        feedback: The judgements that count.
        per_rater: Most judgements of one rater that are used, the first ones.

    Returns:
        Rows in order of time.
    """
    found = FeedbackRows()
    judged: dict[str, list[Feedback]] = defaultdict(list)
    for each in feedback:
        if (each.correction is not None and kind != "kto") or _verdict(each) is not None:
            judged[each.completion_id].append(each)
    used: Counter[str] = Counter()
    kept: list[tuple[RequestRow, list[Feedback]]] = []
    for row in requests:
        if row.id not in judged:
            continue
        if row.prompt is None or row.answer is None:
            found.num_without_text += 1
            continue
        mine = []
        for each in judged[row.id]:
            rater = _rater(each, row)
            used[rater] += 1
            if used[rater] <= per_rater:
                mine.append(each)
        found.num_over_cap += len(judged[row.id]) - len(mine)
        if mine:
            kept.append((row, mine))
    make = {"sft": _corrected, "pairs": _pairs, "kto": _verdicts}[kind]
    make(kept, found)
    return found


def prompt_rows(
    requests: Iterable[RequestRow], feedback: Iterable[Feedback], *, limit: int
) -> FeedbackRows:
    """Turn recorded questions into rows that variants answer anew.

    Args:
        requests: Recorded ones, in order of time.
        feedback: The judgements that count.
        limit: Most rows.

    Returns:
        Each question once, the newest first, with its newest correction where there is one, else
        its newest answer.
    """
    found = FeedbackRows()
    corrected = {one.completion_id: one.correction for one in feedback if one.correction}
    by_prompt: dict[str, tuple[RequestRow, str | None]] = {}
    for row in requests:
        if row.prompt is None or not row.answer:
            found.num_without_text += row.prompt is None
            continue
        _, before = by_prompt.pop(row.prompt, (row, None))
        # Put in anew, the newest question stands last.
        by_prompt[row.prompt] = row, corrected.get(row.id) or before
    for row, correction in list(reversed(by_prompt.values()))[:limit]:
        right = {"role": "assistant", "content": correction} if correction else None
        turns = [*_turns(row.prompt or ""), right or _answer(row.answer or "")]
        found.rows.append({"messages": turns, **_origin(row)})
    return found


def _corrected(kept: Sequence[tuple[RequestRow, Sequence[Feedback]]], found: FeedbackRows) -> None:
    answers = _corrections(kept)
    for prompt, texts in answers.items():
        for text, row in texts.items():
            turn = {"role": "assistant", "content": text}
            _add(found, len(texts) > 1, {"messages": [*_turns(prompt), turn], **_origin(row)})


def _pairs(kept: Sequence[tuple[RequestRow, Sequence[Feedback]]], found: FeedbackRows) -> None:
    corrections = _corrections(kept)
    for prompt, texts in corrections.items():
        for text, row in texts.items():
            assert row.answer is not None
            better, worse = {"role": "assistant", "content": text}, _answer(row.answer)
            if text != worse.get("content"):
                pair = {"prompt": _turns(prompt), "chosen": [better], "rejected": [worse]}
                _add(found, len(texts) > 1, {**pair, **_origin(row)})
    by_prompt: dict[str, dict[bool, list[RequestRow]]] = defaultdict(lambda: defaultdict(list))
    for row, judgements in kept:
        is_good, is_conflict = _agreed(judgements)
        if is_good is not None and not is_conflict:
            by_prompt[row.prompt or ""][is_good].append(row)
    for prompt, sides in by_prompt.items():
        # Each answer stands in one pair: a question that is asked often must not outweigh others.
        for good, bad in zip(sides[True], sides[False], strict=False):
            is_conflict = good.answer == bad.answer
            chosen, rejected = _answer(good.answer or ""), _answer(bad.answer or "")
            pair = {"prompt": _turns(prompt), "chosen": [chosen], "rejected": [rejected]}
            _add(found, is_conflict, {**pair, **_origin(good)})


def _verdicts(kept: Sequence[tuple[RequestRow, Sequence[Feedback]]], found: FeedbackRows) -> None:
    sides: dict[tuple[str, str], set[bool]] = defaultdict(set)
    agreed = []
    for row, judgements in kept:
        is_good, is_conflict = _agreed(judgements)
        if is_good is None:
            continue
        sides[row.prompt or "", row.answer or ""].add(is_good)
        agreed.append((row, is_good, is_conflict))
    for row, is_good, is_conflict in agreed:
        is_split = len(sides[row.prompt or "", row.answer or ""]) > 1
        made = {"prompt": _turns(row.prompt or ""), "completion": [_answer(row.answer or "")]}
        _add(found, is_conflict or is_split, {**made, "label": is_good, **_origin(row)})


def _corrections(
    kept: Sequence[tuple[RequestRow, Sequence[Feedback]]],
) -> dict[str, dict[str, RequestRow]]:
    """Give the corrections of each prompt, each with the first row that it corrects."""
    given: dict[str, dict[str, RequestRow]] = defaultdict(dict)
    for row, judgements in kept:
        for each in judgements:
            if each.correction is not None and each.correction.strip():
                given[row.prompt or ""].setdefault(each.correction.strip(), row)
    return given


def _agreed(judgements: Sequence[Feedback]) -> tuple[bool | None, bool]:
    """Give what most say, and whether somebody says otherwise; nothing where there is no most."""
    said = [verdict for each in judgements if (verdict := _verdict(each)) is not None]
    if not said:
        return None, False
    return said.count(True) * 2 >= len(said), len(set(said)) > 1


def _verdict(feedback: Feedback) -> bool | None:
    if feedback.value is None:
        return None
    if feedback.name == "thumbs":
        return feedback.value > 0
    if feedback.name == "rating":
        is_clear = feedback.value >= _GOOD or feedback.value <= _BAD
        return feedback.value >= _GOOD if is_clear else None
    return None


def _rater(feedback: Feedback, row: RequestRow) -> str:
    if feedback.rater not in _UNKNOWN:
        return f"rater {feedback.rater}"
    return f"unit {row.unit}" if row.unit else f"completion {row.id}"


def _turns(prompt: str) -> list[Mapping[str, Any]]:
    try:
        decoded = json.loads(prompt) if prompt.startswith("[") else None
    except ValueError:
        decoded = None
    if isinstance(decoded, list) and all(isinstance(turn, dict) for turn in decoded):
        return decoded
    return [{"role": "user", "content": prompt}]


def _answer(answer: str) -> dict[str, Any]:
    try:
        decoded = json.loads(answer) if answer.startswith("{") else None
    except ValueError:
        decoded = None
    if isinstance(decoded, dict) and set(decoded) == {"content", "tool_calls"}:
        return {"role": "assistant", **decoded}
    return {"role": "assistant", "content": answer}


def _origin(row: RequestRow) -> dict[str, str]:
    """Where a row comes from, as a column that no example needs."""
    return {"completion_id": row.id, "variant": row.variant}


def _add(found: FeedbackRows, is_conflict: bool, row: _RawRow) -> None:
    (found.conflicts if is_conflict else found.rows).append(row)
