"""Whether answers in JSON say what the right answers say, value by value."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from kamerton.core.files import canonical_json
from kamerton.evaluation.metrics import normalise
from kamerton.evaluation.settings import JsonValuesCheck
from kamerton.evaluation.statistics import Floats

__all__ = ["NO_JSON", "has_values", "json_of", "json_value_counts"]

NO_JSON = object()
"""Stands for what a text says that is no JSON."""

_FENCE = re.compile(r"\A```[\w-]*\n(.*)\n```\Z", re.DOTALL)


def json_of(text: str) -> Any:
    """Read a text that is JSON.

    Args:
        text: Spaces and a Markdown code fence around it are allowed.

    Returns:
        Its value, or `NO_JSON`; NaN and Infinity are not JSON.
    """
    text = text.strip()
    fenced = _FENCE.match(text)
    try:
        return json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NO_JSON


def has_values(check: JsonValuesCheck, reference: str) -> bool:
    """Tell whether a right answer has what a check compares.

    Args:
        check: The check.
        reference: The right answer.

    Returns:
        Whether it is an object or a list, and has the key of the check where that names one.
    """
    value = json_of(reference)
    if check.key is not None:
        return isinstance(value, dict) and check.key in value
    return isinstance(value, dict | list)


def json_value_counts(
    check: JsonValuesCheck, references: Sequence[str | None], texts: Sequence[str]
) -> Floats:
    """Count the values that answers share with right answers.

    Args:
        check: Says which values are compared.
        references: The right answer of each item; None where an item is not counted.
        texts: The answers.

    Returns:
        Of each item the values that are right, those that the answer has, and those that it
        should have, [n, 3]. Texts are compared apart from case, spaces and Unicode form, and the
        order of keys and of a list's members does not matter.
    """
    features = np.zeros((len(texts), 3))
    for position, (reference, text) in enumerate(zip(references, texts, strict=True)):
        if reference is None:
            continue
        right, found = (_values(json_of(one), check.key) for one in (reference, text))
        features[position] = ((right & found).total(), found.total(), right.total())
    return features


def _values(value: Any, key: str | None) -> Counter[str]:
    """List the values of an object with their keys, or the members of a list."""
    if isinstance(value, dict):
        named = value.items() if key is None else [(key, value[key])] if key in value else []
        return Counter(canonical_json([name, _plain(one)]) for name, one in named)
    if isinstance(value, list) and key is None:
        return Counter(canonical_json(_plain(one)) for one in value)
    return Counter()


def _plain(value: Any) -> Any:
    match value:
        case str():
            return normalise(value)
        case list():
            return [_plain(one) for one in value]
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case float() if value.is_integer():
            # JSON has one kind of number: 5.0 is 5.
            return int(value)
        case _:
            return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
