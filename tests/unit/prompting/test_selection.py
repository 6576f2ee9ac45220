"""Ways of choosing worked examples, and prompts that choose for each question."""

from typing import Any

import pytest

from kamerton.prompting.demonstrations import (
    PossibleDemonstration,
    Selection,
    choose_demonstrations,
)
from kamerton.prompting.diverse import diverse
from kamerton.prompting.prompt import Prompt

QUESTIONS = ["where is my parcel", "my parcel is late", "give my money back", "is it in stock"]


def candidate(text: str) -> PossibleDemonstration:
    chat = ({"role": "user", "content": text}, {"role": "assistant", "content": f"to {text}"})
    return PossibleDemonstration(chat)


def asked(chats: tuple[tuple[dict[str, Any], ...], ...]) -> list[str]:
    return [chat[0]["content"] for chat in chats]


@pytest.mark.parametrize("selection", ["random", "diverse", "nearest"])
def test_the_order_of_candidates_does_not_matter(selection: Selection) -> None:
    pool = [candidate(text) for text in QUESTIONS]
    chosen = choose_demonstrations(pool, 2, selection=selection)
    assert chosen == choose_demonstrations([*reversed(pool), *pool], 2, selection=selection)


def test_the_seed_draws() -> None:
    pool = [candidate(f"question {number}") for number in range(30)]
    drawn = {tuple(asked(choose_demonstrations(pool, 3, seed=seed, selection="random")))
             for seed in range(5)}  # fmt: skip
    assert len(drawn) == 5


def test_diverse_examples_are_typical_first_and_then_unlike() -> None:
    texts = ["parcel late", "parcel late now", "parcel so late", "money back"]
    first, second = diverse(texts, 2)
    assert first in (0, 1, 2)
    assert second == 3
    assert diverse(texts, 9)[:2] == [first, second]
    assert len(diverse(texts, 9)) == 4


def test_a_prompt_shows_the_nearest_with_the_likest_last() -> None:
    pool = choose_demonstrations([candidate(text) for text in QUESTIONS], 2, selection="nearest")
    prompt = Prompt(system="Answer.", demonstrations=pool, nearest=2)
    chat = ({"role": "user", "content": "my parcel is so late"},)
    assert asked(prompt.shown(chat)) == ["where is my parcel", "my parcel is late"]
    assert [message["role"] for message in prompt.apply(chat)] == [
        "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert prompt.num_shown == 2


def test_what_asks_the_very_question_is_not_shown() -> None:
    pool = choose_demonstrations([candidate(text) for text in QUESTIONS], 1, selection="nearest")
    prompt = Prompt(demonstrations=pool, nearest=1)
    assert asked(prompt.shown([{"role": "user", "content": "my parcel is late"}])) == [
        "where is my parcel"
    ]


def test_room_is_kept_in_every_selection() -> None:
    pool = [candidate("word " * number) for number in range(1, 20)]
    for selection in ("random", "diverse"):
        chosen = choose_demonstrations(pool, 9, max_characters=200, selection=selection)
        assert 0 < sum(len(m["content"]) for chat in chosen for m in chat) <= 200


def test_prompts_that_show_all_keep_the_hash_that_they_had() -> None:
    plain = Prompt(system="Answer.")
    assert plain.model_dump(mode="json") == {"system": "Answer.", "demonstrations": []}
    assert plain.hash != plain.model_copy(update={"nearest": 2}).hash
    assert Prompt.model_validate(plain.model_dump()).nearest == 0
