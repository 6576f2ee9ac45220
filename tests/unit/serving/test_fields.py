"""What the gateway makes of the fields of a request, with a fake engine."""

import asyncio

import openai
import pytest

from kamerton.core.requests import Reweighting
from tests.unit.serving.test_gateway import HELLO, Echo, client_of


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
