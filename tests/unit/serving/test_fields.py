"""What the gateway makes of the fields of a request, with a fake engine."""

import asyncio
import json
from collections.abc import AsyncIterator

import openai
import pytest
from pydantic import BaseModel

from kamerton.core.protocols import ToolCall
from kamerton.core.requests import AnswerRequest, AnswerUpdate, Reweighting
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from tests.unit.serving.test_gateway import HELLO, MODELS, Echo, client_of, plain_client


@pytest.fixture
def engine() -> Echo:
    return Echo()


def test_rules_for_tokens_reach_the_engine(engine):
    async def ask():
        client = client_of(engine)
        extra = {"min_p": 0.2, "repetition_penalty": 1.5}
        await client.chat.completions.create(
            model="shop", messages=HELLO, logit_bias={"5": 1}, extra_body=extra
        )
        await client.completions.create(model="shop", prompt="a", presence_penalty=0.5)

    asyncio.run(ask())
    chat, text = (request.reweighting for request in engine.asked)
    assert chat == Reweighting(0.2, 0, 0, 1.5, ((5, 1),))
    assert text == Reweighting(presence_penalty=0.5)


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_what_the_harness_sends_reaches_the_engine(engine, max_tokens):
    asked = {"prompt": [[5, 6], [7]], "max_tokens": max_tokens, "logprobs": 1, "echo": True}
    answer = asyncio.run(
        client_of(engine).completions.create(model="shop", temperature=0, seed=1234, **asked)
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for request, prompt in zip(engine.asked, [(5, 6), (7,)], strict=True):
        assert request.prompt == prompt
        assert request.reads_prompt
        assert request.generation.max_tokens == max_tokens


@pytest.mark.parametrize("wrong", [{"suffix": "x"}, {"best_of": 2}, {"logit_bias": {"5": 200}}])
def test_what_cannot_be_done_is_refused(engine, wrong):
    with pytest.raises(openai.BadRequestError, match=next(iter(wrong))):
        asyncio.run(client_of(engine).completions.create(model="shop", prompt="a", **wrong))
    assert engine.asked == []


class Reading(Echo):
    """Knows a tokenizer whose tokens are characters, and embeds a text as its length and one."""

    async def tokenize(self, question: TokenizerRequest) -> TokenizerReply:
        asked = question.asked
        assert asked.artefact == MODELS[asked.model].content_hash
        if question.kind == "info":
            return TokenizerReply(asked.id, info={"eos_token": f"</{asked.model}>"})
        if question.kind == "detokenize":
            return TokenizerReply(asked.id, text="".join(map(chr, asked.prompt)))
        if asked.prompt == "wrong":
            return TokenizerReply(asked.id, error="cannot be read")
        text = asked.prompt if asked.chat is None else asked.chat[-1]["content"]
        tokens = tuple(map(ord, text)) + ((0,) if question.add_special_tokens else ())
        return TokenizerReply(asked.id, tokens, tuple(text), max_tokens=9)

    async def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerUpdate]:
        if request.prompt == "wrong":
            yield AnswerUpdate(request.id, error="cannot be read", is_client_error=True)
            return
        length = len(request.prompt)
        assert request.embeds
        assert request.artefact == MODELS[request.model].content_hash
        yield AnswerUpdate(
            request.id,
            finish_reason="length",
            num_prompt_tokens=length,
            embedding=(float(length), 1.0),
        )


def test_the_tokenizer_is_served_at_the_root_as_the_harness_asks():
    async def ask(method: str, path: str, body: object = None):
        return await plain_client(Reading()).request(method, path, json=body)

    info = asyncio.run(ask("GET", "/tokenizer_info"))
    assert info.json() == {"eos_token": "</builtin:nano>"}
    assert asyncio.run(ask("GET", "/tokenizer_info?model=shop")).json()["eos_token"] == "</shop>"
    asked = {"prompt": "ab", "add_special_tokens": False}
    found = asyncio.run(ask("POST", "/tokenize", asked)).json()
    assert found == {
        "count": 2, "max_model_len": 9, "tokens": [97, 98], "token_strs": ["a", "b"],
    }  # fmt: skip
    chat = {"messages": [{"role": "user", "content": "c"}], "model": "shop"}
    assert asyncio.run(ask("POST", "/tokenize", chat)).json()["tokens"] == [99, 0]
    text = asyncio.run(ask("POST", "/detokenize", {"tokens": [97, 98]})).json()
    assert text == {"prompt": "ab"}
    for path, body, said in (
        ("/tokenize", {"prompt": "wrong"}, "cannot be read"),
        ("/tokenize", {}, "either prompt or messages"),
        ("/detokenize", {"tokens": ["a"]}, "tokens"),
    ):
        wrong = asyncio.run(ask("POST", path, body))
        assert wrong.status_code == 400
        assert said in wrong.json()["error"]["message"]
    unknown = asyncio.run(ask("POST", "/tokenize", {"prompt": "a", "model": "nobody"}))
    assert unknown.status_code == 404


