import pytest

from kamerton.data.audit import duplicates
from kamerton.data.audit.duplicates import find_contradictions, find_duplicates, find_leakage
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    FeedbackExample,
    PreferenceExample,
    SourceLocation,
)

LOCATION = SourceLocation("a", 1)
LONG = " ".join(f"word{i}" for i in range(200))


def labelled(*rows: tuple[str, str]) -> list[ClassificationExample]:
    return [ClassificationExample(LOCATION, text, label) for text, label in rows]


def chat(question: str, answer: str) -> ChatExample:
    return ChatExample(
        LOCATION,
        ({"role": "user", "content": question}, {"role": "assistant", "content": answer}),
    )


def test_exact_means_up_to_case_width_and_space():
    examples = labelled(
        ("Где карта?", "x"), (" где  КАРТА? ", "x"), ("Где карта?", "y"), ("я", "x")
    )
    found = find_duplicates(examples)
    assert found.exact == ((0, 1),)
    assert (found.num_exact, found.num_near) == (1, 0)


@pytest.mark.parametrize(
    ("first", "second", "near"),
    [
        (
            "Where is the card that I ordered last week?",
            "where is the card that i ordered last week",
            True,
        ),
        (
            "Where is the card that I ordered last week?",
            "Where is the parcel that I sent today?",
            False,
        ),
        ("Is this card mine?", "Is this card ours?", False),
        (LONG, LONG.replace("word100", "other"), True),
        (LONG, LONG.replace("word1", "other"), False),
        ("a", "b", False),
    ],
)
def test_near_means_most_pieces_are_shared(first, second, near):
    found = find_duplicates(labelled((first, "x"), (second, "x")))
    assert found.near == (((0, 1),) if near else ())
    leakage = find_leakage(labelled((first, "x")), labelled((second, "y")))
    assert leakage.near == (((0, 0),) if near else ())


def test_many_forms_of_one_letter_are_one_cluster():
    text = (
        "Dear customer, your order number {} has left our warehouse and will arrive tomorrow "
        "between nine and eleven. Please keep somebody at home who can sign for the parcel."
    )
    found = find_duplicates(labelled(*((text.format(1000 + i), "x") for i in range(300))))
    assert [len(cluster) for cluster in found.near] == [300]


def test_huge_files_are_sampled_with_a_notice(monkeypatch):
    monkeypatch.setattr(duplicates, "NEAR_LIMIT", 10)
    found = find_duplicates(labelled(*((f"entirely different {i**9}", "x") for i in range(20))))
    assert found.notice.startswith("near duplicates were sought among 10 of 20 examples")


def test_leakage_is_of_questions():
    train = [chat("Where is my card?", "On its way."), chat("Hello, who are you?", "A bot.")]
    holdout = [chat("where is my card?", "Lost."), chat("May I return these shoes?", "Yes.")]
    found = find_leakage(train, holdout)
    assert (found.exact, found.near) == (((0, 0),), ())


def test_contradictions_by_kind():
    assert find_contradictions(labelled(("a", "x"), ("A ", "y"), ("b", "x"), ("b", "x"))) == (
        (0, 1),
    )
    assert find_contradictions([chat("q", "a"), chat("q", "b"), chat("r", "a")]) == ((0, 1),)
    q, a, b = (
        ({"role": "user", "content": "q"},),
        *(({"role": "assistant", "content": text},) for text in "ab"),
    )
    pairs = [PreferenceExample(LOCATION, q, a, b), PreferenceExample(LOCATION, q, b, a)]
    assert find_contradictions(pairs) == ((0, 1),)
    assert find_contradictions([pairs[0], pairs[0]]) == ()
    thumbs = [
        FeedbackExample(LOCATION, q, answer, good) for answer, good in ((a, True), (b, False))
    ]
    assert find_contradictions(thumbs) == ()
    assert find_contradictions([*thumbs, FeedbackExample(LOCATION, q, a, False)]) == ((0, 2),)
