"""Rendering of arbitrary chats: answers are trained exactly, prompts never, ids agree."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.data.examples import ChatExample, SourceLocation
from kamerton.data.rendering.renderer import Renderer, RenderSettings, make_renderer
from tests.unit.data.rendering.cases import CASES, tokenizer_of

LOCATION = SourceLocation("data.jsonl", 1)
# Templates may trim, so texts have no white space at their ends; what else is in them is free.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Co"]), min_size=1, max_size=20),
    st.sampled_from(
        ["</s>", "<|im_end|>", "a<|eot_id|>b", "{{ x }}", "[/INST]", "### User:", "да 🙂", "a\n\nb"]
    ),
).filter(lambda text: text == text.strip() and text != "")


@st.composite
def chats(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw a chat of one to three rounds, with or without system text."""
    system = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    rounds = draw(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
    return system + [
        {"role": role, "content": text}
        for pair in rounds
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


@cache
def renderer_of(name: str) -> Renderer:
    return make_renderer(tokenizer_of(CASES[name]), RenderSettings(max_tokens=10_000))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25, deadline=None)
@given(chat=chats())
def test_answers_and_ends_are_trained_and_nothing_else(
    name: str, chat: list[dict[str, Any]]
) -> None:
    renderer = renderer_of(name)
    rows = renderer.render_rows(ChatExample(LOCATION, tuple(chat)))
    trained = [s.text for row in reversed(rows) for s in renderer.show(row) if s.trained]
    answers = [m["content"] for m in chat if m["role"] == "assistant"]
    assert trained == [CASES[name].answer.format(answer) for answer in answers]
    for row in rows:
        num_bos, num_ends = renderer.count(row)
        assert num_bos == int(renderer.facts.bos_id is not None)
        assert num_ends == sum(span.trained for span in renderer.show(row))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15, deadline=None)
@given(chat=chats())
def test_generation_starts_from_the_ids_that_training_saw(
    name: str, chat: list[dict[str, Any]]
) -> None:
    renderer = renderer_of(name)
    row = renderer.render_chat(chat)
    prompt, answer = renderer.answer_ids(chat[:-1], chat[-1]["content"])
    assert prompt + answer == row.ids.tolist()
    assert not row.loss_mask[0]
    assert row.loss_mask[len(prompt) :].all()
    assert answer[-1] in renderer.stop_ids
    if not renderer.facts.deletes_history:
        for until in [i for i, m in enumerate(chat) if m["role"] == "assistant"]:
            earlier = renderer.prompt_ids(chat[:until])
            assert row.ids[: len(earlier)].tolist() == earlier
