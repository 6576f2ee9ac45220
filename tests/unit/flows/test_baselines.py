"""Prompts that need no training: what a user would write, from the examples alone."""

from collections.abc import Sequence

import pytest

from kamerton.core.events import Event, Notice
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    PreferenceExample,
    SourceLocation,
)
from kamerton.flows.baselines import built_instruction
from kamerton.flows.recipe import Recipe

HERE = SourceLocation("data.jsonl", 1)


def built(train: Sequence[Example], held: Sequence[Example] = (), **sections: object) -> list[str]:
    """Give the instructions, and then the notices."""
    notices: list[str] = []

    def sink(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.message)

    recipe = Recipe.parse(
        {"name": "desk", "base": "builtin:nano", "data": {"train": "data.jsonl"}, **sections}
    )
    return [*built_instruction(recipe, train, held, sink), *notices]


def classes(*rows: tuple[str, str]) -> list[Example]:
    return [ClassificationExample(HERE, text, label) for text, label in rows]


def chats(question: str, answer: str, *first: dict[str, str]) -> list[Example]:
    return [
        ChatExample(
            HERE,
            (
                *first,
                {"role": "user", "content": f"{question} {number}"},
                {"role": "assistant", "content": f"{answer} {number}"},
            ),
        )
        for number in range(6)
    ]


ENGLISH = classes(("Where is my order?", "delivery"), ("I want my money back", "refund"))
RUSSIAN = classes(("Где мой заказ?", "доставка"), ("Верните деньги за эти вещи", "возврат"))


def test_labels_are_named_in_the_language_of_the_texts() -> None:
    text, task = built(ENGLISH)
    assert task == "Decide which class the text belongs to."
    assert text == (
        "Decide which class the text belongs to. "
        "Answer with exactly one of these labels and nothing else: delivery; refund."
    )
    assert built(RUSSIAN)[0] == (
        "Определите, к какому классу относится текст. "
        "Ответьте ровно одной из этих меток и ничем больше: доставка; возврат."
    )


def test_the_purpose_names_the_task() -> None:
    text = built(ENGLISH, purpose="Sort tickets by topic")[0]
    assert text.startswith("Sort tickets by topic. Answer with exactly one of these labels")
    assert built(chats("Where is", "On its way,"), purpose="Answer politely")[0] == (
        "Answer politely."
    )


@pytest.mark.parametrize(
    ("train", "held", "sections"),
    [
        (ENGLISH, [], {"prompt": {"system": "Sort."}}),
        (chats("Where is", "On its way,"), [], {}),
        (ENGLISH, chats("Q", "A", {"role": "system", "content": "Be kind."}), {}),
        ([PreferenceExample(HERE, ({"role": "user", "content": "Q"},), (), ())], [], {}),
        ([], ENGLISH, {}),
    ],
)
def test_nothing_is_added_to_a_prompt_that_says_it_or_to_a_plain_question(
    train: list[Example], held: list[Example], sections: dict[str, object]
) -> None:
    assert built(train, held, **sections) == []


def test_labels_that_are_too_many_are_said() -> None:
    many = classes(*((f"text {number}", f"label {number:0>50}") for number in range(100)))
    text, warning = built(many)
    assert text == "Decide which class the text belongs to."
    assert "too many to be named" in warning
