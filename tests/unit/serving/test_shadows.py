"""Shadows: copies of requests that no client ever sees or waits for."""

import asyncio

import pytest
from sqlalchemy import select

from kamerton.core.routing import Caller
from kamerton.serving.admission import Admission
from kamerton.serving.recording import Recording
from kamerton.serving.route_settings import RoutesFile
from kamerton.serving.routes import Rules, read_rules
from kamerton.serving.routing import Router
from kamerton.serving.routing_counts import SILENT_AFTER, ShadowOutcome
from kamerton.serving.shadows import Shadows
from kamerton.store import tables
from kamerton.store.database import open_store
from kamerton.store.traffic import exposures_of
from tests.unit.experiments.test_settings import LORA_AGAINST_PREFIX
from tests.unit.serving.test_gateway import HELLO, plain_client
from tests.unit.serving.test_routing import routing_engine, written

TESTED = """
[route.tested]
default = "support-prompt"
shadow = ["support-ru"]
experiment = "lora-against-prefix"
"""
ROUTE = {"default": "support-prompt", "shadow": ["support-lora"]}


def router_of(**options) -> Router:
    routes = RoutesFile.parse({"route": {"new": ROUTE}}).route
    return Router(Rules(routes, {}, "1"), **options)


@pytest.fixture
def engine():
    return routing_engine()


async def settled(client, engine, number: int) -> None:
    """Wait until the engine was asked so often and nothing is going on."""
    for _ in range(400):
        await asyncio.sleep(0.005)
        if len(engine.asked) >= number and client.app.state.shadows.is_idle:
            return
    raise AssertionError([one.model for one in engine.asked])


def gateway(engine, router, **options):
    kept = []
    client = plain_client(
        engine, router=router, record_shadow=lambda *said: kept.append(said), **options
    )
    client.app = client._transport.app
    client.kept = kept
    return client


BODY = {"model": "new", "messages": HELLO, "temperature": 0.5}


def test_a_shadow_answers_after_the_client_and_is_recorded_only(engine):
    router = router_of()

    async def go():
        client = gateway(engine, router)
        whole = await client.post("/v1/chat/completions", json={**BODY, "n": 2})
        # When the client has its answer, the shadow has not been asked.
        assert [one.model for one in engine.asked] == ["support-prompt"] * 2
        await settled(client, engine, 4)
        stream = await client.post("/v1/chat/completions", json={**BODY, "stream": True})
        await settled(client, engine, 6)
        return whole, stream, client.kept, (await client.get("/metrics")).text

    whole, stream, kept, metrics = asyncio.run(go())
    assert [one.model for one in engine.asked[2:4]] == ["support-lora"] * 2
    assert "support-lora" not in whole.text + stream.text + str(whole.headers)
    first, second = engine.asked[0], engine.asked[2]
    assert (second.chat, second.generation.temperature) == (first.chat, 0.5)
    assert second.artefact == "hash of support-lora"
    assert second.id != first.id
    record, shadow_of = kept[0]
    assert shadow_of == whole.json()["id"]
    assert (record.model, record.status, record.decision.route) == ("support-lora", 200, "new")
    assert (record.decision.variant, record.decision.shadows) == ("support-lora", ())
    assert (len(record.answers), record.num_tokens) == (2, 6)
    assert len(kept) == 2
    assert ('kamerton_shadow_requests_total{route="new",variant="support-lora",'
            'outcome="answered"} 2') in metrics  # fmt: skip
    assert ('kamerton_routed_requests_total{route="new",rule="default",reason="default",'
            'experiment="",arm="",variant="support-prompt"} 2') in metrics  # fmt: skip
    assert 'kamerton_shadow_silent{route="new",variant="support-lora"} 0' in metrics


def test_what_its_client_did_not_get_is_not_copied(engine):
    router = router_of()

    async def go():
        client = gateway(engine, router)
        for words in ("broken", "toolong"):
            body = {**BODY, "messages": [{"role": "user", "content": words}]}
            assert (await client.post("/v1/chat/completions", json=body)).status_code != 200
        await asyncio.sleep(0.02)

    asyncio.run(go())
    assert {one.model for one in engine.asked} == {"support-prompt"}
    assert router.counts.shadows == {ShadowOutcome("new", "support-lora", "dropped"): 2}


