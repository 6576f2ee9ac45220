"""Generation defaults: checked, and as an engine takes them."""

from typing import Any

import pytest

from kamerton.core.errors import SettingsError
from kamerton.core.generation import GenerationSettings
from kamerton.core.protocols import Generation


def test_they_reach_the_engine() -> None:
    assert GenerationSettings().generation() == Generation(max_tokens=128)
    values = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "max_new_tokens": 64, "stop": ["##"]}
    assert GenerationSettings.parse(values).generation(seed=5) == Generation(
        max_tokens=64, temperature=0.7, top_p=0.9, top_k=40, stop=("##",), seed=5
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -0.1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("max_new_tokens", 0),
        ("stop", ["a", ""]),
    ],
)
def test_what_cannot_be_is_refused(key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=key):
        GenerationSettings.parse({key: value})
