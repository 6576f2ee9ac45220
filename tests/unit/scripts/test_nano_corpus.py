"""The pretraining corpus of nano: seeded, well-formed, bilingual and without leaked names."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts" / "nano"
NUM_DOCUMENTS = 1500


@pytest.fixture(scope="module")
def corpus() -> Iterator[ModuleType]:
    """The corpus script, imported from its own folder as Python does when it is run."""
    before = set(sys.modules)
    sys.path.insert(0, str(SCRIPTS))
    try:
        import corpus as module

        yield module
    finally:
        sys.path.remove(str(SCRIPTS))
        for name in set(sys.modules) - before:
            del sys.modules[name]


def take(module: ModuleType, seed: int, count: int) -> list[tuple[str, dict[str, object]]]:
    return list(itertools.islice(module.template_documents(seed), count))


def test_same_seed_gives_the_same_documents(corpus: ModuleType) -> None:
    first = list(corpus.corpus(seed=5, characters=30_000, material=None))
    again = list(corpus.corpus(seed=5, characters=30_000, material=None))
    other = list(corpus.corpus(seed=6, characters=30_000, material=None))
    assert first == again
    assert first != other


def test_the_size_is_reached_and_not_far_exceeded(corpus: ModuleType) -> None:
    documents = list(corpus.corpus(seed=5, characters=30_000, material=None))
    size = sum(len(text) for _, document in documents for text in corpus.contents(document))
    assert 30_000 <= size < 40_000


def test_conversations_alternate_and_end_with_the_assistant(corpus: ModuleType) -> None:
    seen = 0
    for _, document in take(corpus, 1, NUM_DOCUMENTS):
        if "text" in document:
            continue
        messages = document["messages"]
        assert isinstance(messages, list)
        roles = [message["role"] for message in messages if message["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert len(roles) >= 2
        assert all(message["role"] != "system" for message in messages[1:])
        seen += 1
    assert seen > NUM_DOCUMENTS // 2


def test_every_slot_and_choice_is_filled(corpus: ModuleType) -> None:
    for _, document in take(corpus, 2, NUM_DOCUMENTS):
        for text in corpus.contents(document):
            assert text.strip() == text != ""
            assert not any(
                mark in text for mark in ("{q}", "{name}", "{order}", "{item", "{days", "<|")
            )


def test_both_languages_have_a_fair_share_and_their_own_letters(corpus: ModuleType) -> None:
    letters = {"en": 0, "ru": 0}
    foreign = 0
    for language, document in take(corpus, 3, NUM_DOCUMENTS):
        text = "".join(corpus.contents(document)).lower()
        russian = sum("а" <= letter <= "я" or letter == "ё" for letter in text)
        english = sum("a" <= letter <= "z" for letter in text)
        letters[language] += russian + english
        foreign += english > 2 * russian if language == "ru" else russian > 2 * english
    share = letters["en"] / (letters["en"] + letters["ru"])
    assert 0.45 < share < 0.65
    assert foreign < NUM_DOCUMENTS // 50


def test_forbidden_names_are_absent_and_would_be_dropped(corpus: ModuleType) -> None:
    for _, document in take(corpus, 4, NUM_DOCUMENTS):
        joined = " ".join(corpus.contents(document)).lower()
        assert not any(word in joined for word in corpus.FORBIDDEN)
    assert not corpus.allowed({"text": "Welcome to Veresk."})
    assert not corpus.allowed({"messages": [{"role": "user", "content": "Магазин «Вереск»"}]})


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, "1 день"),
        (3, "3 дня"),
        (5, "5 дней"),
        (11, "11 дней"),
        (21, "21 день"),
        (112, "112 дней"),
    ],
)
def test_russian_numbers_agree(corpus: ModuleType, number: int, expected: str) -> None:
    words = sys.modules["words"]
    assert words.plural(number, "день", "дня", "дней") == expected
