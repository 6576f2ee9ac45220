"""Requests to other engines that speak OpenAI's API, and the answers that they give."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.core.protocols import Generation, ToolCall
from kamerton.core.requests import AnswerRequest, Grammar, Reweighting, TokenLogprob
from kamerton.wire.answers import chat_chunk
from kamerton.wire.bodies import ChatRequest
from kamerton.wire.upstream_answers import AnswerReader, error_text, read_cards
from kamerton.wire.upstream_requests import LEFT_TO_ENGINE, chat_request, text_request

HELLO = [{"role": "user", "content": "Hi"}]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("book", "cancel")
]
PLAIN = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "seed": 0}


def asked(dialect="vllm", how=LEFT_TO_ENGINE, **fields):
    return chat_request(AnswerRequest("r", "shop", how, chat=HELLO, **fields), HELLO, "m", dialect)


def test_nothing_that_is_left_to_the_engine_is_sent():
    assert asked() == {**PLAIN, "messages": HELLO}


def test_fields_of_sampling_are_passed_on():
    change = Reweighting(0.1, 0.2, 0.3, 1.5, ((7, -2.0),))
    how = Generation(5, 0.7, 0.8, 40, ("#",), 9)
    fields = asked("other", how, reweighting=change, num_top_logprobs=2)
    assert fields == {
        **PLAIN,
        "messages": HELLO,
        "seed": 9,
        "max_tokens": 5,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 40,
        "stop": ["#"],
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "repetition_penalty": 1.5,
        "repeat_penalty": 1.5,
        "logit_bias": {"7": -2.0},
        "logprobs": True,
        "top_logprobs": 2,
    }


@pytest.mark.parametrize(
    ("grammar", "sent"),
    [
        (
            Grammar("json_schema", '{"type": "object"}'),
            {"response_format": {"type": "json_object"}},
        ),
        (
            Grammar("json_schema", '{"type": "number"}'),
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "answer", "schema": {"type": "number"}, "strict": True,
                    },
                }
            },
        ),
        (Grammar("regex", "a+"), {"structured_outputs": {"regex": "a+"}}),
        (Grammar("choice", '["a", "b"]'), {"structured_outputs": {"choice": ["a", "b"]}}),
    ],
)  # fmt: skip
def test_what_an_answer_must_follow_is_said_in_the_engines_words(grammar, sent):
    assert asked(grammar=grammar) == {**PLAIN, "messages": HELLO, **sent}


def test_a_grammar_that_an_engine_would_ignore_is_refused():
    with pytest.raises(ValueError, match="follows JSON schemas, and no regex"):
        asked("other", grammar=Grammar("regex", "a+"))


@pytest.mark.parametrize(
    "choice",
    ["auto", "required", {"type": "function", "function": {"name": "cancel"}}],
)
@pytest.mark.parametrize("parallel", [True, False])
def test_the_choice_of_tools_is_passed_on_as_the_client_made_it(choice, parallel):
    body = ChatRequest.model_validate(
        {
            "model": "shop", "messages": HELLO, "tools": TOOLS,
            "tool_choice": choice, "parallel_tool_calls": parallel,
        }
    )  # fmt: skip
    fields = asked(
        tools=body.offered_tools, grammar=body.grammar, parallel_calls=body.parallel_tool_calls
    )
    assert fields["tools"] == TOOLS
    assert fields["tool_choice"] == choice
    assert fields.get("parallel_tool_calls", True) is parallel
    assert "response_format" not in fields


def test_llama_cpp_python_has_a_form_of_its_own_for_schemas():
    schema = Grammar("json_schema", '{"type": "number"}')
    body = asked("llama-cpp-python", grammar=schema)
    assert body["response_format"] == {"type": "json_object", "schema": {"type": "number"}}


def test_an_engine_that_takes_0_tokens_for_no_limit_is_not_asked_for_them():
    request = AnswerRequest("r", "shop", Generation(0), prompt="a", echo=True)
    with pytest.raises(ValueError, match="max_tokens must be at least 1"):
        text_request(request, "m", "other")


def test_log_probabilities_that_are_left_out_are_missed():
    chunk = {
        "choices": [{"text": "a b", "logprobs": {"tokens": ["a"], "token_logprobs": [None]}}],
        "usage": {"total_tokens": 2},
    }
    for fields, lacks in ({"echo": True, "num_top_logprobs": 0}, True), ({}, False):
        reader = AnswerReader(AnswerRequest("r", "shop", Generation(), **fields))
        reader.read(chunk)
        assert reader.lacks_logprobs is lacks


def test_a_prompt_that_is_repeated_is_asked_for_as_a_whole():
    request = AnswerRequest(
        "r", "shop", Generation(0), prompt=(1, 2), echo=True, num_top_logprobs=1
    )
    body = text_request(request, "m", "vllm")
    assert (body["prompt"], body["max_tokens"], body["echo"]) == ([1, 2], 0, True)
    assert not body["stream"]
    assert "stream_options" not in body


def read_all(chunks, **fields):
    reader = AnswerReader(AnswerRequest("r", "shop", Generation(), **fields))
    updates = [reader.read(chunk) for chunk in chunks]
    return [update for update in updates if update] + [reader.end()]


def delta(finish_reason=None, **said):
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish_reason}]}


def test_calls_in_pieces_are_whole_at_the_end():
    def call(index, **function):
        return delta(tool_calls=[{"index": index, "function": function}])

    *_, end = read_all(
        [
            call(0, name="book", arguments=""),
            call(0, arguments='{"n": '),
            call(0, arguments="1}"),
            call(1, name="cancel"),
            delta("tool_calls"),
        ]
    )
    assert end.tool_calls == (ToolCall("book", '{"n": 1}'), ToolCall("cancel", "{}"))
    assert end.finish_reason == "tool_calls"


def test_reasoning_is_kept_apart_under_both_of_its_names():
    first, second, _ = read_all([delta(reasoning_content="a"), delta(reasoning="b"), delta("stop")])
    assert (first.reasoning, second.reasoning) == ("a", "b")


def test_tokens_are_counted_here_until_the_engine_says_how_many():
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}
    one, two, end = read_all([delta(content="a"), delta(content="b"), delta("length"), usage])
    assert [one.num_tokens, two.num_tokens, end.num_tokens] == [1, 2, 9]
    assert (end.num_prompt_tokens, end.finish_reason) == (3, "length")
    assert read_all([delta(content="a"), delta("stop")])[-1].num_tokens == 1


def test_log_probabilities_of_a_text_are_read():
    found = {
        "tokens": ["a", "b"],
        "token_logprobs": [None, -1.0],
        "top_logprobs": [None, {"b": -1.0, "c": -2.0}],
    }
    chunk = {"choices": [{"text": "ab", "logprobs": found, "finish_reason": "length"}]}
    update, _ = read_all([chunk], num_top_logprobs=2)
    assert update.text == "ab"
    assert update.logprobs == (
        TokenLogprob("a", None),
        TokenLogprob("b", -1.0, (("b", -1.0), ("c", -2.0))),
    )


def test_an_error_in_the_stream_is_kept_with_its_code():
    reader = AnswerReader(AnswerRequest("r", "shop", Generation()))
    assert reader.read({"error": {"message": "too long", "code": 400}}) is None
    assert (reader.error, reader.error_code) == ("too long", 400)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"error": "m"}, "m"),
        ({"object": "error", "message": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({"detail": '1 error:\n  x\n\n  File "/srv/app.py", line 1'}, "1 error: x"),
        ({}, ""),
        (None, ""),
    ],
)
def test_errors_are_read_in_all_their_forms(body, text):
    assert error_text(body) == text


def test_a_list_of_models_is_read_or_refused():
    (card,) = read_cards(json.loads('{"data": [{"id": "m", "parent": null, "created": 1.5}, {}]}'))
    assert (card.name, card.parent, card.created) == ("m", "", 1)
    with pytest.raises(ValueError, match="no list of models"):
        read_cards("<html>")


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
KEYS = st.sampled_from(
    ["choices", "delta", "content", "logprobs", "top_logprobs", "tokens", "token_logprobs", "token",
     "logprob", "tool_calls", "function", "name", "arguments", "index", "usage", "total_tokens",
     "prompt_tokens", "completion_tokens", "finish_reason", "error", "code", "message", "text"]
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(KEYS, ANYTHING, max_size=4), max_size=3))
def test_whatever_an_engine_sends_is_read_or_refused(bodies):
    # Most of what is drawn is nonsense; what stands in the right places is tried too.
    for chunks in (bodies, [{"choices": [body], "usage": body} for body in bodies]):
        reader = AnswerReader(AnswerRequest("r", "m", Generation(), num_top_logprobs=1))
        try:
            updates = [reader.read(chunk) for chunk in chunks]
        except ValueError:
            continue
        for update in [*filter(None, updates), reader.end()]:
            json.dumps(chat_chunk("c", "m", 0, update, logprobs=True))


def test_an_engine_that_does_not_stream_is_read_too():
    choice = {"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    update, end = read_all([{"choices": [choice], "usage": usage}])
    assert (update.text, end.num_tokens, end.num_prompt_tokens) == ("Hi", 1, 3)
