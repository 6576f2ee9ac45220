"""What a teacher is asked, and how its answers become labels."""

import pytest

from kamerton.labelling.given_answers import Tokens
from kamerton.labelling.questions import most_tokens, read_body, request_body, verdict_of
from kamerton.labelling.settings import TeacherSettings
from kamerton.labelling.teacher import Verdict

LABELS = ("Refund", "Где заказ", "other")


def judged(*texts: str) -> Verdict:
    answers = [{"text": text, "logprob": 0.0} for text in texts]
    return verdict_of(answers, LABELS, lambda text: text.startswith("I cannot"))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Refund", "Refund"),
        (" refund.\n", "Refund"),
        ('"ГДЕ ЗАКАЗ"', "Где заказ"),
        ("Label: **other**", "other"),
        ("<think>Refund or other?</think>\n\nother", "other"),
        ("refund or other", ""),
        ("The label is refund", ""),
        ("", ""),
    ],
)
def test_only_a_label_is_a_label(text: str, label: str) -> None:
    found = judged(text)
    assert found.label == label
    assert found.fault == ("" if label else "format")


def test_samples_vote_and_those_without_a_label_vote_for_none() -> None:
    assert judged("other", "Refund", "refund", "what?") == Verdict("Refund", 0.5)
    assert judged("I cannot say", "hm", "hm").fault == "refusal"
    assert verdict_of([{"refusal": "No."}], LABELS, lambda text: False) == Verdict(
        fault="refusal", said="No."
    )


def test_the_body_can_be_changed_and_the_bound_follows_it() -> None:
    how = TeacherSettings(max_tokens=9, body={"max_completion_tokens": 700, "seed": "", "n": 2})
    body = request_body("Где?", LABELS, how, "m", sample=3)
    assert "seed" not in body
    assert most_tokens(body, how, 0).completion == 1400
    assert body["messages"][-1]["content"] == "Text:\nГде?\n\nLabel:"
    assert "structured_outputs" not in body
    only = request_body("Где?", LABELS, TeacherSettings(only_labels=True), "m", sample=0)
    assert only["structured_outputs"] == {"choice": list(LABELS)}
    plain = TeacherSettings(instruction="", samples=5)
    body = request_body("Где?", LABELS, plain, "m", sample=3)
    assert body["messages"] == [{"role": "user", "content": "Где?"}]
    assert (body["seed"], body["temperature"], "logprobs" in body) == (3, 0.7, False)
    # Three Cyrillic letters are two bytes each.
    assert most_tokens(body, plain, 100) == Tokens(7 + 8 + 64 + 100, 32)


@pytest.mark.parametrize(
    ("body", "answer", "used"),
    [
        (
            {"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 1}},
            {"text": "a", "logprob": None},
            None,
        ),
        (
            {
                "choices": [{"message": {"content": None, "refusal": "No."}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2},
            },
            {"refusal": "No."},
            Tokens(1, 2),
        ),
        ({"choices": []}, {"malformed": "{'choices': []}"}, None),
        ("<html>", {"malformed": "<html>"}, None),
        ([1], {"malformed": "[1]"}, None),
        (None, {"malformed": "None"}, None),
    ],
)
def test_bodies_are_read_or_malformed(body: object, answer: object, used: Tokens | None) -> None:
    assert read_body(body) == (answer, used)
