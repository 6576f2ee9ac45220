"""Several engines behind a gateway: who is asked, who is left out, what is tried again."""

import asyncio

import openai
import pytest
from starlette.responses import JSONResponse

from kamerton.serving.replicas import Replica, Replicas
from kamerton.serving.upstream import Upstream, UpstreamError, server_sent_events
from tests.unit.serving.test_upstream_engine import HELLO, chat, started, through
from tests.unit.serving.upstream_servers import Vllm, listening


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pair(clock):
    """Two engines that have the model "m"."""
    said = []
    made = Replicas([Replica(Upstream(f"http://h:{n}")) for n in (1, 2)], said.append, clock=clock)
    for replica in made.replicas:
        replica.models, replica.is_reachable = {"m"}, True
    return made


def choose(replicas, tried=(), model="m"):
    return asyncio.run(replicas.choose(model, tried))


def test_the_least_loaded_is_chosen_and_equal_ones_take_turns(pair):
    one, two = pair.replicas
    assert {choose(pair), choose(pair)} == {one, two}
    with pair.asked(one):
        assert [choose(pair) for _ in range(3)] == [two] * 3
        with pair.asked(two), pair.asked(two):
            assert choose(pair) is one
    two.models = {"other"}
    assert choose(pair) is one
    assert choose(pair, [one]) is None


def test_an_engine_that_fails_is_left_out_for_longer_and_longer(pair, clock):
    one, two = pair.replicas
    for _ in range(3):
        pair.fail(one, UpstreamError(500, "broken"))
    assert one.out_until == clock.now + 4
    assert [choose(pair) for _ in range(3)] == [two] * 3
    # It is better than none.
    assert choose(pair, [two]) is one
    clock.now += 4
    assert one in {choose(pair), choose(pair)}
    pair.hear(one)
    pair.fail(one, UpstreamError(500, "broken"))
    assert one.out_until == clock.now + 1


def test_an_engine_that_asks_for_time_is_not_asked_before(pair, clock):
    one, two = pair.replicas
    pair.fail(one, UpstreamError(429, "full", retry_after_s=7))
    pair.fail(two, UpstreamError(429, "full", retry_after_s=3.5))
    assert choose(pair) is None
    refusal = pair.refusal("m", None)
    assert (refusal.status, refusal.headers) == (429, {"Retry-After": "4"})
    clock.now += 3.5
    assert choose(pair) is two
    clock.now += 3.5
    assert choose(pair, [two]) is one


def test_a_request_at_fault_says_nothing_about_its_engine(pair):
    one, _ = pair.replicas
    pair.fail(one, UpstreamError(400, "too long"))
    pair.fail(one, UpstreamError(404, "no such model"))
    assert (one.out_until, one.busy_until, one.is_reachable) == (0, 0, True)


def test_more_requests_than_an_engine_may_have_wait(clock):
    replicas = Replicas([Replica(Upstream("http://h:1"))], print, limit_open=1, clock=clock)
    replicas.replicas[0].models = {"m"}
    seen = []

    async def ask(name):
        found = await replicas.choose("m")
        with replicas.asked(found):
            seen.append((name, found.num_open))
            await asyncio.sleep(0)

    async def ask_all():
        asking = [asyncio.ensure_future(ask(name)) for name in range(4)]
        await asyncio.sleep(0)
        asking[1].cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    asyncio.run(ask_all())
    assert seen == [(0, 1), (2, 1), (3, 1)]


def test_a_place_in_an_engine_that_works_is_waited_for(clock):
    good, gone = (Replica(Upstream(f"http://h:{n}")) for n in (1, 2))
    replicas = Replicas([good, gone], print, limit_open=1, clock=clock)
    good.models = gone.models = {"m"}
    good.is_reachable = True

    async def ask():
        with replicas.asked(good):
            waiting = asyncio.ensure_future(replicas.choose("m"))
            await asyncio.sleep(0)
            assert not waiting.done()
        return await waiting

    assert asyncio.run(ask()) is good


@pytest.fixture
def two():
    """Two engines on sockets, with their addresses."""
    engines = Vllm(), Vllm()
    with listening(engines[0].app) as one, listening(engines[1].app) as other:
        yield engines, (one, other)


def ask_often(number):
    async def ask(client, http):
        return [await chat("acme/base")(client, http) for _ in range(number)]

    return ask


