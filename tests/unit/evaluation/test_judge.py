"""A judge's verdicts: both orders, ties, replies without a verdict, agreement with people."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kamerton.core.protocols import Chat
from kamerton.evaluation.judge import (
    JUDGE_INSTRUCTION,
    Agreement,
    Judged,
    Pair,
    agreement_with,
    judge_chat,
    judge_pairs,
    read_mark,
)
from kamerton.evaluation.preferred import measure_preference, preference_text
from kamerton.evaluation.settings import EvaluationSettings

ASKED = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Open?"})


def pair(answer: str, other: str) -> Pair:
    return Pair(ASKED, answer, other)


def prefers_good(chats: Sequence[Chat]) -> list[str | None]:
    """Find the word "good" in one of the answers, wherever it stands."""
    replies: list[str | None] = []
    for chat in chats:
        _, _, answers = str(chat[1]["content"]).partition("[answer 1]")
        first, _, second = answers.partition("[answer 2]")
        mark = "=" if ("good" in first) == ("good" in second) else "1" if "good" in first else "2"
        replies.append(f"Because.\n[[{mark}]]")
    return replies


def test_the_judge_sees_the_question_and_both_answers_in_either_order() -> None:
    straight = judge_chat(pair("yes", "no"), swapped=False)
    turned = judge_chat(pair("yes", "no"), swapped=True)
    assert straight[0]["content"] == JUDGE_INSTRUCTION
    assert straight[1]["content"] == (
        "[system]\nBe kind.\n\n[user]\nOpen?\n\n[answer 1]\nyes\n\n[answer 2]\nno"
    )
    assert str(turned[1]["content"]).endswith("[answer 1]\nno\n\n[answer 2]\nyes")


@pytest.mark.parametrize(
    ("reply", "mark"),
    [
        ("It is kinder.\n[[1]]", "1"),
        ("[[1]] at first, but no: [[ 2 ]]", "2"),
        ("<think>[[1]]</think>\nequal\n[[=]]", "="),
        (" 2\n", "2"),
        ("Answer 1 is better.", None),
        ("", None),
        ("[[3]]", None),
    ],
)
def test_the_last_mark_is_the_verdict(reply: str, mark: str | None) -> None:
    assert read_mark(reply) == mark


def test_who_wins_in_both_orders_has_won() -> None:
    pairs = [pair("good", "bad"), pair("bad", "good"), pair("good", "good too")]
    assert judge_pairs(pairs, prefers_good) == Judged((1.0, 0.0, 0.5), 3, 0)


@pytest.mark.parametrize("place", ["1", "2"])
def test_a_judge_that_looks_at_the_place_only_finds_ties(place: str) -> None:
    def ask(chats: Sequence[Chat]) -> list[str]:
        return [f"[[{place}]]"] * len(chats)

    judged = judge_pairs([pair("good", "bad"), pair("bad", "good")], ask)
    assert judged == Judged((0.5, 0.5), 2, 2)


def test_a_tie_in_one_order_only_is_a_tie_that_is_counted_as_inconsistent() -> None:
    judged = judge_pairs([pair("a", "b")], lambda chats: ["[[1]]", "[[=]]"])
    assert judged == Judged((0.5,), 1, 1)


def test_equal_answers_are_ties_that_nobody_is_asked_about() -> None:
    def ask(chats: Sequence[Chat]) -> list[str]:
        raise AssertionError("nothing to ask")

    assert judge_pairs([pair("Yes", " yes\n")], ask) == Judged((0.5,), 0, 0)


def test_a_reply_without_a_verdict_leaves_its_pair_out() -> None:
    replies = iter([["[[1]]", "no idea", None, "[[2]]", "[[1]]", "[[2]]"]])
    judged = judge_pairs([pair("a", "b"), pair("c", "d"), pair("e", "f")], lambda _: next(replies))
    assert judged == Judged((None, None, 1.0), 3, 0)


def test_agreement_counts_equal_verdicts() -> None:
    judged, people = [1.0, 0.0, 0.5, None, 1.0], [1.0, 1.0, 0.5, 0.0, 1.0]
    found = agreement_with("judge", judged, people)
    assert found is not None
    assert (found.judge, found.share, found.num) == ("judge", 0.75, 4)
    # Within pairs 2 of 8 ordered comparisons differ; of all 8 values (5 ones, 2 halves, 1 zero)
    # 34 of 56 do: 1 - 7 * 2 / 34.
    assert found.alpha == pytest.approx(1 - 7 * 2 / 34)
    assert agreement_with("judge", [None], [1.0]) is None


def test_the_words_say_how_far_the_judge_can_be_trusted() -> None:
    values = [1.0] * 12 + [0.5] * 8
    groups = [str(number) for number in range(20)]
    settings = EvaluationSettings(resamples=200)
    found = measure_preference("judge tall", "b", "a", values, groups, settings)
    found = replace(found, num_asked=20, num_inconsistent=8, num_unread=2)
    said = preference_text(found)
    assert said.startswith("judge tall: b was preferred to a in 80.0 %")
    assert "In 40 % of the pairs that it was asked, another order" in said
    assert "It gave no verdict on 2 pairs of answers" in said
    voted = replace(found, by="votes", num_asked=None, agreement=Agreement("tall", 0.7, 0.41, 20))
    assert "The judge tall agrees on 70 % of 20 pairs of answers (alpha 0.41" in preference_text(
        voted
    )
    turned = preference_text(replace(found, num_inconsistent=11))
    assert turned.endswith(
        "It judges by the order more than by the answers: decide by something else."
    )
