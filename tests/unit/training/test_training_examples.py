"""Which examples an objective over own answers takes, and what becomes of those that do not fit."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kamerton.core.errors import DataError, RenderingError
from kamerton.core.events import Event, Notice
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    FeedbackExample,
    PreferenceExample,
    SourceLocation,
    TextExample,
)
from kamerton.data.rendering.tokenized import TokenizedFeedback, TokenizedPrompt
from kamerton.flows.prepare import render_all
from kamerton.objectives.objective import Takes
from kamerton.prompting.prompt import Prompt
from kamerton.training.training_examples import makers_of
from tests.unit.data.rendering.chats import message, renderer_of

ASKED = (message("user", "Is it open?"),)
YES, NO = (message("assistant", "Yes."),), (message("assistant", "No."),)


def at(line: int) -> SourceLocation:
    return SourceLocation("data.jsonl", line)


CHAT = ChatExample(at(1), (*ASKED, *YES))
CLASS = ClassificationExample(at(2), "Is it open?", "hours")
PAIR = PreferenceExample(at(3), ASKED, YES, NO, extra={"stars": 5})
FEEDBACK = FeedbackExample(at(4), ASKED, NO, False)
TEXT = TextExample(at(5), "It is open.")


def rendered(
    takes: Takes, examples: Sequence[Example], max_tokens: int = 1024, max_unusable: float = 1.0
) -> tuple[list[TokenizedPrompt], list[str]]:
    events: list[Event] = []
    found = render_all(
        renderer_of("chatml", max_tokens=max_tokens), Prompt(system="Be kind."), examples,
        events.append, "training examples", max_unusable, takes=takes, kind="grpo",
    )  # fmt: skip
    assert all(isinstance(one, TokenizedPrompt) for one in found)
    return found, [event.message for event in events if isinstance(event, Notice)]


def test_prompts_are_made_of_all_that_asks() -> None:
    examples = [CHAT, CLASS, PAIR, FEEDBACK]
    found, said = rendered("prompts", examples)
    assert [one.location for one in found] == [example.location for example in examples]
    assert [one.reference for one in found] == ["Yes.", "hours", "Yes.", "No."]
    expected = renderer_of("chatml").prompt_ids((message("system", "Be kind."), *ASKED))
    assert [one.ids.tolist() for one in found] == [expected] * 4
    # The answers of a pair are forgotten, its other columns are not.
    assert not any(one.given or one.texts for one in found)
    assert found[2].extra == {"stars": 5}
    assert not said


def test_examples_may_be_rendered_later() -> None:
    makers = list(makers_of(renderer_of("chatml"), Prompt(), [CLASS, CHAT], "prompts", "grpo"))
    assert [make()[0].location for make in makers] == [at(2), at(1)]


def test_a_question_with_several_pairs_is_asked_once() -> None:
    ranked = [replace(PAIR, rejected=(message("assistant", text),)) for text in ("No.", "Hm.")]
    found, _ = rendered("prompts", [*ranked, replace(PAIR, extra={"stars": 4}), CHAT, CHAT])
    assert [one.extra.get("stars") for one in found] == [5, 4, None, None]
    assert len(rendered("prompts-with-pairs", ranked)[0]) == 2


@pytest.mark.parametrize("count", [2, 3, 4, 9])
@pytest.mark.parametrize("grouped", [False, True])
def test_feedback_is_compared_with_all_answers_to_other_prompts(count: int, grouped: bool) -> None:
    """Each is taken once, liked or not; so none stands there twice."""
    renderer = renderer_of("chatml")
    examples: list[Example] = [
        FeedbackExample(
            at(n), (message("user", f"Is {n // 2} open?"),),
            (message("assistant", f"{n} is {'open' if n % 2 else 'shut'}."),), bool(n % 2),
        )
        for n in range(2 * count)
    ]  # fmt: skip
    if grouped:
        examples = [*examples[0::2], *examples[1::2]]
    makers = list(makers_of(renderer, Prompt(), examples, "feedback", "kto"))
    rows = [row for make in makers for row in make()]
    assert all(isinstance(row, TokenizedFeedback) for row in rows)
    texts = [renderer.show(row.answers[1])[-1].text for row in rows]
    assert len({text.split()[0] for text in texts}) == len(examples)


def test_a_long_answer_to_another_prompt_is_cut() -> None:
    long = FeedbackExample(
        at(6), (message("user", "Why?"),), (message("assistant", "So it is. " * 99),), True
    )
    renderer = renderer_of("chatml", max_tokens=60)
    first, second = makers_of(renderer, Prompt(), [FEEDBACK, long], "feedback", "kto")
    (row,) = first()
    assert [len(answer.ids) for answer in row.answers] == [len(row.answers[0].ids), 60]
    assert row.answers[1].loss_mask.sum() == 60 - row.num_prompt
    with pytest.raises(RenderingError, match=r"data.jsonl:6: a row must have at most 60"):
        second()


def test_one_prompt_has_nothing_to_compare_with() -> None:
    renderer, none = renderer_of("chatml"), Prompt()
    with pytest.raises(DataError, match="one prompt among the 1 held-out examples"):
        list(makers_of(renderer, none, [PAIR], "feedback", "kto", what="held-out examples"))
    with pytest.raises(DataError, match="one prompt among the 2 examples"):
        list(makers_of(renderer, none, [PAIR, PAIR], "feedback", "kto", learned=[PAIR]))


def test_a_holdout_of_one_prompt_is_compared_with_answers_that_were_learned() -> None:
    other = FeedbackExample(at(7), (message("user", "Why?"),), (message("assistant", "So."),), True)
    renderer = renderer_of("chatml")
    makers = list(makers_of(renderer, Prompt(), [PAIR], "feedback", "kto", learned=[PAIR, other]))
    rows = [row for make in makers for row in make()]
    assert [renderer.show(row.answers[1])[-1].text for row in rows] == ["So.<|im_end|>"] * 2


def test_pairs_come_along_where_they_are_learned_from() -> None:
    (found,), _ = rendered("prompts-with-pairs", [PAIR])
    assert found.texts == ("Yes.", "No.")
    assert len(found.given) == 2


@pytest.mark.parametrize(
    ("takes", "example", "wanted"),
    [
        ("prompts", TEXT, "questions"),
        *(
            ("prompts-with-pairs", example, "prompts with a better and a worse answer")
            for example in (TEXT, CHAT, CLASS, FEEDBACK)
        ),
    ],
)
def test_other_kinds_are_refused(takes: Takes, example: Example, wanted: str) -> None:
    with pytest.raises(DataError) as raised:
        rendered(takes, [PAIR, example])
    assert raised.value.message == (
        f"{example.location}: objective.kind = 'grpo' learns from {wanted}, found another "
        "kind of row"
    )
    assert raised.value.hint is not None
    assert ("or chats" in raised.value.hint) == (takes == "prompts")


def test_prompts_that_are_too_long_are_left_out_and_named() -> None:
    long = ChatExample(at(9), (message("user", "Is it open? " * 30), *YES))
    found, said = rendered("prompts", [CHAT, long, CLASS], max_tokens=60)
    assert [one.location for one in found] == [at(1), at(2)]
    (notice,) = said
    assert notice.startswith("1 of 3 training examples cannot be used: data.jsonl:9: a row must ")
    with pytest.raises(DataError, match=r"data.max_unusable is 10.0%"):
        rendered("prompts", [CHAT, long, CLASS], max_tokens=60, max_unusable=0.1)
    with pytest.raises(DataError, match="1 of 1 training examples cannot be used"):
        rendered("prompts", [long], max_tokens=60)
