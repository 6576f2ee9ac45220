import json

import pytest

from kamerton.data.formats.messages import Unusable, messages_of, tools_of

ANSWER = {"role": "assistant", "content": "a"}
CALL = {"name": "search", "arguments": {"q": "tea"}}
WANTED_CALL = {"type": "function", "function": CALL}


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"role": "user", "content": "q"}, {"role": "user", "content": "q"}),
        ({"from": "human", "value": "q"}, {"role": "user", "content": "q"}),
        ({"from": "GPT ", "value": "a"}, {"role": "assistant", "content": "a"}),
        ({"role": "developer", "content": "s"}, {"role": "system", "content": "s"}),
        ({"role": "Клиент", "text": "q"}, {"role": "user", "content": "q"}),
        ({"speaker": "SYSTEM", "utterance": "a"}, {"role": "assistant", "content": "a"}),
        ({"role": "system", "content": ""}, {"role": "system", "content": ""}),
        ({"from": "observation", "value": "{}"}, {"role": "tool", "content": "{}"}),
        (
            {"role": "function", "name": "search", "content": "r"},
            {"role": "tool", "name": "search", "content": "r"},
        ),
        (
            {"role": "tool", "tool_call_id": "7", "content": "r"},
            {"role": "tool", "tool_call_id": "7", "content": "r"},
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"value": "b"}]},
            {"role": "user", "content": "ab"},
        ),
        *(
            (
                {"role": "user", "content": [{"type": kind, "text": "a", "annotations": []}]},
                {"role": "user", "content": "a"},
            )
            for kind in ("input_text", "output_text")
        ),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "reasoning", "value": "hm"},
                    {"type": "text", "value": "a"},
                ],
            },
            {"role": "assistant", "content": "a", "reasoning_content": "hm"},
        ),
        (
            {"from": "function_call", "value": json.dumps(CALL)},
            {"role": "assistant", "content": "", "tool_calls": [WANTED_CALL]},
        ),
        (
            {"role": "tool_call", "content": json.dumps([CALL, CALL])},
            {"role": "assistant", "content": "", "tool_calls": [WANTED_CALL, WANTED_CALL]},
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "7",
                        "type": "function",
                        "function": {"name": "search", "arguments": '{"q": "tea"}'},
                    }
                ],
            },
            {"role": "assistant", "content": "", "tool_calls": [{"id": "7", **WANTED_CALL}]},
        ),
        (
            {"role": "assistant", "content": "a", "function_call": CALL},
            {"role": "assistant", "content": "a", "tool_calls": [WANTED_CALL]},
        ),
        *(
            (
                {"role": "assistant", "content": "a", key: "hm", "reasoning_content": "hm"},
                {"role": "assistant", "content": "a", "reasoning_content": "hm"},
            )
            for key in ("thinking", "reasoning")
        ),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, "a"]},
            {"role": "assistant", "content": "a", "reasoning_content": "hm"},
        ),
        (
            {"from": "function_call", "value": json.dumps(CALL), "thinking": "hm"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [WANTED_CALL],
                "reasoning_content": "hm",
            },
        ),
        ({"speaker": "client", "phrase": "q"}, {"role": "user", "content": "q"}),
        (
            {"role": "assistant", "content": "a", "weight": 0},
            {"role": "assistant", "content": "a", "weight": 0},
        ),
        (
            {"role": "assistant", "content": "a", "loss_weight": 1.0},
            {"role": "assistant", "content": "a"},
        ),
    ],
)
def test_turns_are_normalised(turn, message):
    assert messages_of([turn], "messages") == (message,)
    assert messages_of(json.dumps([turn]), "messages") == (message,)
    assert messages_of(turn, "messages") == (message,)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (7, "messages: must be a list of turns, got a number"),
        ("hello", "messages: must be a list or an object, or JSON text of one"),
        ("[{", "messages: must be JSON, cannot be decoded"),
        ('[{"role": "user", "content": "\\ud800"}]', "messages.0.content: holds half a character"),
        (["hello"], "messages.0: a turn must be an object, got text"),
        ([{"content": "q"}], "messages.0: a turn must have a role, found the keys content"),
        ([{"role": "narrator", "content": "q"}], "messages.0.role: must be .* got 'narrator'"),
        ([{"role": 3, "content": "q"}], "messages.0.role: must be .* got a number"),
        ([{"role": "user", "content": 3}], "messages.0.content: must be text, got a number"),
        ([{"role": "user", "content": " "}], "messages.0.content: the user turn is empty"),
        ([{"role": "assistant"}], "messages.0.content: the assistant turn is empty"),
        ([{"role": "user", "words": "q"}], "messages.0: a turn must have content, found.* words"),
        (
            [{"role": "user", "content": [{"type": "thinking", "thinking": "hm"}]}],
            "reasoning must be the assistant's, found the user's",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "messages.0.content.0: only text can be used, got a part of type 'image_url'",
        ),
        ([{"role": "tool_call", "content": "search"}], "must be a list or an object, or JSON"),
        ([{"role": "tool_call", "content": "{}"}], "a tool call must be an object with a name"),
        (
            [{"role": "tool_call", "content": '{"name": "f", "arguments": [1]}'}],
            "tool_calls.0.arguments: must be an object, got a list",
        ),
        (
            [{"role": "assistant", "content": "a", "weight": 0.5}],
            "weight: must be 0 or 1, got '0.5'",
        ),
        ([{**ANSWER, "loss_mask": [0, 1]}], "loss_mask: must be 0 or 1, got a list"),
        ([{**ANSWER, "train": "perhaps"}], "messages.0.train: must be 0 or 1, got 'perhaps'"),
        (
            [{**ANSWER, "weight": 1, "loss": False}],
            "messages.0: flags must agree .* found weight = true, loss = false",
        ),
        (
            [{"role": "user", "content": "q", "train": True}],
            "messages.0.train: must be false: the user's turn is never an answer",
        ),
    ],
)
def test_broken_turns_are_named(value, problem):
    with pytest.raises(Unusable, match=problem):
        messages_of(value, "messages")


def test_tools():
    schema = {"name": "search", "parameters": {}}
    wrapped = {"type": "function", "function": schema}
    assert tools_of(None) == tools_of("") == tools_of("[]") == ()
    assert tools_of([schema]) == tools_of(json.dumps([wrapped])) == tools_of(schema) == (wrapped,)
    with pytest.raises(Unusable, match="must be a list of tool schemas"):
        tools_of(["search"])


@pytest.mark.parametrize(
    "key", ["weight", "loss_weight", "loss", "train", "loss_mask", "trainable"]
)
def test_authors_say_which_turns_are_trained(key):
    for value in (0, 0.0, False, "0", " False"):
        assert messages_of([{**ANSWER, key: value}], "messages") == ({**ANSWER, "weight": 0},)
    for value in (1, 1.0, True, "true", None):
        assert messages_of([{**ANSWER, key: value}], "messages") == (ANSWER,)
    question = {"role": "user", "content": "q"}
    assert messages_of([{**question, key: False}], "messages") == (question,)


def test_a_weight_of_one_says_nothing_about_a_question():
    question = {"role": "user", "content": "q"}
    assert messages_of([{**question, "weight": 1.0}], "messages") == (question,)
