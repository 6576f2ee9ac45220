"""OpenFeature's remote evaluation: the SDK and its provider against a real server on loopback."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from openfeature.api import clear_providers, get_client, set_provider_and_wait, shutdown
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagEvaluationDetails

from kamerton.core.audience import AudienceSettings
from kamerton.core.routing import Caller, Exposure
from kamerton.serving.app import make_app
from kamerton.serving.keys import ApiKey, hash_key
from kamerton.serving.routes import check_rules, read_rules
from kamerton.serving.routing import Router
from tests.unit.serving.test_gateway import plain_client
from tests.unit.serving.test_routing import ROUTES, SERVED, UNITS, routing_engine, written

KEYS = [
    ApiKey(name="shop", sha256=hash_key("shop")),
    ApiKey(name="acme's", sha256=hash_key("acme"), tenant="acme"),
    ApiKey(name="judge", sha256=hash_key("judge"), scopes=("rate",)),
]


@pytest.fixture
def router(tmp_path) -> Router:
    found = read_rules(written(tmp_path, ROUTES.replace("2026-12-0", "2020-12-0")))
    check_rules(found, SERVED)
    return Router(found)


@contextmanager
def loopback(app) -> Iterator[str]:
    """Serve an application on a free port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextmanager
def sdk(app, key: str = "shop") -> Iterator[OFREPProvider]:
    with loopback(app) as address:
        provider = OFREPProvider(
            address, headers_factory=lambda: {"Authorization": f"Bearer {key}"}
        )
        set_provider_and_wait(provider)
        try:
            yield provider
        finally:
            provider.session.close()
            shutdown()
            clear_providers()


def ask(flag: str, unit: str = "", **attributes: str) -> FlagEvaluationDetails[str]:
    context = EvaluationContext(unit, attributes)
    return get_client().get_string_details(flag, "fallback", context)


def test_an_sdk_gets_the_arm_that_the_router_gives(router):
    exposures: list[Exposure] = []
    app = make_app(routing_engine(), router=router, keys=KEYS, log_exposure=exposures.append)
    with sdk(app):
        found = {unit: ask("support", unit) for unit in UNITS[:12]}
        named = ask("lora-against-prefix", "user-2")
        rule = ask("support", "user-2", segment="wholesale")
        russian = ask("support", language="ru-RU", tenant="globex")
        canary = ask("new", "user-2")
    for unit, details in found.items():
        decision = router.decide("support", Caller(unit=unit))
        assert (details.value, details.variant) == (decision.variant, decision.arm)
        assert details.reason == "SPLIT"
        assert details.flag_metadata == {
            "route": "support",
            "rule": "default",
            "experiment": "lora-against-prefix",
            "arm": decision.arm,
            "propensity": decision.propensity,
            "artefact": f"hash of {decision.variant}",
            "version": router.rules.version,
        }
    assert {one.arm for one in exposures} == {"lora", "prefix"}
    assert [(one.experiment, one.unit, one.arm) for one in exposures[:12]] == [
        ("lora-against-prefix", unit, details.variant) for unit, details in found.items()
    ]
    assert (named.value, named.variant) == (found["user-2"].value, found["user-2"].variant)
    # Each unit is exposed once, by whatever name, and rules expose nobody.
    assert len(exposures) == 12
    assert (rule.value, rule.reason) == ("prefix-wholesale", "TARGETING_MATCH")
    assert (russian.value, russian.reason) == ("support-ru", "TARGETING_MATCH")
    assert (canary.value, canary.variant, canary.reason) == ("support-lora", "canary", "SPLIT")


def test_an_sdk_is_told_what_is_wrong(router):
    exposures: list[Exposure] = []
    app = make_app(routing_engine(), router=router, keys=KEYS, log_exposure=exposures.append)
    with sdk(app):
        nobody, unknown = ask("support"), ask("supp0rt", "user-1")
        router.stop_arm("lora-against-prefix", "lora", by_whom="anna")
        stopped = ask("support", "user-2")
    assert (nobody.value, nobody.error_code) == ("fallback", "TARGETING_KEY_MISSING")
    assert (unknown.value, unknown.error_code) == ("fallback", "FLAG_NOT_FOUND")
    assert (stopped.value, stopped.reason) == ("support-prefix", "DISABLED")
    assert exposures == []
    with sdk(app, "wrong"):
        assert ask("support", "user-1").error_code == "GENERAL"