def test_a_request_that_an_engine_fails_is_answered_by_the_other(two):
    (one, other), urls = two
    one.errors = [JSONResponse({"error": {"message": "out of memory"}}, 500)] * 9
    answers = through(started(urls)[0], ask_often(3))
    assert len(answers) == 3
    # It was asked once, and then left alone for a while.
    assert (len(one.asked), len(one.errors), len(other.asked)) == (0, 8, 3)


def test_an_engine_that_stops_gets_nothing_until_it_is_back(two):
    (one, other), urls = two
    with listening(Vllm().app) as third:
        engine, said = started([third, urls[1]], health_s=0.02)
    answers = through(engine, ask_often(4))
    assert len(answers) == 4
    assert len(other.asked) == 4
    (notice,) = said
    assert notice.message.startswith(f"{third} gets no requests for now: the engine cannot be")
    engine._replicas.replicas[0].upstream.url = urls[0]

    async def wait(client, http):
        while len(said) < 2:
            await asyncio.sleep(0.01)
        return await ask_often(4)(client, http)

    through(engine, wait)
    assert said[1].message == f"the engine at {urls[0]} is back"
    assert len(one.asked) == 2


def test_an_answer_that_has_begun_is_not_begun_again(two):
    (one, other), urls = two
    one.break_after = other.break_after = 2

    async def ask(client, http):
        stream = await client.chat.completions.create(
            model="acme/base", messages=HELLO, stream=True
        )
        return [chunk.choices[0].delta.content async for chunk in stream]

    with pytest.raises(openai.APIError, match="ended its answer in the middle"):
        through(started(urls)[0], ask)
    assert len(one.asked) + len(other.asked) == 1


def test_an_answer_that_breaks_off_before_its_first_piece_is_begun_elsewhere(two):
    (one, other), urls = two
    one.break_after = 0
    assert len(through(started(urls)[0], ask_often(2))) == 2
    assert (len(one.asked), len(other.asked)) == (1, 2)


def test_all_busy_is_429_with_the_shortest_wait_and_is_not_asked_again(two):
    (one, other), urls = two
    one.errors = [JSONResponse({}, 429, {"Retry-After": "30"})]
    other.errors = [JSONResponse({}, 503, {"Retry-After": "20"})]

    async def ask(client, http):
        refusals = []
        for _ in range(2):
            with pytest.raises(openai.APIStatusError) as caught:
                await chat("acme/base")(client, http)
            refusals.append(caught.value)
        return refusals

    refusals = through(started(urls)[0], ask)
    assert {int(each.response.headers["retry-after"]) for each in refusals} == {20}
    assert refusals[1].status_code == 429
    assert not one.asked
    assert not other.asked


def test_one_engine_that_cannot_be_reached_does_not_stop_the_start(two):
    (_, other), urls = two
    with listening(Vllm().app) as gone:
        pass
    engine, said = started([gone, urls[1]])
    assert "gets no requests for now" in said[0].message
    assert len(through(engine, ask_often(2))) == 2
    assert len(other.asked) == 2


def test_all_gone_is_a_clear_503():
    with listening(Vllm().app) as gone:
        engine, _ = started(gone)

    async def ask(client, http):
        with pytest.raises(openai.InternalServerError, match="cannot be reached") as first:
            await chat("acme/base")(client, http)
        ready = await http.get("/ready")
        with pytest.raises(openai.InternalServerError, match="not ready"):
            await chat("acme/base")(client, http)
        return first.value.status_code, ready.status_code

    assert through(engine, ask) == (503, 503)


def test_a_key_is_sent_and_nobody_is_told(two, caplog):
    (one, _), urls = two
    one.key = "top-secret"
    engine, said = started(urls[0], key="top-secret", health_s=0.01)
    assert list(engine.models) == ["acme/base"]

    async def ask(client, http):
        one.errors = [JSONResponse({"error": "wrong key"}, 401)]
        with pytest.raises(openai.InternalServerError) as caught:
            await chat("acme/base")(client, http)
        return str(caught.value) + (await http.get("/metrics")).text

    seen = through(engine, ask)
    assert "refuses the gateway's key" in seen
    assert "top-secret" not in seen + repr(said) + caplog.text + repr(engine.models)


def test_events_end_at_line_feeds_only():
    async def pieces():
        yield b': ping\n\ndata: {"a": "\xe2\x80\xa8'
        yield b'"}\r\n\r\ndata:2\n\n'
        yield b"data: [DONE]\n\ndata: 3"

    async def read():
        return [data async for data in server_sent_events(pieces())]

    assert asyncio.run(read()) == ['{"a": "\u2028"}', "2"]
