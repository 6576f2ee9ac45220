"""Checks: what each answer is worth, item by item."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from kamerton.core.errors import EvaluationError
from kamerton.core.protocols import ToolCall
from kamerton.evaluation import metrics
from kamerton.evaluation.checked import Checked
from kamerton.evaluation.free_text import are_short, are_texts, check_loss, check_wording
from kamerton.evaluation.items import Answers, Item
from kamerton.evaluation.json_values import NO_JSON, has_values, json_of, json_value_counts
from kamerton.evaluation.metrics import normalise
from kamerton.evaluation.refusals import is_refusal
from kamerton.evaluation.results import Kind
from kamerton.evaluation.settings import (
    Check,
    ContainsCheck,
    ExactCheck,
    JsonCheck,
    JsonValuesCheck,
    PatternCheck,
    RefusalCheck,
    RulesCheck,
    StyleCheck,
    ToolCallsCheck,
)
from kamerton.evaluation.statistics import Floats
from kamerton.evaluation.style import FittedStyle

__all__ = [
    "Checked",
    "check_all",
    "check_answers",
    "check_labels",
    "check_verdicts",
    "checks_for",
    "is_json",
    "kind_of",
    "worth_of",
    "worth_of_text",
]


def check_labels(items: Sequence[Item], texts: Sequence[str]) -> tuple[Checked, ...]:
    """Measure chosen labels.

    Args:
        items: With labels.
        texts: The label chosen for each.

    Returns:
        Accuracy and macro-F1 over the labels that are right somewhere; of pairs the share in which
        the better answer is the more probable one.
    """
    gold = [item.reference for item in items]
    values = np.array([float(t == g) for t, g in zip(texts, gold, strict=True)])
    if items[0].pair:
        preferred = metrics.mean_features(values)
        return (Checked("preference accuracy", values, preferred, metrics.mean),)
    features = metrics.class_features(texts, gold, sorted(set(gold)))
    return (
        Checked("accuracy", values, metrics.mean_features(values), metrics.mean),
        Checked("macro-F1", values, features, metrics.macro_f1),
    )


def check_all(
    checks: Sequence[Check | FittedStyle], items: Sequence[Item], answers: Answers
) -> tuple[Checked, ...]:
    """Measure all that there is to measure.

    Args:
        checks: The checks that were asked for, those of style fitted; only texts that were
            written are checked.
        items: The questions.
        answers: To them.

    Returns:
        The metrics, of which the first decides. Written texts have their loss among them, and
        without checks their likeness to the right texts.

    Raises:
        EvaluationError: If no item has what a check needs.
    """
    if answers.kind == "read":
        return (check_loss(answers),)
    if answers.kind == "scored":
        if items[0].is_desirable is not None:
            return (check_verdicts(items, answers.worths),)
        return check_labels(items, answers.texts)
    found = [
        check_answers(check, items, answers.texts, answers.calls)
        for check in checks_for(checks, items)
    ]
    if not are_texts(items):
        return tuple(found)
    loss = [check_loss(answers)] if answers.losses else []
    # What was asked for decides; of texts without checks it is the loss.
    return (*found, *loss) if checks else (*loss, *check_wording(items, answers.texts), *found)


def check_verdicts(items: Sequence[Item], worths: Sequence[float]) -> Checked:
    """Measure whether liked answers stand above disliked ones.

    Args:
        items: Each an answer with its verdict.
        worths: The variant's worth of each answer.

    Returns:
        Over all pairs of a liked and a disliked answer, whatever their questions, the share in
        which the liked one is worth more: the area under the ROC curve. An item is right when it
        stands on the right side of most answers with the other verdict.

    Raises:
        EvaluationError: If all verdicts are the same.
    """
    is_desirable = np.array([bool(item.is_desirable) for item in items])
    if is_desirable.all() or not is_desirable.any():
        only = "liked" if is_desirable.all() else "disliked"
        raise EvaluationError(
            f"feedback is measured by liked answers beside disliked ones, found only {only} ones "
            f"among {len(items)} held-out answers",
            hint="keep more aside (data.holdout), or set evaluate.checks: then the questions are "
            "asked and the written answers checked",
        )
    placed = metrics.placements(np.asarray(worths, dtype=np.float64), is_desirable)
    values, features = (
        (placed > 0.5).astype(np.float64),
        metrics.placement_features(placed, is_desirable),
    )
    return Checked("liked above disliked", values, features, metrics.balanced_mean)


def checks_for(
    checks: Sequence[Check | FittedStyle], items: Sequence[Item]
) -> tuple[Check | FittedStyle, ...]:
    """Say what is checked.

    Args:
        checks: The checks that were asked for.
        items: The questions.

    Returns:
        What was asked for; if that is nothing, "exact" where right answers are short texts, calls
        and their names where they call functions, and nothing of longer texts: next to none of
        them is written twice.
    """
    if checks:
        return tuple(checks)
    if are_texts(items):
        return (ExactCheck(),) if are_short(items) else ()
    calls = [bool(item.calls) for item in items]
    exact, name = ToolCallsCheck(), ToolCallsCheck(metric="name")
    if all(calls):
        return exact, name
    return ExactCheck(), exact, name, ToolCallsCheck(metric="decision")


def kind_of(items: Sequence[Item], checks: Sequence[Check]) -> Kind:
    """Say what was asked.

    Args:
        items: The questions.
        checks: The checks that were asked for.

    Returns:
        Its kind.
    """
    if not items[0].chat:
        return "reading"
    if items[0].labels:
        if items[0].is_desirable is not None:
            return "verdicts"
        return "pairs" if items[0].pair else "labels"
    return "checks" if checks or not are_texts(items) else "texts"


def check_answers(
    check: Check | FittedStyle,
    items: Sequence[Item],
    texts: Sequence[str],
    calls: Sequence[tuple[ToolCall, ...]] = (),
) -> Checked:
    """Measure generated answers by one check.

    Args:
        check: The check to measure.
        items: The questions.
        texts: The answer to each.
        calls: The calls in each; empty when there are none anywhere.

    Returns:
        The metric, item by item.

    Raises:
        EvaluationError: If no item has what the check needs.
    """
    counted = [_counts(check, item) for item in items]
    if not any(counted):
        _complain(check, items)
    return _checked(check, items, texts, counted, calls)


def worth_of(check: Check | FittedStyle, items: Sequence[Item], texts: Sequence[str]) -> Floats:
    """Say what each of some answers is worth.

    Args:
        check: The check to measure.
        items: The questions.
        texts: The answer to each.

    Returns:
        0 or 1, NaN where an item has not what the check needs, [n].
    """
    counted = [_counts(check, item) for item in items]
    if not any(counted):
        return np.full(len(items), np.nan)
    return _checked(check, items, texts, counted).values


def worth_of_text(check: JsonCheck | RulesCheck | RefusalCheck, text: str) -> bool:
    """Say whether an answer passes a check that needs no right answer.

    Args:
        check: The check.
        text: The answer.

    Returns:
        Whether it passes; of refusals without an expectation, whether it is one.
    """
    return _rule_of(check)(Item("", (), ""), text)


def _checked(
    check: Check | FittedStyle,
    items: Sequence[Item],
    texts: Sequence[str],
    counted: Sequence[bool],
    calls: Sequence[tuple[ToolCall, ...]] = (),
) -> Checked:
    if isinstance(check, FittedStyle):
        taken = check.classifier.sounds_like_brand(texts).astype(np.float64)
        values = np.where(counted, taken, np.nan)
        return Checked(check.title, values, metrics.mean_features(values), metrics.mean)
    assert not isinstance(check, StyleCheck), "a style check is fitted first"
    if isinstance(check, PatternCheck):
        return _check_pattern(check, items, texts, counted)
    if isinstance(check, JsonValuesCheck):
        return _check_json_values(check, items, texts, counted)
    values = np.full(len(items), np.nan)
    rule = None if isinstance(check, ToolCallsCheck) else _rule_of(check)
    for position, (item, text) in enumerate(zip(items, texts, strict=True)):
        if not counted[position]:
            continue
        made = calls[position] if calls else ()
        if isinstance(check, ToolCallsCheck):
            values[position] = float(_same_calls(check, item.calls, made))
        elif isinstance(check, ExactCheck) and item.calls:
            values[position] = float(_same_calls(ToolCallsCheck(), item.calls, made))
        else:
            assert rule is not None, "only calls have no rule"
            values[position] = float(rule(item, text))
    better = "higher"
    if isinstance(check, RefusalCheck) and check.expect is not True:
        better = "higher" if check.expect is False else "neither"
    return Checked(check.title, values, metrics.mean_features(values), metrics.mean, better)


def _same_calls(check: ToolCallsCheck, right: Sequence[ToolCall], made: Sequence[ToolCall]) -> bool:
    if check.metric == "decision":
        return bool(right) == bool(made)
    if check.metric == "name":
        return sorted(call.name for call in right) == sorted(call.name for call in made)
    return sorted(map(str, right)) == sorted(map(str, made))


def is_json(text: str) -> bool:
    """Tell whether a whole text is JSON.

    Args:
        text: Spaces and a Markdown code fence around it are allowed.

    Returns:
        Whether it parses; NaN and Infinity are not JSON.
    """
    return json_of(text) is not NO_JSON


def _follows(schema: Mapping[str, Any]) -> Callable[[str], bool]:
    """Make what tells whether a text is JSON that follows a schema."""
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator = validator_for(schema)(schema, registry=Registry())

    def follows(text: str) -> bool:
        value = json_of(text)
        try:
            return value is not NO_JSON and bool(validator.is_valid(value))
        except Unresolvable as error:
            raise EvaluationError(
                f"json_schema: {error.ref} is not in the schema",
                hint="write what it refers to under $defs",
            ) from None

    return follows


def _check_pattern(
    check: PatternCheck, items: Sequence[Item], texts: Sequence[str], counted: Sequence[bool]
) -> Checked:
    pattern = re.compile(check.pattern)
    gold = [
        normalise(_plain(item.extra[check.field])) if wanted else None
        for item, wanted in zip(items, counted, strict=True)
    ]
    predicted = [_found(pattern, text) for text in texts]
    values = np.array(
        [np.nan if g is None else float(p == g) for p, g in zip(predicted, gold, strict=True)]
    )
    if check.metric == "accuracy":
        return Checked(check.title, values, metrics.mean_features(values), metrics.mean)
    if check.metric == "f1":
        assert check.positive is not None
        features = metrics.class_features(predicted, gold, [normalise(check.positive)])
        return Checked(check.title, values, features, metrics.f1)
    classes = sorted({name for name in gold if name is not None})
    features = metrics.class_features(predicted, gold, classes)
    return Checked(check.title, values, features, metrics.macro_f1)


def _check_json_values(
    check: JsonValuesCheck, items: Sequence[Item], texts: Sequence[str], counted: Sequence[bool]
) -> Checked:
    references = [
        item.reference if is_counted else None
        for item, is_counted in zip(items, counted, strict=True)
    ]
    features = json_value_counts(check, references, texts)
    hits, found, wanted = features.T
    is_right = (hits == found) & (hits == wanted)
    if check.key is None:
        # An empty list is right only where the answer is JSON.
        is_right &= np.array([is_json(text) for text in texts])
    values = np.where(np.array(counted), is_right.astype(np.float64), np.nan)
    if check.metric == "f1":
        return Checked(check.title, values, features, metrics.f1)
    return Checked(check.title, values, metrics.mean_features(values), metrics.mean)


def _rule_of(
    check: ExactCheck | ContainsCheck | RulesCheck | RefusalCheck | JsonCheck,
) -> Callable[[Item, str], bool]:
    match check:
        case ExactCheck():
            return lambda item, text: normalise(text) == normalise(item.reference)
        case ContainsCheck():
            field = check.field
            return lambda item, text: _contains(text, item.extra[field])
        case RulesCheck():
            rules = [(re.compile(rule.pattern), rule.must) for rule in check.rules]
            return lambda _item, text: all(
                (pattern.search(text) is not None) == must for pattern, must in rules
            )
        case RefusalCheck():
            wanted = check.expect is not False
            return lambda _item, text: is_refusal(text) == wanted
        case JsonCheck() if check.json_schema:
            follows = _follows(check.json_schema)
            return lambda _item, text: follows(text)
        case JsonCheck():
            return lambda _item, text: is_json(text)


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    """Give what the last match found; models often repeat the question's wording first."""
    found = [match[1] for match in pattern.finditer(text) if match[1] is not None]
    return normalise(found[-1]) if found else None