def test_a_shadow_that_fails_is_counted_and_hurts_nobody(engine):
    router = router_of()
    plain = engine.answer

    async def answer(request):
        if request.model == "support-lora":
            raise OSError("no more memory")
        async for update in plain(request):
            yield update

    engine.answer = answer

    async def go():
        client = gateway(engine, router)
        for _ in range(2):
            answer = await client.post("/v1/chat/completions", json=BODY)
            assert answer.status_code == 200
            await asyncio.sleep(0.02)
        assert client.kept == []

    asyncio.run(go())
    assert router.counts.shadows == {ShadowOutcome("new", "support-lora", "failed"): 2}


def test_a_busy_server_computes_no_shadow(engine):
    router = router_of()

    async def go():
        client = gateway(engine, router, most_open_beside_shadows=0)
        engine.pause_s = 0.02
        answers = await asyncio.gather(
            *(client.post("/v1/chat/completions", json=BODY) for _ in range(3))
        )
        assert {one.status_code for one in answers} == {200}
        # The last client has left: now the copies are computed, and another client ends them.
        while "support-lora" not in [one.model for one in engine.asked]:
            await asyncio.sleep(0.005)
        started = [one.id for one in engine.asked if one.model == "support-lora"]
        await client.post("/v1/chat/completions", json={**BODY, "model": "support-ru"})
        assert set(started) <= set(engine.cancelled)

    asyncio.run(go())
    assert router.counts.shadows[ShadowOutcome("new", "support-lora", "dropped")] == 3


def test_waiting_copies_are_bounded(engine):
    router = router_of()

    async def go():
        # Busy for ever: a copy never begins.
        shadows = Shadows(engine, Admission(9), router.counts, most_open=-1, most_waiting=2)
        records = []
        client = gateway(engine, router, write_access=records.append)
        client.app.state.shadows = shadows
        for _ in range(5):
            await client.post("/v1/chat/completions", json=BODY)
            shadows.release(records[-1])

    asyncio.run(go())
    assert router.counts.shadows == {ShadowOutcome("new", "support-lora", "dropped"): 3}


def test_a_shadow_without_answers_raises_the_alarm_once():
    events = []
    router = router_of(audit=events.append)
    decision = router.decide("new", Caller())
    for _ in range(SILENT_AFTER + 5):
        router.count(decision)
    assert list(router.counts.silent) == [("new", "support-lora", True)]
    assert [(one.what, one.detail["shadow"]) for one in events] == [
        ("shadow silent", "support-lora")
    ]
    router.counts.add_shadow("new", "support-lora", "failed")
    assert list(router.counts.silent) == [("new", "support-lora", True)]
    router.counts.add_shadow("new", "support-lora", "answered")
    assert list(router.counts.silent) == [("new", "support-lora", False)]
    router.load(Rules(), "anna")
    assert list(router.counts.silent) == []


def test_shadows_and_exposures_are_rows_of_the_store(tmp_path, engine):
    experiment = LORA_AGAINST_PREFIX.replace("weight = 3", "weight = 1e6")
    place = written(tmp_path, TESTED, experiment)
    router = Router(read_rules(place))

    async def go():
        with open_store(tmp_path / "k.db") as store:
            recording = Recording(store)
            recording.start()
            client = plain_client(engine, router=router, recording=recording)
            client.app = client._transport.app
            body = {**BODY, "model": "tested", "user": "user-1"}
            answer = (await client.post("/v1/chat/completions", json=body)).json()
            await settled(client, engine, 2)
            recording.stop()
            with store.begin() as connection:
                exposures = exposures_of(connection, "lora-against-prefix")
                table = tables.requests
                rows = connection.execute(select(table).order_by(table.c.shadow_of)).all()
                return answer, exposures, rows

    answer, exposures, (own, shadow) = asyncio.run(go())
    assert [(one.unit, one.arm) for one in exposures] == [("user-1", "lora")]
    assert (own.variant, own.arm, own.route, own.shadow_of) == (
        "support-lora", "lora", "tested", None,
    )  # fmt: skip
    assert own.routing_version == router.rules.version
    assert (shadow.variant, shadow.shadow_of) == ("support-ru", answer["id"])
    # A shadow's answer is not one of the arm's.
    assert (shadow.route, shadow.experiment, shadow.arm) == ("tested", "", "")
