"""Columns that judge answers, as people name them."""

import pytest

from kamerton.advisor.columns import columns_in
from kamerton.advisor.judged import judged_columns, stars_in

GOOD, BAD = "The lamp comes on Tuesday, order {n}", "Look it up yourself, {n}"


def rows(question: str, answer: str, verdict: str, values: tuple[object, ...]) -> list[dict]:
    return [
        {
            question: f"Where is my lamp {n}, please",
            answer: (GOOD if n % 2 == 0 else BAD).format(n=n),
            verdict: values[n % len(values)],
        }
        for n in range(40)
    ]


def judged(table: list[dict], question: str = "") -> dict[str, str]:
    return judged_columns(table, columns_in(table), question)


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("вопрос", "ответ", "оценка"), ("👍", "👎")),
        (("вопрос", "ответ", "Понравилось"), ("да", "нет")),
        (("question", "answer", "rating"), ("1", "0")),
        (("question", "answer", "was_it"), ("like", "dislike")),
        (("question", "answer", "helpful"), (True, False)),
    ],
)
def test_verdicts_are_found(names: tuple[str, str, str], values: tuple[object, ...]) -> None:
    question, answer, verdict = names
    assert judged(rows(*names, values)) == {
        "prompt": question, "completion": answer, "label": verdict
    }  # fmt: skip


def test_a_yes_or_no_with_another_name_is_no_verdict() -> None:
    assert judged(rows("question", "answer", "urgent", ("yes", "no"))) == {}
    assert judged(rows("question", "answer", "rating", ("1", "1"))) == {}


def test_dialogues_have_verdicts_too() -> None:
    turns = [{"role": "user", "content": "hi"}]
    table = [{"messages": turns, "оценка": "👍👎"[n % 2]} for n in range(40)]
    assert judged(table) == {"messages": "messages", "label": "оценка"}


@pytest.mark.parametrize(
    ("better", "worse"), [("лучший ответ", "худший ответ"), ("good_answer", "bad_answer")]
)
def test_pairs_are_found_by_their_names(better: str, worse: str) -> None:
    table = [
        {"вопрос": f"Where is my lamp {n}, please", better: GOOD.format(n=n), worse: "No idea."}
        for n in range(40)
    ]
    assert judged(table) == {"prompt": "вопрос", "chosen": better, "rejected": worse}


def test_stars_are_no_verdict_and_are_told() -> None:
    table = rows("question", "answer", "оценка", ("5", "4", "1", "2"))
    assert judged(table) == {}
    assert stars_in(table, columns_in(table)) == "оценка"
    assert stars_in(table[:0], []) == ""
    table = rows("question", "answer", "rating", ("1", "0"))
    assert stars_in(table, columns_in(table)) == ""