@pytest.mark.parametrize("encoding", [openai.omit, "float"])
def test_embeddings_through_the_sdk(encoding):
    async def ask(what: object):
        return await client_of(Reading()).embeddings.create(
            model="shop", input=what, encoding_format=encoding
        )

    # The SDK asks for base64 by itself, and reads it back.
    answer = asyncio.run(ask(["abc", "d"]))
    assert [each.embedding for each in answer.data] == [[3.0, 1.0], [1.0, 1.0]]
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("shop", 4, 4)
    assert asyncio.run(ask([5, 6])).data[0].embedding == [2.0, 1.0]
    for wrong, said in (("wrong", "cannot be read"), ([], "at least one"), ([[]], "at least one")):
        with pytest.raises(openai.BadRequestError, match=said):
            asyncio.run(ask(wrong))


def test_the_sdks_schema_reaches_the_engine_and_its_answer_is_parsed(engine):
    class Order(BaseModel):
        number: int

    async def ask():
        messages = [{"role": "user", "content": 'toolong {"number": 7}'}]
        with pytest.raises(openai.BadRequestError):
            await client_of(engine).chat.completions.parse(
                model="shop", messages=messages, response_format=Order
            )

    asyncio.run(ask())
    grammar = engine.asked[0].grammar
    assert grammar.kind == "json_schema"
    assert json.loads(grammar.text)["properties"]["number"]["type"] == "integer"


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


class Calling(Echo):
    """Says something and calls a function."""

    async def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerUpdate]:
        self.asked.append(request)
        if request.chat[-1]["content"] != "only call":
            yield AnswerUpdate(request.id, "I look. ", num_tokens=1)
        yield AnswerUpdate(
            request.id,
            finish_reason="tool_calls",
            num_tokens=2,
            tool_calls=(ToolCall("weather", '{"city": "Rome"}'), ToolCall("time", "{}")),
        )


@pytest.mark.parametrize("stream", [False, True])
def test_calls_reach_the_client(stream):
    async def ask():
        answer = await client_of(Calling()).chat.completions.create(
            model="shop", messages=HELLO, tools=TOOLS, stream=stream
        )
        return [chunk async for chunk in answer] if stream else answer

    answer = asyncio.run(ask())
    if stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in answer) == "I look. "
        last = answer[-1].choices[0]
        calls = answer[-2].choices[0].delta.tool_calls
        assert [call.index for call in calls] == [0, 1]
    else:
        last = answer.choices[0]
        calls = last.message.tool_calls
        assert last.message.content == "I look. "
    assert last.finish_reason == "tool_calls"
    assert [(c.function.name, c.function.arguments) for c in calls] == [
        ("weather", '{"city": "Rome"}'),
        ("time", "{}"),
    ]
    assert len({call.id for call in calls}) == 2


def test_an_answer_of_calls_alone_has_no_content_and_can_be_sent_back():
    engine = Calling()

    async def ask():
        client = client_of(engine)
        messages = [{"role": "user", "content": "only call"}]
        answer = await client.chat.completions.create(model="shop", messages=messages, tools=TOOLS)
        message = answer.choices[0].message
        assert message.content is None
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "warm"}
        await client.chat.completions.create(
            model="shop", messages=[*messages, message, result], tools=TOOLS, tool_choice="none"
        )

    asyncio.run(ask())
    assert engine.asked[0].tools == TOOLS
    assert engine.asked[1].tools == []
    assert engine.asked[1].chat[1]["tool_calls"][0]["function"]["name"] == "weather"
    assert engine.asked[1].chat[2]["content"] == "warm"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tools": [{"type": "browser"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools.0.function.name"),
        ({"tool_choice": "required"}, "needs tools"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "no tool is called",
        ),
        (
            {
                "tools": TOOLS,
                "tool_choice": "required",
                "response_format": {"type": "json_object"},
            },
            "can call nothing",
        ),
    ],
)
def test_wrong_tools_are_named(engine, fields, said):
    with pytest.raises(openai.BadRequestError, match=said):
        asyncio.run(
            client_of(engine).chat.completions.create(model="shop", messages=HELLO, **fields)
        )
    assert engine.asked == []