def _contains(text: str, wanted: Any) -> bool:
    parts = wanted if isinstance(wanted, list | tuple) else [wanted]
    text = normalise(text)
    return all(normalise(_plain(part)) in text for part in parts)


def _plain(value: Any) -> str:
    """Write a column's value as an answer would: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _counts(check: Check | FittedStyle, item: Item) -> bool:
    if check.only_if is not None:
        value = item.extra.get(check.only_if)
        if not (value.strip() if isinstance(value, str) else value):
            return False
    if isinstance(check, ExactCheck | JsonValuesCheck) and item.is_desirable is False:
        # What users disliked is no right answer.
        return False
    if isinstance(check, ToolCallsCheck):
        return bool(item.tools or item.calls) if check.metric == "decision" else bool(item.calls)
    if isinstance(check, JsonValuesCheck):
        return has_values(check, item.reference)
    if not isinstance(check, ContainsCheck | PatternCheck):
        return True
    value = item.extra.get(check.field)
    # False and 0 are values to look for.
    return bool(value) or (isinstance(value, bool | int | float))


def _complain(check: Check | FittedStyle, items: Sequence[Item]) -> NoReturn:
    if isinstance(check, ExactCheck) and check.only_if is None:
        raise EvaluationError(
            f"check '{check.title}' needs items with a right answer, found only answers that users "
            "disliked",
            hint='take a check that needs none, such as kind = "rules"',
        )
    if isinstance(check, ToolCallsCheck) and check.only_if is None:
        raise EvaluationError(
            f"check '{check.title}' needs items whose right answer calls a function, found none "
            f"among {len(items)}",
            hint="chats must end with an assistant's turn that holds tool_calls",
        )
    if isinstance(check, JsonValuesCheck) and check.only_if is None:
        key = f" with the key '{check.key}'" if check.key else " or a list"
        raise EvaluationError(
            f"check '{check.title}' needs items whose right answer is a JSON object{key}, found "
            f"none among {len(items)}",
            hint='right answers that are plain texts are compared by kind = "exact"',
        )
    fields = [check.only_if, getattr(check, "field", None)]
    needed = " and ".join(f"column '{name}'" for name in fields if name)
    columns = sorted({name for item in items for name in item.extra})
    raise EvaluationError(
        f"check '{check.title}' needs items with {needed} filled in, found none among {len(items)}",
        hint=f"the rows' other columns are: {', '.join(columns) if columns else 'none'}",
    )
