"""Choosing demonstrations: diverse, short, the same every time."""

from collections import Counter

import pytest

from kamerton.prompting.demonstrations import PossibleDemonstration, choose_demonstrations


def candidate(text: str, label: str | None = None) -> PossibleDemonstration:
    answer = label or "Yes."
    return PossibleDemonstration(
        ({"role": "user", "content": text}, {"role": "assistant", "content": answer}), label
    )


LABELLED = [
    candidate(f"text {number} {'long ' * number}", label)
    for label in ("card_lost", "card_stolen", "top_up", "transfer")
    for number in range(10)
]


def labels(chosen: tuple[tuple[dict[str, str], ...], ...]) -> Counter[str]:
    return Counter(chat[-1]["content"] for chat in chosen)


def test_every_label_comes_equally_often() -> None:
    assert set(labels(choose_demonstrations(LABELLED, 8)).values()) == {2}
    assert sorted(labels(choose_demonstrations(LABELLED, 6)).values()) == [1, 1, 2, 2]


@pytest.mark.parametrize("seed", range(5))
def test_few_demonstrations_show_unlike_labels(seed: int) -> None:
    chosen = labels(choose_demonstrations(LABELLED, 3, seed=seed))
    assert len(chosen) == 3
    assert not {"card_lost", "card_stolen"} <= set(chosen)


def test_order_and_duplicates_do_not_matter_but_the_seed_does() -> None:
    chosen = choose_demonstrations(LABELLED, 4)
    assert chosen == choose_demonstrations([*reversed(LABELLED), *LABELLED], 4)
    assert len({choose_demonstrations(LABELLED, 4, seed=s)[0][0]["content"] for s in range(5)}) > 1


def test_the_shorter_half_is_preferred() -> None:
    chosen = choose_demonstrations(LABELLED, 20)
    longest = max(len(chat[0]["content"]) for chat in chosen)
    assert longest <= len("text 4 " + "long " * 4)


def test_all_are_used_when_there_are_too_few() -> None:
    assert len(choose_demonstrations(LABELLED, 99)) == len(LABELLED)
    assert choose_demonstrations(LABELLED, 0) == ()
    assert choose_demonstrations([], 4) == ()


def test_alphabets_take_turns() -> None:
    mixed = [candidate(f"word {n}") for n in range(20)] + [
        candidate(f"слово {n}") for n in range(4)
    ]
    chosen = choose_demonstrations(mixed, 4)
    assert sum(chat[0]["content"].startswith("слово") for chat in chosen) == 2


def test_they_fit_the_room_given() -> None:
    chosen = choose_demonstrations(LABELLED, 8, max_characters=100)
    total = sum(len(message["content"]) for chat in chosen for message in chat)
    assert 0 < total <= 100


def test_system_text_is_not_shown_and_unfinished_chats_are_passed_over() -> None:
    system = {"role": "system", "content": "Be kind."}
    whole = PossibleDemonstration((system, *candidate("Hi").messages))
    unfinished = PossibleDemonstration(({"role": "user", "content": "Hi"},))
    assert choose_demonstrations([whole, unfinished], 4) == (tuple(candidate("Hi").messages),)