def post(router, path="", body=None, key="shop", engine=None, content=None, **headers):
    log = []

    async def go():
        client = plain_client(
            engine or routing_engine(), router=router, keys=KEYS, log_exposure=log.append
        )
        client.headers.update({"authorization": f"Bearer {key}", **headers})
        sent = {"content": content} if content is not None else {"json": body}
        return await client.post(f"/ofrep/v1/evaluate/flags{path}", **sent)

    return asyncio.run(go()), log


def unit(name: str, **context) -> dict:
    return {"context": {"targetingKey": name, **context}}


def test_all_flags_come_together_and_again_only_when_they_changed(router):
    first, exposed = post(router, body=unit("user-2"))
    assert first.status_code == 200
    found = {one["key"]: one for one in first.json()["flags"]}
    assert list(found) == ["support", "new", "lora-against-prefix"]
    assert found["support"]["variant"] == found["lora-against-prefix"]["variant"] == "lora"
    assert len(exposed) == 1
    tag = first.headers["etag"]
    same, exposed = post(router, body=unit("user-2"), **{"if-none-match": f'W/"x", {tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert exposed == []
    other, _ = post(router, body=unit("user-3"), **{"if-none-match": tag})
    assert other.status_code == 200
    router.stop_arm("lora-against-prefix", "lora", by_whom="anna")
    changed, _ = post(router, body=unit("user-2"), **{"if-none-match": tag})
    assert changed.status_code == 200
    nobody, _ = post(router, body={})
    codes = {one["key"]: one.get("errorCode") for one in nobody.json()["flags"]}
    assert set(codes.values()) == {"TARGETING_KEY_MISSING"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "PARSE_ERROR"),
        (b"[]", "PARSE_ERROR"),
        (b'{"context": 7}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": 7}}', "INVALID_CONTEXT"),
        (b"", "TARGETING_KEY_MISSING"),
        (b'{"context": {"targetingKey": "  "}}', "TARGETING_KEY_MISSING"),
    ],
)
def test_wrong_bodies_are_errors_of_the_protocol(router, content, code):
    answer, _ = post(router, "/support", content=content)
    assert answer.status_code == 400
    assert (answer.json()["errorCode"], answer.json()["key"]) == (code, "support")
    assert answer.json()["errorDetails"]


def test_keys_guard_it_like_the_rest(router):
    assert post(router, "/support", unit("u"), "nobody's")[0].status_code == 401
    assert post(router, "/support", unit("u"), "judge")[0].status_code == 403
    other = post(router, "/support", unit("u", tenant="globex"), "acme")[0]
    assert (other.status_code, other.json()["errorCode"]) == (400, "INVALID_CONTEXT")
    own = post(router, "/support", unit("u", language="ru"), "acme")[0]
    assert own.json()["value"] == "support-ru"


def test_a_variant_for_others_is_no_flag(router):
    engine = routing_engine()
    for name in ("support-prefix", "support-lora"):
        engine.models[name] = SERVED[name].__class__(
            name, "lora", "x", "builtin:nano", audience=AudienceSettings(tenants=("globex",))
        )
    answer, exposed = post(router, "/support", unit("user-2"), engine=engine)
    assert (answer.status_code, answer.json()["errorCode"]) == (404, "FLAG_NOT_FOUND")
    every, _ = post(router, body=unit("user-2"), engine=engine)
    assert every.json()["flags"] == []
    assert exposed == []


def test_strange_names_of_flags_are_looked_up_and_nothing_else(router):
    for name in ("%2e%2e%2fsupport", "support%0d%0ax-evil:%201", "__class__", "a" * 5000):
        answer, _ = post(router, f"/{name}", unit("user-1"))
        assert answer.status_code == 404
        assert "x-evil" not in answer.headers


def test_the_client_of_this_file_is_plain_http(router):
    with loopback(make_app(routing_engine(), router=router)) as address:
        answer = httpx.post(f"{address}/ofrep/v1/evaluate/flags/support", json=unit("user-2"))
    assert answer.json()["variant"] == "lora"
