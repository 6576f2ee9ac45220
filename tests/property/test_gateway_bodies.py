"""Whatever a client sends, the gateway answers in OpenAI's form and lets nothing hang."""

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.serving.test_gateway import Echo, plain_client

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "wizard"])},
    optional={"content": st.text(max_size=9) | PLAIN, "tool_calls": PLAIN, "name": PLAIN},
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["shop", "builtin:nano", "nobody"]) | PLAIN,
    "messages": st.lists(MESSAGE, max_size=3) | PLAIN,
    "prompt": st.text(max_size=9) | st.lists(st.integers() | st.text(max_size=3), max_size=3)
    | st.lists(st.lists(st.integers(), max_size=2), max_size=2) | PLAIN,
    "max_tokens": st.integers(-1, 9) | PLAIN,
    "temperature": st.floats(0, 2) | PLAIN,
    "top_p": st.floats(0, 1) | PLAIN,
    "top_k": PLAIN,
    "seed": PLAIN,
    "n": st.integers(0, 3) | PLAIN,
    "stop": st.text(max_size=2) | st.lists(st.text(max_size=2), max_size=2) | PLAIN,
    "stream": st.booleans() | st.just(True),
    "stream_options": st.just({"include_usage": True}) | PLAIN,
    "logprobs": st.booleans() | st.integers(0, 21) | PLAIN,
    "top_logprobs": st.integers(0, 21) | PLAIN,
    "tools": PLAIN,
    "unknown": PLAIN,
}  # fmt: skip
VALID = {"model": "shop", "messages": [{"role": "user", "content": "a b"}], "prompt": "a b"}
# A few fields at a time: with all of them wrong, nothing passes the first check.
CHANGED = st.lists(st.sampled_from(sorted(FIELDS)), unique=True, max_size=3).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
)
BODY = CHANGED.map(lambda changed: {**VALID, **changed})


@given(
    body=BODY.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=40),
    path=st.sampled_from(["/v1/chat/completions", "/v1/completions"]),
)
@settings(max_examples=80, deadline=None)
def test_every_body_is_answered_in_openais_form(body: bytes, path: str) -> None:
    engine = Echo()

    async def ask():
        client = plain_client(engine)
        answer = await asyncio.wait_for(client.post(path, content=body), 10)
        return answer, (await client.get("/metrics")).text

    answer, numbers = asyncio.run(ask())
    assert answer.status_code == 200 or 400 <= answer.status_code < 500
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["message"]
        assert error["code"] == answer.status_code
        assert set(error) == {"message", "type", "param", "code"}
    elif answer.headers["content-type"].startswith("text/event-stream"):
        *events, done, _ = answer.text.split("\n\n")
        assert done == "data: [DONE]"
        for event in events:
            chunk = json.loads(event.removeprefix("data: "))
            assert isinstance(chunk["choices"], list)
            assert "error" not in chunk
    else:
        assert answer.json()["choices"]
    assert "kamerton_open_answers 0" in numbers
