"""What is written is what was rendered: the trained ids of an answer read back as its message."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kamerton.core.errors import RenderingError
from kamerton.data.rendering.answers import Written, split_reasoning
from kamerton.data.rendering.renderer import (
    Renderer,
    RenderSettings,
    TokenizedExample,
    make_renderer,
)
from kamerton.inference.detokenise import TextStream
from tests.unit.data.rendering.cases import CASES, metaspace_tokenizer
from tests.unit.data.rendering.chats import CHAT, chat, message, renderer_of

ASK = message("user", "Is it open?")
CALL = {"id": "callidone", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
TEXTS = (
    "Yes, until six.",
    "Тоже 🙂",
    '{"open": true, "until": "18:00"}',
    "1. One\n\n2. Two\n   - three",
    "It says <|channel|>final<|message|> and [THINK] and <|im_end|></s>.",
    "x < 3 and <thin ice",
)


def trained_ids(row: TokenizedExample) -> list[int]:
    return [int(token) for token, on in zip(row.ids, row.loss_mask, strict=True) if on]


def read(renderer: Renderer, ids: Sequence[int], stop: tuple[str, ...] = ()) -> Written:
    """Read ids as the engine does: up to the token that ends the answer, or cut before it."""
    stream = TextStream(renderer, stop)
    pieces = []
    for token in ids:
        if token in renderer.stop_ids:
            pieces.append(stream.finish())
            break
        pieces.append(stream.add(token))
        if stream.stopped:
            break
    else:
        pieces.append(stream.finish(ended=False))
    assert not any("\ufffd" in piece.text for piece in pieces)
    return Written("".join(p.text for p in pieces), "".join(p.reasoning for p in pieces))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("text", TEXTS)
def test_an_answer_reads_as_it_stood_in_the_message(name: str, text: str) -> None:
    renderer = renderer_of(name)
    row = renderer.render(chat([ASK, message("assistant", text)]))
    assert read(renderer, trained_ids(row)) == Written(text)


@pytest.mark.parametrize("name", CASES)
def test_every_answer_of_a_chat_reads_back(name: str) -> None:
    renderer = renderer_of(name)
    for until, text in ((2, "Yes, until six."), (4, "Тоже 🙂")):
        _, answer = renderer.answer_ids(CHAT[:until], text)
        assert read(renderer, answer) == Written(text)


REASON = "It is noon.\n\nSo 12 < 18: it is open."
THINKERS = ("qwen3", "r1", "gpt-oss", "magistral", "inline", "no-template")


@pytest.mark.parametrize("name", THINKERS)
def test_reasoning_is_read_apart(name: str) -> None:
    renderer = renderer_of(name, thinking=True)
    answer = message("assistant", "Yes, until six.", reasoning_content=REASON)
    row = renderer.render(chat([ASK, answer]))
    assert read(renderer, trained_ids(row)) == Written("Yes, until six.", REASON)
    # A variant that learned no reasoning is read as well.
    bare = renderer.render(chat([ASK, message("assistant", "Yes.")]))
    assert read(renderer, trained_ids(bare)) == Written("Yes.")


def test_templates_without_reasoning_still_refuse_it() -> None:
    answer = message("assistant", "Yes.", reasoning_content=REASON)
    for name in sorted(CASES.keys() - {*THINKERS}):
        with pytest.raises(RenderingError, match="deletes a part of the answer"):
            renderer_of(name, thinking=True).render(chat([ASK, answer]))


def test_inline_reasoning_is_refused_when_thinking_is_off() -> None:
    answer = message("assistant", "Yes.", reasoning_content=REASON)
    with pytest.raises(RenderingError, match="closed the thinking block") as caught:
        renderer_of("inline").render(chat([ASK, answer]))
    assert "render.thinking" in str(caught.value.hint)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "block", ["<think>\n{}\n</think>\n\n", "<think>{}</think>", "\n<think>{}</think>\n"]
)
def test_think_tags_that_a_model_writes_by_itself_are_reasoning(name: str, block: str) -> None:
    renderer = renderer_of(name)
    if renderer.facts.thinking == "opened by the prompt":
        block = block.replace("<think>", "")
    ids = renderer.tokenizer(block.format(REASON) + "Yes.", add_special_tokens=False)["input_ids"]
    assert read(renderer, ids) == Written("Yes.", REASON)


@pytest.mark.parametrize("name", THINKERS)
def test_cut_reasoning_is_no_answer(name: str) -> None:
    renderer = renderer_of(name, thinking=True)
    answer = message("assistant", "Yes, until six.", reasoning_content=REASON)
    ids = trained_ids(renderer.render(chat([ASK, answer])))
    for length in range(1, len(ids)):
        cut = read(renderer, ids[:length])
        assert REASON.startswith(cut.reasoning)
        assert "Yes, until six.".startswith(cut.text)


@pytest.mark.parametrize("name", CASES)
def test_calls_read_as_the_template_writes_them(name: str) -> None:
    renderer = renderer_of(name)
    if not renderer.facts.tools:
        return
    call: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    written = read(renderer, trained_ids(renderer.render(chat([ASK, call]))))
    assert written.text == CALLS[name]
    assert not written.reasoning


CALLS = {
    "chatml": '<tool_call>get_weather{"city": "Paris"}</tool_call>',
    "chatml-marked": '<tool_call>get_weather{"city": "Paris"}</tool_call>',
    "gpt-oss": ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}',
    "magistral": '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}',
    "no-template": '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>',
}


def test_reasoning_before_a_call_is_read_apart() -> None:
    for name in ("gpt-oss", "magistral", "no-template"):
        renderer = renderer_of(name)
        call = {
            "role": "assistant",
            "content": "",
            "tool_calls": [CALL],
            "reasoning_content": "Ask.",
        }
        written = read(renderer, trained_ids(renderer.render(chat([ASK, call]))))
        assert written == Written(CALLS[name], "Ask.")


def test_channels_that_no_template_writes_are_reasoning() -> None:
    for name in ("harmony", "gpt-oss"):
        renderer = renderer_of(name)
        said = (
            "<|channel|>analysis<|message|>Noon.<|end|><|start|>assistant"
            "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
            "<|channel|>final<|message|>Yes."
        )
        ids = renderer.tokenizer(said, add_special_tokens=False)["input_ids"]
        written = read(renderer, ids)
        assert (written.text, written.reasoning) == ("Yes.", "Noon.I look.")


def test_stop_texts_end_the_answer_and_not_the_reasoning() -> None:
    renderer = renderer_of("qwen3", thinking=True)
    answer = message("assistant", "Yes, until six.", reasoning_content=REASON)
    ids = trained_ids(renderer.render(chat([ASK, answer])))
    assert read(renderer, ids, stop=(":", "ntil")) == Written("Yes, u", REASON)


def test_a_space_that_belongs_to_the_first_word_is_no_text() -> None:
    tokenizer = metaspace_tokenizer(str(CASES["mistral"].template), "first")
    renderer = make_renderer(tokenizer, RenderSettings())
    for text in ("Yes, until six.", "  indented"):
        row = renderer.render(chat([ASK, message("assistant", text)]))
        assert read(renderer, trained_ids(row)).text == text


def test_tags_that_are_control_tokens_are_tags_all_the_same() -> None:
    case = replace(CASES["qwen3"], special=(*CASES["qwen3"].special, "<think>", "</think>"))
    renderer = renderer_of(replace(case, plain_added=()), thinking=True)
    answer = message("assistant", "Yes.", reasoning_content=REASON)
    row = renderer.render(chat([ASK, answer]))
    assert read(renderer, trained_ids(row)) == Written("Yes.", REASON)


def test_references_lose_their_reasoning_in_the_same_way() -> None:
    assert split_reasoning(f"<think>\n{REASON}\n</think>\n\nYes.") == Written("Yes.", REASON)
    assert split_reasoning("Yes <think>no</think>") == Written("Yes <think>no</think>")
    assert split_reasoning("<think>never closed") == Written("<think>never closed")
