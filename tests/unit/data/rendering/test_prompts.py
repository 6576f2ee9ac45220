"""Prompts that the model answers itself: what it is asked, and what of its answers is learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kamerton.core.errors import RenderingError
from kamerton.data.examples import (
    ClassificationExample,
    FeedbackExample,
    PreferenceExample,
    TextExample,
)
from kamerton.data.rendering.tokenized import num_tokens
from kamerton.models.rows.row import make_row, num_labelled
from kamerton.prompting.prompt import Prompt
from tests.unit.data.rendering.cases import CASES
from tests.unit.data.rendering.chats import CHAT, LOCATION, chat, message, renderer_of

LAST = "Тоже 🙂"
WORSE = "No."
PAIR = PreferenceExample(
    LOCATION, CHAT[:-1], (message("assistant", LAST),), (message("assistant", WORSE),),
    extra={"stars": 5},
)  # fmt: skip
PROMPT = Prompt(
    system="You sell lamps.",
    demonstrations=((message("user", "Is it red?"), message("assistant", "Yes, it is.")),),
)


@pytest.mark.parametrize("name", CASES)
def test_the_model_is_asked_what_the_engine_would_ask(name: str) -> None:
    renderer = renderer_of(name)
    made = renderer.render_prompt(chat(CHAT, extra={"stars": 5}))
    assert made.ids.tolist() == renderer.prompt_ids(CHAT[:-1])
    assert made.ids.dtype == np.int32
    assert made.num_prompt == len(made.ids)
    assert (made.messages, made.reference) == (CHAT[:-1], LAST)
    assert (made.extra, made.location, made.is_desirable) == ({"stars": 5}, LOCATION, None)
    assert made.answers == made.given == made.texts == ()


@pytest.mark.parametrize("name", CASES)
def test_what_is_learned_of_an_answer_is_what_would_be_learned_of_the_row(name: str) -> None:
    renderer = renderer_of(name, train_on="last")
    row = renderer.render(chat(CHAT))
    _, answer = renderer.answer_ids(CHAT[:-1], LAST)
    (made,) = renderer.render_prompt(chat(CHAT)).answered([answer]).answers
    assert made.ids.tolist() == row.ids.tolist()
    assert made.loss_mask.tolist() == row.loss_mask.tolist()
    assert made.ids.dtype == row.ids.dtype
    assert made.ids[-1] in renderer.stop_ids
    assert made.loss_mask[-1]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("text", ["", " \n", "a</think>b</think>c", "<|im_end|></s>"])
def test_whatever_a_model_writes_can_be_judged(name: str, text: str) -> None:
    renderer = renderer_of(name)
    prompt, (usual, odd) = renderer.answers_ids(CHAT[:-1], [LAST, text], as_written=True)
    assert (prompt, usual) == renderer.answer_ids(CHAT[:-1], LAST)
    assert odd[-1] in renderer.stop_ids
    # Control tokens are never made of text.
    assert not renderer.stop_ids & set(odd[:-1])
    if not text.strip():
        assert len(odd) <= len(usual)
        with pytest.raises(RenderingError, match="must not be empty"):
            renderer.answer_ids(CHAT[:-1], text)


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "mistral"])
def test_the_prompt_of_the_recipe_stands_before_but_judges_do_not_see_it(name: str) -> None:
    renderer = renderer_of(name)
    made = renderer.render_prompt(chat(CHAT), PROMPT.apply)
    assert made.ids.tolist() == renderer.prompt_ids(PROMPT.apply(CHAT[:-1]))
    assert made.messages == CHAT[:-1]
    pair = renderer.render_prompt(PAIR, PROMPT.apply)
    assert pair.ids.tolist() == made.ids.tolist()
    assert pair.messages == CHAT[:-1]


def test_answers_share_one_prompt_and_only_they_are_learned() -> None:
    renderer = renderer_of("chatml")
    prompt = renderer.render_prompt(chat(CHAT))
    answers = [renderer.answer_ids(CHAT[:-1], text)[1] for text in ("A", "Yes, at six.", LAST)]
    answers.append([17])  # cut before its end
    group = prompt.answered(answers)
    assert group.num_prompt == prompt.num_prompt
    assert group.location == LOCATION
    row = make_row([group], torch.device("cpu"))
    flat = [token for answer in answers for token in answer]
    assert row.ids.tolist() == prompt.ids.tolist() + flat
    assert row.targets.tolist() == flat
    assert row.answers.tolist() == [n for n, answer in enumerate(answers) for _ in answer]
    assert num_labelled([group]) == len(flat)
    assert num_tokens(group) == prompt.num_prompt + len(flat)
    # All first tokens are predicted where the prompt ends.
    firsts = [row.at[row.answers == n][0].item() for n in range(len(answers))]
    assert firsts == [prompt.num_prompt - 1] * len(answers)


def test_a_pair_comes_along_before_own_answers() -> None:
    renderer = renderer_of("chatml")
    made = renderer.render_prompt(PAIR)
    pair = renderer.render_pair(PAIR)
    assert made.ids.tolist() == pair.prompt_ids.tolist() == renderer.prompt_ids(CHAT[:-1])
    assert [row.ids.tolist() for row in made.given] == [r.ids.tolist() for r in pair.answers]
    assert (made.texts, made.reference) == ((LAST, WORSE), LAST)
    assert made.extra == {"stars": 5}
    assert made.answers == made.given
    group = made.answered([[17, 18], [19]])
    assert group.answers[:2] == made.given
    ends = [row.ids[group.num_prompt :].tolist() for row in group.answers]
    assert ends == [pair.chosen_ids.tolist(), pair.rejected_ids.tolist(), [17, 18], [19]]
    for row in group.answers:
        assert row.loss_mask.tolist() == [n >= made.num_prompt for n in range(len(row.ids))]


def test_other_kinds_of_examples_ask_too() -> None:
    renderer = renderer_of("chatml")
    asked = (message("user", "Where is it?"),)
    classified = renderer.render_prompt(ClassificationExample(LOCATION, "Where is it?", "delivery"))
    assert classified.ids.tolist() == renderer.prompt_ids(asked)
    assert (classified.messages, classified.reference) == (asked, "delivery")
    judged = FeedbackExample(
        LOCATION, asked, (message("assistant", "Here."),), False, extra={"a": 1}
    )
    found = renderer.render_prompt(judged)
    assert found.ids.tolist() == classified.ids.tolist()
    assert (found.reference, found.given, found.extra) == ("Here.", (), {"a": 1})
    longer = renderer.render_prompt(chat([*CHAT, message("user", "Thank you.")]))
    assert longer.messages == CHAT[:-1]


def test_a_prompt_must_leave_room_for_an_answer() -> None:
    length = len(renderer_of("chatml").prompt_ids(CHAT[:-1]))
    fitting = renderer_of("chatml", max_tokens=length + 1).render_prompt(chat(CHAT))
    assert len(fitting.ids) == length
    said = rf"data.jsonl:7: a row must have at most {length} tokens .*, found {length + 1}"
    with pytest.raises(RenderingError, match=said):
        renderer_of("chatml", max_tokens=length).render_prompt(chat(CHAT))
    with pytest.raises(RenderingError, match=rf"at most {length + 1} tokens"):
        renderer_of("chatml", max_tokens=length + 1).render_prompt(PAIR)


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (TextExample(LOCATION, "Some text."), "plain text is no chat"),
        (chat(CHAT, tools=({"type": "function"},)), "a chat with tools cannot be answered"),
        (chat([message("assistant", "Hi.")]), "a question before its answer"),
        (chat([message("user", "Hi.")]), "a question before its answer"),
        (replace(PAIR, rejected=PAIR.chosen), "must differ"),
        (
            replace(PAIR, chosen=(*PAIR.chosen, message("user", "So?"), *PAIR.rejected)),
            "must be one text each to be judged",
        ),
    ],
    ids=["text", "tools", "no question", "no answer", "the same", "several turns"],
)
def test_what_cannot_be_asked_is_named_with_its_place(example: object, said: str) -> None:
    with pytest.raises(RenderingError, match=said) as raised:
        renderer_of("chatml").render_prompt(example)
    assert raised.value.message.startswith("data.jsonl:7: ")
