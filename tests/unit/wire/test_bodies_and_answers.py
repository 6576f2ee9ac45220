"""Bodies as clients send and read them."""

import pytest
from pydantic import ValidationError

from kamerton.core.protocols import ToolCall
from kamerton.core.requests import AnswerUpdate, Reweighting, TokenLogprob
from kamerton.wire.answers import calls_before_end, chat_chunk, text_answer, usage_of
from kamerton.wire.bodies import ChatRequest, CompletionRequest
from kamerton.wire.tokenizing import DetokenizeBody, EmbeddingsBody

ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def test_fields_of_other_servers_are_accepted() -> None:
    request = ChatRequest.model_validate({**ASKED, "repetition_penalty": 1.1, "metadata": {"a": 1}})
    assert request.messages[0].plain() == {"role": "user", "content": "Hello"}


@pytest.mark.parametrize(
    ("stop", "stops"), [(None, ()), ("x", ("x",)), (["a", "", "b"], ("a", "b")), ("", ())]
)
def test_stop_is_a_text_or_several(stop: object, stops: tuple[str, ...]) -> None:
    assert ChatRequest.model_validate({**ASKED, "stop": stop}).stops == stops


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a b", ["a b"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [(1, 2)]),
        ([[1], [2, 3]], [(1,), (2, 3)]),
    ],
)
def test_prompts_are_texts_or_tokens(prompt: object, prompts: list[object]) -> None:
    assert CompletionRequest(model="m", prompt=prompt).prompts == prompts  # type: ignore[arg-type]


@pytest.mark.parametrize("token", [True, "7", 7.0, None])
def test_what_is_no_whole_number_is_no_token(token: object) -> None:
    for body, field in (
        (CompletionRequest, "prompt"), (EmbeddingsBody, "input"), (DetokenizeBody, "tokens")
    ):  # fmt: skip
        given = [token] if body is DetokenizeBody else [[5, token]]
        with pytest.raises(ValidationError, match=field):
            body(model="m", **{field: given})


def test_a_tool_call_needs_no_content() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    request = ChatRequest.model_validate({**ASKED, "messages": [*ASKED["messages"], message]})
    assert request.messages[1].plain() == {
        "role": "assistant",
        "content": "",
        "tool_calls": [call],
    }


def test_an_image_is_refused() -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    with pytest.raises(ValidationError, match="only parts of type text"):
        ChatRequest.model_validate({**ASKED, "messages": [image]})


def test_answers_to_one_prompt_count_its_tokens_once() -> None:
    ends = [AnswerUpdate(str(n), num_prompt_tokens=5 + n // 2, num_tokens=n) for n in range(4)]
    assert usage_of(ends, num_prompts=2) == {
        "prompt_tokens": 5 + 6,
        "completion_tokens": 6,
        "total_tokens": 17,
    }


def test_calls_come_before_the_chunk_that_ends_a_stream() -> None:
    call = ToolCall("weather", '{"city": "Paris"}')
    update = AnswerUpdate("id", "I look.", finish_reason="tool_calls", tool_calls=(call,))
    parts = [chat_chunk("id", "m", 0, part)["choices"][0] for part in calls_before_end(update)]
    assert [part["finish_reason"] for part in parts] == [None, "tool_calls"]
    assert parts[0]["delta"]["content"] == "I look."
    assert parts[0]["delta"]["tool_calls"][0]["function"]["name"] == "weather"
    assert parts[1]["delta"] == {}
    plain = AnswerUpdate("id", "yes", finish_reason="stop")
    assert calls_before_end(plain) == (plain,)


def test_reasoning_stands_apart_from_the_answer() -> None:
    chunk = chat_chunk("id", "m", 0, AnswerUpdate("id", "yes", "think"))
    assert chunk["choices"][0]["delta"] == {"content": "yes", "reasoning_content": "think"}


def test_offsets_of_tokens_are_places_in_the_text() -> None:
    tokens = [TokenLogprob("ab", -1.0, (("ab", -1.0),)), TokenLogprob("c", -2.0)]
    answer = {"text": "abc", "finish_reason": "stop", "logprobs": tokens}
    body = text_answer("id", "m", [answer], {})
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-1.0, -2.0],
        "top_logprobs": [{"ab": -1.0}, {"c": -2.0}],
        "text_offset": [0, 2],
    }


def test_what_changes_probabilities_is_read_by_openais_names() -> None:
    asked = {"min_p": 0.1, "presence_penalty": -1, "frequency_penalty": 2, "logit_bias": {"7": -5}}
    request = ChatRequest.model_validate({**ASKED, **asked, "repetition_penalty": 1.1})
    assert request.reweighting == Reweighting(0.1, -1, 2, 1.1, ((7, -5),))
    assert ChatRequest.model_validate(ASKED).reweighting == Reweighting()


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_p": 1.5},
        {"presence_penalty": 2.5},
        {"frequency_penalty": -3},
        {"repetition_penalty": 0},
        {"logit_bias": {"7": 101}},
        {"logit_bias": {"seven": 1}},
        {"logit_bias": [7]},
    ],
)
def test_wrong_rules_are_named(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ValidationError, match=name):
        ChatRequest.model_validate({**ASKED, **wrong})


def test_null_says_nothing() -> None:
    nulls = dict.fromkeys(("n", "stream", "presence_penalty", "logprobs", "top_logprobs", "seed"))
    request = ChatRequest.model_validate({**ASKED, **nulls})
    assert request == ChatRequest.model_validate(ASKED)
