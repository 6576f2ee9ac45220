"""Every word is there in both languages, and is filled in with the same names."""

import string

import pytest

from kamerton.evaluation.live_metrics import BUILT_IN
from kamerton.experiments.words import WORDS, metric_name, word


def names_in(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_every_key() -> None:
    assert set(WORDS["en"]) == set(WORDS["ru"])
    assert len(WORDS["en"]) > 100


@pytest.mark.parametrize("key", WORDS["en"])
def test_both_languages_fill_in_the_same(key: str) -> None:
    assert names_in(WORDS["en"][key]) == names_in(WORDS["ru"][key])
    assert (WORDS["en"][key].strip() and WORDS["ru"][key].strip()) or key == "joint"


def test_every_built_in_metric_has_a_name() -> None:
    for words in WORDS.values():
        assert {f"metric.{name}" for name in BUILT_IN} <= set(words)
    assert metric_name("ru", "refusal") == "доля отказов"
    assert metric_name("ru", "reopened") == "reopened"
    assert word("ru", "cheaper", percent="41 %") == "на 41 % дешевле"
