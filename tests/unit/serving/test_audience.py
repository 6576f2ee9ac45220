"""A variant that was made for a customer is not there for anybody else."""

import asyncio
from dataclasses import replace

import pytest

from kamerton.core.audience import AudienceSettings
from kamerton.core.errors import SettingsError
from kamerton.serving.keys import ApiKey, hash_key
from kamerton.serving.routes import check_rules, read_rules
from kamerton.serving.routing import Router
from tests.unit.serving.test_gateway import HELLO, plain_client
from tests.unit.serving.test_routing import SERVED, routing_engine, written

KEYS = [
    ApiKey(name="acme's", sha256=hash_key("acme"), tenant="acme"),
    ApiKey(name="globex's", sha256=hash_key("globex"), tenant="globex"),
    ApiKey(name="backend", sha256=hash_key("backend")),
]
ROUTES = """
[route.support]
default = "support-lora"
shadow = ["support-ru"]
rules = [{ tenant = "acme", variant = "support-ru" }]
[route.shadowed]
default = "support-lora"
shadow = ["support-ru", "support-prompt"]
"""


@pytest.fixture
def engine():
    found = routing_engine()
    audience = AudienceSettings(tenants=("acme",))
    found.models["support-ru"] = replace(SERVED["support-ru"], audience=audience)
    return found


def status(engine, tmp_path, model, key="backend", **headers):
    rules = read_rules(written(tmp_path, ROUTES))
    check_rules(rules, engine.models)

    async def ask():
        client = plain_client(engine, keys=KEYS, router=Router(rules))
        client.headers.update({"authorization": f"Bearer {key}", **headers})
        answer = await client.post("/v1/chat/completions", json={"model": model, "messages": HELLO})
        others = [
            (await client.post("/v1/embeddings", json={"model": model, "input": "x"})).status_code,
            (
                await client.post("/v1/completions", json={"model": model, "prompt": "x"})
            ).status_code,
        ]
        listed = [one["id"] for one in (await client.get("/v1/models")).json().get("data", ())]
        card = (await client.get(f"/v1/models/{model}")).status_code
        return answer, others, listed, card

    return asyncio.run(ask())


def test_another_customer_gets_404_by_name_and_in_the_list(engine, tmp_path):
    answer, others, listed, card = status(engine, tmp_path, "support-ru", "acme")
    assert (answer.status_code, others, card) == (200, [200, 200], 200)
    assert "support-ru" in listed
    for key, headers in (
        ("globex", {}),
        ("backend", {}),
        ("backend", {"x-kamerton-tenant": "globex"}),
    ):
        answer, others, listed, card = status(engine, tmp_path, "support-ru", key, **headers)
        assert (answer.status_code, others, card) == (404, [404, 404], 404)
        # The message does not tell that there is one of this name.
        assert "served are" in answer.json()["error"]["message"]
        assert "support-ru" not in answer.json()["error"]["message"].split("served are")[1]
        assert "support-ru" not in listed
    # A key that is no customer's is trusted to say whose request it is.
    answer, *_ = status(engine, tmp_path, "support-ru", **{"x-kamerton-tenant": "acme"})
    assert answer.status_code == 200


def test_a_key_cannot_say_that_it_is_another_customers(engine, tmp_path):
    answer, *_ = status(engine, tmp_path, "support-ru", "globex", **{"x-kamerton-tenant": "acme"})
    assert answer.status_code == 403


def test_a_route_leads_only_its_audience_there(engine, tmp_path):
    for key, variant in (("acme", "support-ru"), ("globex", "support-lora")):
        answer, *_ = status(engine, tmp_path, "support", key)
        assert answer.headers["x-kamerton-variant"] == variant


@pytest.mark.parametrize(
    ("old", "new", "label"),
    [
        ('default = "support-lora"', 'default = "support-ru"', "default"),
        ('tenant = "acme"', 'tenant = ["acme", "globex"]', "rule 1"),
        ('tenant = "acme"', 'segment = "acme"', "rule 1"),
        ('tenant = "acme", variant = "support-ru"', 'key = "lab", split = { support-ru = 1 }',
         "rule 1"),
    ],
)  # fmt: skip
def test_a_rule_for_more_than_the_audience_is_an_error_at_load(engine, tmp_path, old, new, label):
    assert old in ROUTES
    rules = read_rules(written(tmp_path, ROUTES.replace(old, new, 1)))
    with pytest.raises(SettingsError, match=f"{label}: 'support-ru' is not for everybody"):
        check_rules(rules, engine.models)


def test_a_customers_variant_shadows_no_other_customers_requests(engine, tmp_path):
    rules = read_rules(written(tmp_path, ROUTES))
    records = []

    async def ask():
        client = plain_client(
            engine, keys=KEYS, router=Router(rules), write_access=records.append
        )  # fmt: skip
        for key in ("acme", "globex"):
            client.headers["authorization"] = f"Bearer {key}"
            body = {"model": "shadowed", "messages": HELLO}
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200

    asyncio.run(ask())
    assert [one.decision.shadows for one in records] == [
        ("support-ru", "support-prompt"), ("support-prompt",),
    ]  # fmt: skip
