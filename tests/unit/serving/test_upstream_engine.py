"""The gateway before other engines: our own server, and one that speaks as vLLM does."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import httpx
import openai
import pytest
from starlette.responses import JSONResponse

from kamerton.core.errors import ModelError
from kamerton.core.protocols import Generation
from kamerton.core.requests import ServedModel
from kamerton.prompting.prompt import Prompt
from kamerton.serving.app import make_app
from kamerton.serving.upstream import Upstream
from kamerton.serving.upstream_engine import UpstreamEngine
from kamerton.serving.upstream_models import UpstreamModel
from kamerton.wire.upstream_requests import LEFT_TO_ENGINE
from tests.unit.serving.test_gateway import Echo
from tests.unit.serving.upstream_servers import Vllm, listening

HELLO = [{"role": "user", "content": "hello there"}]


def as_listed(cards):
    """Serve what the engines list."""
    return [
        UpstreamModel(
            ServedModel(card.name, card.kind or "base", card.artefact, card.name,
                        defaults=LEFT_TO_ENGINE),
            card.name,
        )
        for card in cards
    ]  # fmt: skip


def started(urls: str | Sequence[str], offer=as_listed, key: str = "", **options):
    urls = [urls] if isinstance(urls, str) else urls
    said = []
    engine = UpstreamEngine([Upstream(url, key) for url in urls], offer, **options)
    engine.start(said.append)
    return engine, said


def through(engine, ask):
    """Run a coroutine with a client of a gateway before the engine."""

    async def run():
        engine.watch()
        transport = httpx.ASGITransport(make_app(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            client = openai.AsyncOpenAI(
                base_url="http://gateway/v1", api_key="none", http_client=http, max_retries=0
            )
            return await ask(client, http)

    return asyncio.run(run())


def chat(model: str, content: str = "hello there", **fields):
    async def ask(client, http):
        messages = [{"role": "user", "content": content}]
        return await client.chat.completions.create(model=model, messages=messages, **fields)

    return ask


@pytest.fixture
def vllm():
    return Vllm()


@pytest.fixture
def url(vllm):
    with listening(vllm.app) as address:
        yield address


def test_our_own_server_answers_through_a_gateway_as_it_does_alone():
    upstream = Echo()
    with listening(make_app(upstream)) as url:
        engine, _ = started(url)
        assert list(engine.models) == ["shop", "builtin:nano"]
        assert engine.models["shop"].content_hash == "hash of shop"
        answer = through(engine, chat("shop", logprobs=True, top_logprobs=1, seed=3))
    choice = answer.choices[0]
    assert choice.message.content == "shop: hello there "
    assert (choice.finish_reason, answer.model) == ("stop", "shop")
    assert [token.token for token in choice.logprobs.content] == ["shop:", "hello", "there"]
    assert [token.logprob for token in choice.logprobs.content] == [-0.5] * 3
    assert answer.usage.prompt_tokens == 7
    assert answer.usage.completion_tokens == 3
    # What the client does not ask for is left to the engine, whose variant has defaults.
    assert upstream.asked[0].generation == Generation(3, seed=3)


def test_a_streamed_answer_comes_in_pieces_with_usage_at_its_end(vllm, url):
    async def ask(client, http):
        stream = await client.chat.completions.create(
            model="acme/base", messages=HELLO, stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip
        return [chunk async for chunk in stream]

    *pieces, last = through(started(url)[0], ask)
    texts = [piece.choices[0].delta.content for piece in pieces]
    assert texts == ["", "acme/base: ", "hello ", "there ", None]
    assert pieces[-1].choices[0].finish_reason == "stop"
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (11, 4)


def test_a_prompt_variant_is_rendered_here_and_brings_its_defaults(vllm, url):
    shots = (({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}),)

    def offer(cards):
        served = ServedModel(
            "shop", "prompt only", "abc", cards[0].name, defaults=Generation(9, 0.5, 0.9, 0, ("#",))
        )
        prompt = Prompt(system="You sell.", demonstrations=shots)
        return [UpstreamModel(served, "acme/base", prompt, template_arguments={"thinking": False})]

    answer = through(started(url, offer)[0], chat("shop", max_tokens=4, seed=1))
    assert answer.model == "shop"
    assert vllm.asked == [
        {
            "model": "acme/base",
            "messages": [
                {"role": "system", "content": "You sell."},
                *shots[0],
                {"role": "user", "content": "hello there"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "seed": 1,
            "max_tokens": 4,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 0,
            "min_p": 0.0,
            "stop": ["#"],
            "chat_template_kwargs": {"thinking": False},
        }
    ]


def lora_offer(place, *, is_required=True):
    def offer(cards):
        served = ServedModel("shop", "lora", "abc", "acme/base", defaults=Generation(9))
        lora = UpstreamModel(
            served, "shop-abc", base="acme/base", place=str(place), is_required=is_required
        )
        return [lora, *as_listed(cards)]

    return offer


@pytest.fixture
def lora_folder(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    return tmp_path


def test_a_lora_is_loaded_in_the_engine_and_asked_for_by_its_name_there(vllm, url, lora_folder):
    engine, _ = started(url, lora_offer(lora_folder))
    assert vllm.adapters == {"shop-abc": str(lora_folder)}
    answer = through(engine, chat("shop"))
    assert answer.choices[0].message.content == "shop-abc: hello there "
    assert answer.model == "shop"


def test_a_lora_that_is_gone_is_loaded_again(vllm, url, lora_folder):
    engine, _ = started(url, lora_offer(lora_folder), health_s=0.01)

    async def ask(client, http):
        vllm.adapters.clear()
        with pytest.raises(openai.InternalServerError, match="does not have the model now"):
            await chat("shop")(client, http)
        async with asyncio.timeout(30):
            while True:
                with suppress(openai.InternalServerError):
                    return await chat("shop")(client, http)
                await asyncio.sleep(0.01)

    assert through(engine, ask).choices[0].message.content == "shop-abc: hello there "


def test_an_engine_that_loads_no_lora_stops_a_start_that_needs_one(vllm, url, lora_folder):
    vllm.has_lora = False
    with pytest.raises(ModelError, match="cannot load the LoRA of 'shop': Not Found") as caught:
        started(url, lora_offer(lora_folder))
    assert "--enable-lora" in caught.value.hint
    engine, said = started(url, lora_offer(lora_folder, is_required=False))
    assert list(engine.models) == ["acme/base"]
    assert "not served" in said[0].message


@pytest.mark.parametrize(("template", "num_notices"), [("theirs", 0), ("ours", 1), ("", 0)])
def test_another_chat_template_than_the_engines_is_said(vllm, url, template, num_notices):
    vllm.chat_template = "theirs"

    def offer(cards):
        served = ServedModel("shop", "prompt only", "abc", "acme/base")
        return [UpstreamModel(served, "acme/base", chat_template=template)]

    _, said = started(url, offer)
    assert len(said) == num_notices
    assert all("shop learned with another chat template" in one.message for one in said)


def test_embeddings_are_passed_on_at_length_one(vllm, url):
    async def ask(client, http):
        return await client.embeddings.create(model="acme/base", input="hi")

    answer = through(started(url)[0], ask)
    assert answer.data[0].embedding == pytest.approx([0.6, 0.8])
    assert answer.usage.prompt_tokens == 5
    assert vllm.asked == [{"model": "acme/base", "input": "hi", "encoding_format": "float"}]


def test_a_tokenizer_answers_where_the_engine_has_one(vllm, url):
    async def ask(client, http):
        reply = await http.post("/tokenize", json={"model": "acme/base", "prompt": "hi"})
        return reply.status_code, reply.json()

    status, body = through(started(url)[0], ask)
    assert status == 501
    assert body["error"]["message"] == "the engine cannot do this"


@pytest.mark.parametrize(
    ("status", "body", "raised", "message"),
    [
        (400, {"error": {"message": "too long"}}, openai.BadRequestError, "too long"),
        (422, {"detail": "no such field"}, openai.BadRequestError, "no such field"),
        (401, {"error": "bad key"}, openai.InternalServerError, "refuses the gateway's key"),
        (500, {"message": "it broke"}, openai.InternalServerError, "it broke"),
        (429, {}, openai.RateLimitError, "all engines are busy"),
    ],
)
def test_errors_of_the_engine_reach_the_client(vllm, url, status, body, raised, message):
    vllm.errors = [JSONResponse(body, status)]
    with pytest.raises(raised, match=message) as caught:
        through(started(url)[0], chat("acme/base"))
    assert caught.value.status_code == (502 if status in (401, 500) else caught.value.status_code)


def test_an_answer_that_breaks_off_is_an_error_in_the_stream(vllm, url):
    vllm.break_after = 2

    async def ask(client, http):
        texts = []
        stream = await client.chat.completions.create(
            model="acme/base", messages=HELLO, stream=True
        )
        with pytest.raises(openai.APIError, match="ended its answer in the middle"):
            async for chunk in stream:
                texts.append(chunk.choices[0].delta.content)
        return texts

    assert through(started(url)[0], ask) == ["", "acme/base: ", "hello "]


def test_a_client_that_leaves_ends_the_request_in_the_engine(vllm, url):
    vllm.wait.clear()
    engine, _ = started(url)

    async def ask(client, http):
        asking = asyncio.ensure_future(chat("acme/base")(client, http))
        while not vllm.asked:
            await asyncio.sleep(0.005)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        while not vllm.num_closed:
            await asyncio.sleep(0.005)
        return vllm.num_closed

    assert through(engine, ask) == 1


def test_a_server_that_stops_cuts_open_answers_with_an_error(vllm, url):
    vllm.wait.clear()
    engine, _ = started(url)

    async def ask(client, http):
        asking = asyncio.ensure_future(chat("acme/base")(client, http))
        while not vllm.asked:
            await asyncio.sleep(0.005)
        engine.fail_open("the server stopped while it answered")
        with pytest.raises(openai.InternalServerError, match="the server stopped"):
            await asking

    through(engine, ask)


def test_an_engine_that_cannot_be_asked_stops_the_start(vllm):
    vllm.key = "secret"
    with listening(vllm.app) as url:
        with pytest.raises(ModelError, match="refuses the key") as caught:
            started(url, key="other")
        assert "KAMERTON_ENGINE_KEY" in caught.value.hint
        assert list(started(url, key="secret")[0].models) == ["acme/base"]
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        started(url)
    assert "start the engine first" in caught.value.hint
    with listening(make_app(Echo())) as url, pytest.raises(ModelError, match="is no engine"):
        started(f"{url}/health")
