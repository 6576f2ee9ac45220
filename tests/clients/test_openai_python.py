"""The openai SDK for Python, beyond what the tests of the server ask through it."""

import asyncio
import json
import signal
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest

from tests.clients.served import CALLER, SPEAKER, TOOL
from tests.e2e.test_serve import LONG, QUESTION, Server, serving

pytestmark = pytest.mark.slow


def test_it_asks_for_several_things_at_once(address: str) -> None:
    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:

            async def streamed(question: str) -> str:
                stream = await client.chat.completions.create(
                    model=SPEAKER, stream=True, messages=[{"role": "user", "content": question}]
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            async def whole(question: str) -> str:
                answer = await client.chat.completions.create(
                    model=SPEAKER, messages=[{"role": "user", "content": question}]
                )
                return answer.choices[0].message.content or ""

            questions = [f"Which colour has box {number}?" for number in range(8)]
            found = await asyncio.gather(*map(streamed, questions), *map(whole, questions))
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="nobody", messages=QUESTION)
            return list(found)

    assert asyncio.run(ask_all()) == [SPEAKER] * 16


def test_functions_are_called_and_their_results_read(server: Server) -> None:
    client = server.client()
    asked = {"model": CALLER, "tools": [TOOL], "max_tokens": 60, "temperature": 0}
    first = client.chat.completions.create(**asked, messages=QUESTION).choices[0]
    assert first.finish_reason == "tool_calls"
    (call,) = first.message.tool_calls or ()
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    # The SDK's own object goes back into the conversation, as its users write it.
    result = {"role": "tool", "tool_call_id": call.id, "content": "It rains."}
    second = client.chat.completions.create(
        **{**asked, "model": SPEAKER}, messages=[*QUESTION, first.message, result]
    )
    assert second.choices[0].message.role == "assistant"
    with client.chat.completions.stream(**asked, messages=QUESTION) as stream:
        kinds = [event.type for event in stream]
        gathered = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.done" in kinds
    assert [each.function.name for each in gathered.tool_calls or ()] == ["weather"]


def test_log_probabilities_stand_beside_the_tokens(server: Server) -> None:
    asked = {"model": SPEAKER, "messages": QUESTION, "logprobs": True, "top_logprobs": 3}
    client = server.client()
    (choice,) = client.chat.completions.create(**asked).choices
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert "".join(token.token for token in tokens).startswith(SPEAKER)
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        # It is greedy: the token that stands there is the likeliest.
        assert token.top_logprobs[0].logprob == token.logprob
    streamed = [
        token
        for chunk in client.chat.completions.create(**asked, stream=True)
        for token in (chunk.choices[0].logprobs and chunk.choices[0].logprobs.content) or []
    ]
    assert [token.logprob for token in streamed] == [token.logprob for token in tokens]


def test_it_comes_back_after_it_was_turned_away(served_project: Path) -> None:
    with serving(served_project, SPEAKER, "--limit", "1", "--slots", "1") as server:
        stream = server.client().chat.completions.create(
            model=str(served_project / "base"), messages=LONG, stream=True, temperature=1.5,
            seed=3, max_tokens=200,
        )  # fmt: skip
        next(iter(stream))
        engine = server.engine()
        # The only place stays taken until the second request was turned away.
        engine.send_signal(signal.SIGSTOP)
        answers = []
        client = server.client(max_retries=20)

        def ask() -> None:
            raw = client.chat.completions.with_raw_response.create(model=SPEAKER, messages=QUESTION)
            answers.append((raw.parse().choices[0].message.content, raw.retries_taken))

        asking = threading.Thread(target=ask)
        asking.start()
        for _ in range(300):
            if 'status="429"' in httpx.get(f"{server.address}/metrics").text:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("nobody was turned away")
        engine.send_signal(signal.SIGCONT)
        stream.close()
        asking.join(60)
        ((text, num_retries),) = answers
        assert text == SPEAKER
        assert num_retries >= 1
