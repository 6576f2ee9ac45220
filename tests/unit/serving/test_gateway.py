"""The gateway with a fake engine, through HTTP clients in this process."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel, TokenLogprob
from kamerton.serving.app import make_app
from kamerton.serving.keys import plain_keys

MODELS = {
    "shop": ServedModel("shop", "lora", "hash of shop", "builtin:nano", 100, 1, Generation(3)),
    "builtin:nano": ServedModel("builtin:nano", "base", "hash of nano", "builtin:nano"),
}


class Echo:
    """Answers with the name of the variant and the words of the last message."""

    def __init__(self) -> None:
        self.models = MODELS
        self.is_ready, self.problem = True, ""
        self.num_restarts = 0
        self.asked: list[AnswerRequest] = []
        self.cancelled: list[str] = []
        self.pause_s = 0.0

    async def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerUpdate]:
        self.asked.append(request)
        text = request.chat[-1]["content"] if request.chat else str(request.prompt)
        words = text.split()
        if words[:1] != ["toolong"]:
            words.insert(0, f"{request.model}:")
        finished = False
        try:
            for number, word in enumerate(words, 1):
                await asyncio.sleep(self.pause_s)
                if word == "broken":
                    yield AnswerUpdate(request.id, error="the engine stopped while it answered")
                    finished = True
                    return
                if word == "toolong":
                    yield AnswerUpdate(request.id, error="too long", is_client_error=True)
                    finished = True
                    return
                last = number == len(words)
                logprobs = (TokenLogprob(word, -0.5, ((word, -0.5),)),)
                yield AnswerUpdate(
                    request.id,
                    f"{word} ",
                    finish_reason="stop" if last else None,
                    num_prompt_tokens=7,
                    num_tokens=number,
                    logprobs=() if request.num_top_logprobs is None else logprobs,
                )
            finished = True
        finally:
            if not finished:
                self.cancelled.append(request.id)


@pytest.fixture
def engine() -> Echo:
    return Echo()


def client_of(engine: Echo, key: str = "none", **options: object) -> openai.AsyncOpenAI:
    transport = httpx.ASGITransport(make_app(engine, **options))
    return openai.AsyncOpenAI(
        base_url="http://served/v1",
        api_key=key,
        http_client=httpx.AsyncClient(transport=transport),
        max_retries=0,
    )


def plain_client(engine: Echo, **options: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_app(engine, **options))
    return httpx.AsyncClient(transport=transport, base_url="http://served")


HELLO = [{"role": "user", "content": "hello there"}]


def test_a_whole_answer_names_the_variant_that_gave_it(engine):
    async def ask():
        client = client_of(engine)
        answer = await client.chat.completions.with_raw_response.create(
            model="shop", messages=HELLO
        )
        return answer.headers, answer.parse()

    headers, answer = asyncio.run(ask())
    assert answer.choices[0].message.content == "shop: hello there "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "shop"
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
    }
    assert headers["x-kamerton-variant"] == "shop"
    assert headers["x-kamerton-artefact"] == "hash of shop"
    assert headers["x-request-id"].startswith("req-")


def test_a_streamed_answer_comes_in_pieces_and_ends_with_its_usage(engine):
    async def ask():
        stream = await client_of(engine).chat.completions.create(
            model="shop", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        return [chunk async for chunk in stream]

    chunks = asyncio.run(ask())
    *pieces, last = chunks
    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in pieces) == "shop: hello there "
    assert pieces[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in pieces)
    assert last.choices == []
    assert last.usage.total_tokens == 10
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_the_raw_stream_is_what_clients_parse(engine):
    async def ask():
        body = {"model": "shop", "messages": HELLO, "stream": True}
        return await plain_client(engine).post("/v1/chat/completions", json=body)

    answer = asyncio.run(ask())
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, done, nothing = answer.text.split("\n\n")
    assert done == "data: [DONE]"
    assert nothing == ""
    for event in events:
        chunk = json.loads(event.removeprefix("data: "))
        assert chunk["object"] == "chat.completion.chunk"
        assert "usage" not in chunk


def test_several_answers_have_seeds_of_their_own_and_share_the_prompt_in_the_count(engine):
    async def ask():
        return await client_of(engine).chat.completions.create(
            model="shop", messages=HELLO, n=3, seed=5
        )

    answer = asyncio.run(ask())
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [request.generation.seed for request in engine.asked] == [5, 6, 7]
    assert answer.usage.prompt_tokens == 7
    assert answer.usage.completion_tokens == 9


def test_settings_are_the_requests_else_the_variants(engine):
    async def ask():
        client = client_of(engine)
        await client.chat.completions.create(model="shop", messages=HELLO)
        await client.chat.completions.create(
            model="shop", messages=HELLO, max_tokens=9, temperature=0.5, stop="x"
        )

    asyncio.run(ask())
    first, second = (request.generation for request in engine.asked)
    assert (first.max_tokens, first.temperature, first.stop) == (3, 0.0, ())
    assert (second.max_tokens, second.temperature, second.stop) == (9, 0.5, ("x",))


def test_parts_of_text_and_the_developers_role_are_read(engine):
    async def ask():
        parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
        developer = {"role": "developer", "content": "Be brief."}
        messages = [developer, {"role": "user", "content": parts, "name": "Ann"}]
        await client_of(engine).chat.completions.create(model="shop", messages=messages)

    asyncio.run(ask())
    assert engine.asked[0].chat == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one two", "name": "Ann"},
    ]


def test_an_unknown_model_is_404_and_names_what_is_served(engine):
    with pytest.raises(openai.NotFoundError, match="'nobody' does not exist") as caught:
        asyncio.run(client_of(engine).chat.completions.create(model="nobody", messages=HELLO))
    assert caught.value.param == "model"
    assert engine.asked == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b'{"model": "shop"}', "messages"),
        (b'{"model": "shop", "messages": []}', "messages"),
        (b'{"model": "shop", "messages": [MESSAGE], "n": 0}', "n"),
        (b'{"model": "shop", "messages": [MESSAGE], "temperature": -1}', "temperature"),
        (b'{"model": "shop", "messages": "hello"}', "messages"),
        (b'{"model": "shop", "messages": [{}]}', "messages.0.role"),
        (b'{"model": "shop", "messages": [{"role": "wizard", "content": ""}]}', "messages.0.role"),
        (b'{"model": "shop", "messages": [{"role": "user"}]}', "content is needed"),
        (
            b'{"model": "shop", "messages": [{"role": "user", "content": [{"type": "image"}]}]}',
            "only parts of type text",
        ),
        (b'\xff\xfe{"model"', "JSON"),
    ],
)
def test_a_wrong_body_is_400_in_openais_form(engine, body, said):
    body = body.replace(b"MESSAGE", b'{"role": "user", "content": "x"}')
    answer = asyncio.run(plain_client(engine).post("/v1/chat/completions", content=body))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert said in error["message"]
    assert error["type"] == "BadRequestError"
    assert error["code"] == 400


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_first_piece_has_its_status(engine, stream):
    asked = client_of(engine).completions.create(model="shop", prompt="toolong", stream=stream)
    with pytest.raises(openai.BadRequestError, match="too long"):
        asyncio.run(asked)


def test_an_error_in_the_middle_reaches_the_client_as_an_error(engine):
    async def ask(stream: bool):
        messages = [{"role": "user", "content": "now broken"}]
        answer = await client_of(engine).chat.completions.create(
            model="shop", messages=messages, stream=stream
        )
        return [chunk async for chunk in answer]

    with pytest.raises(openai.APIError, match="stopped while it answered"):
        asyncio.run(ask(stream=True))
    with pytest.raises(openai.InternalServerError, match="stopped while it answered") as caught:
        asyncio.run(ask(stream=False))
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"] == "2"


def test_completions_take_texts_and_tokens_and_several_of_them(engine):
    async def ask(prompt: object):
        return await client_of(engine).completions.create(model="shop", prompt=prompt, logprobs=1)

    one = asyncio.run(ask("once upon"))
    assert one.object == "text_completion"
    assert one.choices[0].text == "shop: once upon "
    assert one.choices[0].logprobs.tokens == ["shop:", "once", "upon"]
    assert one.choices[0].logprobs.text_offset == [0, 5, 9]
    assert one.choices[0].logprobs.top_logprobs[1] == {"once": -0.5}
    several = asyncio.run(ask(["a", "b"]))
    assert [choice.text for choice in several.choices] == ["shop: a ", "shop: b "]
    assert several.usage.prompt_tokens == 14
    asyncio.run(ask([5, 6]))
    assert engine.asked[-1].prompt == (5, 6)
    asyncio.run(ask([[5], [6]]))
    assert [request.prompt for request in engine.asked[-2:]] == [(5,), (6,)]


def test_log_probabilities_of_a_chat(engine):
    async def ask():
        return await client_of(engine).chat.completions.create(
            model="shop", messages=HELLO, logprobs=True, top_logprobs=1
        )

    content = asyncio.run(ask()).choices[0].logprobs.content
    assert [token.token for token in content] == ["shop:", "hello", "there"]
    assert content[1].top_logprobs[0].logprob == -0.5
    assert content[0].bytes == list(b"shop:")


def test_models_are_listed_with_their_base(engine):
    async def ask():
        client = client_of(engine)
        return [m async for m in await client.models.list()], await client.models.retrieve("shop")

    listed, shop = asyncio.run(ask())
    assert [model.id for model in listed] == ["shop", "builtin:nano"]
    assert shop.parent == "builtin:nano"
    assert listed[1].parent is None


def test_without_the_key_nothing_is_answered_but_health(engine):
    keys = plain_keys(["secret"])
    with pytest.raises(openai.AuthenticationError, match="a key is needed"):
        asyncio.run(_names(client_of(engine, "wrong", keys=keys)))
    assert asyncio.run(_names(client_of(engine, "secret", keys=keys))) == list(MODELS)
    assert asyncio.run(plain_client(engine, keys=keys).get("/health")).status_code == 200


async def _names(client: openai.AsyncOpenAI) -> list[str]:
    return [model.id async for model in await client.models.list()]


def test_too_many_answers_at_once_are_turned_away_and_places_come_back(engine):
    engine.pause_s = 0.02

    async def ask():
        client = client_of(engine, limit_open=2)
        both = client.chat.completions.create(model="shop", messages=HELLO, n=2)
        first = asyncio.ensure_future(both)
        await asyncio.sleep(0.03)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="shop", messages=HELLO)
        await first
        for _ in range(3):
            await client.chat.completions.create(model="shop", messages=HELLO, n=2)
        return caught.value

    assert asyncio.run(ask()).response.headers["retry-after"] == "1"


def test_more_answers_than_could_ever_be_given_are_no_reason_to_come_again(engine):
    asked = client_of(engine, limit_open=2).chat.completions.create(
        model="shop", messages=HELLO, n=3
    )
    with pytest.raises(openai.BadRequestError, match="2 answers at most, got 3"):
        asyncio.run(asked)


def test_an_engine_that_is_given_up_says_why(engine):
    engine.is_ready, engine.problem = False, "it crashed 4 times"
    asked = client_of(engine).chat.completions.create(model="shop", messages=HELLO)
    with pytest.raises(openai.InternalServerError, match="it crashed 4 times"):
        asyncio.run(asked)


@pytest.mark.parametrize("with_length", [True, False])
def test_a_body_that_is_too_large_is_refused(engine, with_length):
    async def chunks():
        for _ in range(20):
            yield b" " * 100

    async def ask():
        content = b" " * 2000 if with_length else chunks()
        client = plain_client(engine, limit_bytes=1000)
        return await client.post("/v1/chat/completions", content=content)

    answer = asyncio.run(ask())
    assert answer.status_code == 413
    assert "1,000 bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_stops_the_answer(engine, stream):
    engine.pause_s = 0.01

    async def leave():
        app = make_app(engine)
        body = json.dumps({"model": "shop", "messages": LONG, "stream": stream}).encode()
        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [],
            "query_string": b"", "http_version": "1.1", "asgi": {"version": "3.0"},
            "scheme": "http", "server": ("served", 80), "client": ("here", 1), "root_path": "",
        }  # fmt: skip
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if messages:
                return messages.pop(0)
            while not engine.asked:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        await app(scope, receive, send)
        return app.state.admission.num_open

    assert asyncio.run(leave()) == 0
    assert len(engine.cancelled) == 1


LONG = [{"role": "user", "content": "word " * 500}]


def test_an_engine_that_is_not_ready_is_said_to_be(engine):
    engine.is_ready = False
    with pytest.raises(openai.InternalServerError, match="not ready"):
        asyncio.run(client_of(engine).chat.completions.create(model="shop", messages=HELLO))
    assert asyncio.run(plain_client(engine).get("/ready")).status_code == 503
    assert asyncio.run(plain_client(engine).get("/live")).status_code == 200


def test_while_the_base_loads_nothing_is_unknown_and_nothing_is_listed(engine):
    engine.models, engine.is_ready = {}, False
    ready = asyncio.run(plain_client(engine).get("/ready"))
    assert (ready.status_code, ready.json()) == (503, {"status": "loading"})
    body = {"model": "shop", "messages": HELLO, "input": "a", "prompt": "a"}
    posted = {"/v1/chat/completions": body, "/v1/completions": body, "/v1/embeddings": body}
    posted["/tokenize"] = {"prompt": "a"}
    answers = [
        *(asyncio.run(plain_client(engine).post(path, json=posted[path])) for path in posted),
        *(asyncio.run(plain_client(engine).get(f"/v1/models{end}")) for end in ("", "/shop")),
    ]
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["error"]["message"] == "the engine is loading"


def test_an_unknown_path_and_a_wrong_method_are_errors_in_openais_form(engine):
    missing = asyncio.run(plain_client(engine).get("/v1/nothing"))
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "NotFoundError")
    wrong = asyncio.run(plain_client(engine).get("/v1/chat/completions"))
    assert wrong.status_code == 405
    assert "error" in wrong.json()


def test_the_page_is_the_same_for_everybody_and_asks_nobody_else(engine):
    keyed = plain_client(engine, keys=plain_keys(["secret"]))
    for path in ("/", "/page.js", "/page.css"):
        page = asyncio.run(plain_client(engine).get(path))
        assert page.status_code == 200
        # It needs no key, so it must not tell what is served.
        assert asyncio.run(keyed.get(path)).text == page.text
        assert "shop" not in page.text
        assert "://" not in page.text
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
    assert "innerHTML" not in asyncio.run(plain_client(engine).get("/page.js")).text
    assert asyncio.run(plain_client(engine).get("/page.html")).status_code == 404


def test_a_wrong_field_is_named_as_the_client_wrote_it(engine):
    for body, param, said in (
        ({"stop": 5}, "stop", "got 5"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"temperature": -1}, "temperature", "got -1"),
    ):
        asked = {"model": "shop", "messages": HELLO, **body}
        answer = asyncio.run(plain_client(engine).post("/v1/chat/completions", json=asked))
        error = answer.json()["error"]
        assert (error["param"], answer.status_code) == (param, 400)
        assert said in error["message"]
        assert "Value error" not in error["message"]


@pytest.mark.parametrize(
    ("origin", "keys", "status"),
    [
        ("http://served", (), 200),
        ("http://other.example", (), 403),
        ("null", (), 403),
        ("http://other.example", plain_keys(["secret"]), 200),
    ],
)
def test_pages_of_other_sites_may_not_ask_a_server_without_keys(engine, origin, keys, status):
    async def ask():
        async with plain_client(engine, keys=keys) as client:
            return await client.post(
                "/v1/chat/completions",
                content=json.dumps({"model": "shop", "messages": HELLO}),
                headers={
                    "Origin": origin,
                    "Content-Type": "text/plain",
                    "Authorization": "Bearer secret",
                },
            )

    assert asyncio.run(ask()).status_code == status
