"""Several answers to one prompt, ranked or rated, and the pairs of a better and a worse one."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle, islice, pairwise
from typing import Any

from kamerton.data.examples import Message, PreferenceExample
from kamerton.data.formats.fields import Fields, check_answer, continuation
from kamerton.data.formats.messages import Unusable, decoded, user
from kamerton.data.settings import PairsName
from kamerton.data.values import kind_of

__all__ = ["number_of", "order_pairs", "pair_up", "ranking"]

Turns = tuple[Message, ...]

_TEXT_KEYS = ("text", "answer", "response", "completion", "output", "messages", "content")
_ROLE_KEYS = ("role", "from")
# All pairs of so many are 4,950; a longer list is a mistake more often than a ranking.
_MOST_ANSWERS = 100


def ranking(fields: Fields) -> tuple[PreferenceExample, ...]:
    """Read a prompt with several answers.

    Args:
        fields: Fields of a row with `prompt` and `answers`: best first, or with as many `ranks`
            (the smaller the better) or `scores` (the larger the better).

    Returns:
        Pairs of a better and a worse answer, at least one.

    Raises:
        Unusable: If there are fewer than two answers, one is none, a rank or score is no number,
            or none is better than another.
    """
    source = fields.source("answers")
    prompt = fields.turns("prompt", user)
    if not prompt:
        raise Unusable(fields.source("prompt"), "is empty")
    listed = _list_of(fields, "answers")
    if len(listed) < 2:
        raise Unusable(source, f"must have at least two answers, got {len(listed)}")
    worths, judged_by = _worths(fields, listed)
    answers = []
    for i, value in enumerate(listed):
        field = f"{source}.{i}"
        answer = continuation(
            _content(value, field), field, fields.value("prompt"), prompt, fields.schema.speakers
        )
        check_answer(answer, field)
        answers.append(answer)
    prompt = fields.asked(prompt)
    pairs = pair_up(answers, worths, fields.schema.pairs, answered=source, judged_by=judged_by)
    group, extra = fields.group, fields.extra
    return tuple(
        PreferenceExample(
            fields.row.location, prompt, answers[better], answers[worse], group, extra
        )
        for better, worse in pairs
    )


def pair_up(
    answers: Sequence[Turns],
    worths: Sequence[float],
    which: PairsName,
    *,
    answered: str,
    judged_by: str,
) -> list[tuple[int, int]]:
    """Choose pairs of answers to one prompt.

    Args:
        answers: At least two.
        worths: One number for each; the larger, the better.
        which: Which pairs to take.
        answered: The answers' name in errors.
        judged_by: Their worths' name in errors.

    Returns:
        Indices of the better and the worse answer, at least one pair; no pair of equal texts.

    Raises:
        Unusable: If none is better than another, or there are too many for all pairs.
    """
    if which == "all" and len(answers) > _MOST_ANSWERS:
        raise Unusable(
            answered,
            f"must have at most {_MOST_ANSWERS} answers to one prompt, got {len(answers)}; "
            'data.pairs = "neighbours" takes more',
        )
    pairs = order_pairs(worths, which)
    if not pairs:
        raise Unusable(judged_by, "all answers are rated alike")
    different = [(better, worse) for better, worse in pairs if answers[better] != answers[worse]]
    if not different:
        raise Unusable(answered, "the better and the worse answers are the same")
    return different


def order_pairs(worths: Sequence[float], which: PairsName) -> list[tuple[int, int]]:
    """Choose pairs by worth alone.

    Args:
        worths: The larger, the better; equal ones are ties, which are never paired.
        which: "all": every better one with every worse one; "neighbours": every one with one of
            the next worth, so about as many pairs as worths; "best-worst": one pair.

    Returns:
        Indices of the better and the worse one, the best first; nothing when all are equal.
    """
    levels_of: dict[float, list[int]] = defaultdict(list)
    for index, worth in enumerate(worths):
        levels_of[worth].append(index)
    levels = [levels_of[worth] for worth in sorted(levels_of, reverse=True)]
    if len(levels) < 2:
        return []
    match which:
        case "best-worst":
            return [(levels[0][0], levels[-1][-1])]
        case "neighbours":
            return [pair for upper, lower in pairwise(levels) for pair in _meet(upper, lower)]
        case "all":
            return [
                (better, worse)
                for i, upper in enumerate(levels)
                for better in upper
                for lower in levels[i + 1 :]
                for worse in lower
            ]


def number_of(value: Any, field: str) -> float:
    """Read a rank or a score.

    Args:
        value: A number, or text of one.
        field: Its name in errors.

    Returns:
        The number.

    Raises:
        Unusable: If it is none.
    """
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
        raise Unusable(field, f"must be a number, got '{value[:40]}'")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unusable(field, f"must be a number, got {kind_of(value)}")
    return value


def _meet(upper: Sequence[int], lower: Sequence[int]) -> list[tuple[int, int]]:
    """Pair two levels so that each index is in a pair; the shorter level comes round again."""
    most = max(len(upper), len(lower))
    return list(zip(islice(cycle(upper), most), islice(cycle(lower), most), strict=True))


def _list_of(fields: Fields, name: str) -> list[Any]:
    """Read a list, or the JSON text of one that a table cell holds."""
    value = decoded(fields.value(name), fields.source(name))
    if not isinstance(value, list):
        raise Unusable(fields.source(name), f"must be a list, got {kind_of(value)}")
    return value


def _worths(fields: Fields, listed: Sequence[Any]) -> tuple[list[float], str]:
    """Give the worth of each answer, and what it was taken from."""
    for name, sign in (("ranks", -1), ("scores", 1)):
        if fields.value(name) is None:
            continue
        field, values = fields.source(name), _list_of(fields, name)
        if len(values) != len(listed):
            raise Unusable(
                field, f"must have one number for each of {len(listed)} answers, got {len(values)}"
            )
        return [sign * number_of(v, f"{field}.{i}") for i, v in enumerate(values)], field
    source = fields.source("answers")
    if any(isinstance(v, Mapping) and not _is_turn(v) for v in listed):
        # Best first is what lists of plain answers mean; objects have a number somewhere.
        raise Unusable(
            source, f"must have ranks or scores; name them, as in scores = '{source}.quality'"
        )
    return [-float(i) for i in range(len(listed))], source


def _content(value: Any, field: str) -> Any:
    """Take the text or the turns out of an object that is no turn itself."""
    if not isinstance(value, Mapping) or _is_turn(value):
        return value
    key = next((key for key in _TEXT_KEYS if value.get(key) is not None), None)
    if key is None:
        raise Unusable(
            field, f"must have the answer under one of the names {', '.join(_TEXT_KEYS)}"
        )
    return value[key]


def _is_turn(value: Mapping[str, Any]) -> bool:
    return any(value.get(key) is not None for key in _ROLE_KEYS)
