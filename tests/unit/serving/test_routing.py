"""Routes: names that rules map to variants."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from kamerton.core.errors import SettingsError
from kamerton.core.requests import ServedModel
from kamerton.core.routing import Caller, Decision, Exposure
from kamerton.serving.exposures import Exposures
from kamerton.serving.routes import check_rules, read_rules
from kamerton.serving.routing import Router
from tests.unit.experiments.test_settings import LORA_AGAINST_PREFIX
from tests.unit.serving.test_gateway import HELLO, Echo, plain_client

ROUTES = """
[route.support]
default = "support-prompt"
rules = [
  { segment = "wholesale", variant = "prefix-wholesale" },
  { name = "russian", language = "ru", tenant = ["acme", "globex"], variant = "support-ru" },
  { key = "lab", header = { "X-Beta" = "1" }, split = { support-lora = 3, support-prefix = 1 } },
]
experiment = "lora-against-prefix"

[route.new]
default = "support-prompt"
shadow = ["support-prefix"]

[route.new.canary]
variant = "support-lora"
steps = [
  { at = 2026-12-01T09:00:00Z, share = 0.1 },
  { at = 2026-12-02T09:00:00Z, share = 0.5 },
  { at = 2026-12-03T09:00:00+03:00, share = 1.0 },
]
"""
VARIANTS = [
    "support-prompt", "support-lora", "support-prefix", "support-ru", "prefix-wholesale",
]  # fmt: skip
SERVED = {name: ServedModel(name, "lora", f"hash of {name}", "builtin:nano") for name in VARIANTS}
UNITS = [f"user-{number}" for number in range(2000)]


def written(folder, routes=ROUTES, experiment=LORA_AGAINST_PREFIX):
    (folder / "experiments").mkdir(exist_ok=True)
    (folder / "experiments" / "lora-against-prefix.toml").write_text(experiment)
    place = folder / "routes.toml"
    place.write_text(routes)
    return place


@pytest.fixture
def rules(tmp_path):
    found = read_rules(written(tmp_path))
    check_rules(found, SERVED)
    return found


def routing_engine() -> Echo:
    engine = Echo()
    engine.models = dict(SERVED)
    return engine


def test_the_first_rule_that_matches_decides(rules):
    router = Router(rules)
    wholesale = Caller(segment="wholesale", language="ru", tenant="acme")
    assert router.decide("support", wholesale) == Decision(
        "prefix-wholesale", "rule", "support", "rule 1", version=rules.version
    )
    for tenant in ("acme", "globex"):
        found = router.decide("support", Caller(language="ru", tenant=tenant))
        assert (found.variant, found.rule) == ("support-ru", "russian")
    # Everything that a rule says of who must hold.
    for caller in (Caller(language="ru"), Caller(tenant="acme"), Caller(language="en")):
        assert router.decide("support", caller).rule == "default"
    assert router.decide("support-lora", Caller()) is None
    assert router.decide("Support", Caller()) is None


def test_a_split_keeps_the_variant_of_a_unit(rules):
    def lab(unit):
        return Caller(key="lab", unit=unit, headers={"x-beta": "1"})

    first = [Router(rules).decide("support", lab(unit)) for unit in UNITS]
    assert first == [Router(rules).decide("support", lab(unit)) for unit in UNITS]
    found = Counter(one.variant for one in first)
    assert found["support-lora"] == pytest.approx(1500, abs=80)
    assert {(one.variant, one.propensity) for one in first} == {
        ("support-lora", 0.75), ("support-prefix", 0.25),
    }  # fmt: skip
    assert {one.reason for one in first} == {"split"}
    # Without a unit nothing is drawn.
    nobody = Router(rules).decide("support", lab(""))
    assert (nobody.variant, nobody.reason, nobody.rule) == ("support-prompt", "default", "rule 3")


def test_an_experiment_assigns_units_and_nobody_else(rules):
    router = Router(rules)
    found = [router.decide("support", Caller(unit=unit)) for unit in UNITS]
    assert Counter(one.arm for one in found)["lora"] == pytest.approx(1500, abs=80)
    assert {(one.experiment, one.reason) for one in found} == {
        ("lora-against-prefix", "experiment"),
    }  # fmt: skip
    assert {(one.variant, one.arm, one.propensity) for one in found} == {
        ("support-lora", "lora", 0.75), ("support-prefix", "prefix", 0.25),
    }  # fmt: skip
    nobody = router.decide("support", Caller(conversation="c-1"))
    assert (nobody.variant, nobody.experiment, nobody.arm) == ("support-prefix", "", "")


def test_units_outside_of_the_share_get_the_control_and_are_not_counted(tmp_path):
    experiment = LORA_AGAINST_PREFIX.replace("min_units", "share = 0.2\nmin_units")
    router = Router(read_rules(written(tmp_path, experiment=experiment)))
    whole = Router(read_rules(written(tmp_path)))
    inside = 0
    for unit in UNITS:
        found = router.decide("support", Caller(unit=unit))
        if found.experiment:
            inside += 1
            # A larger share keeps the arms of those who were inside.
            assert whole.decide("support", Caller(unit=unit)).arm == found.arm
        else:
            assert (found.variant, found.arm) == ("support-prefix", "")
    assert inside == pytest.approx(400, abs=60)


def test_a_canary_only_grows(rules):
    start = datetime(2026, 12, 1, 9, tzinfo=UTC)
    now = [start]
    router = Router(rules, clock=lambda: now[0])
    inside: set[str] = set()
    for hours, share in ((-1, 0.0), (0, 0.1), (23, 0.1), (24, 0.5), (45, 1.0), (99, 1.0)):
        now[0] = start + timedelta(hours=hours)
        found = {unit: router.decide("new", Caller(unit=unit)) for unit in UNITS}
        chosen = {unit for unit, one in found.items() if one.variant == "support-lora"}
        assert inside <= chosen
        assert len(chosen) == pytest.approx(share * len(UNITS), abs=70)
        assert {found[unit].propensity for unit in chosen} <= {share}
        inside = chosen
    assert router.decide("new", Caller()).variant == "support-prompt"


def test_a_shadow_is_never_who_answers(rules):
    assert Router(rules).decide("new", Caller()).shadows == ("support-prefix",)
    only = rules.routes["new"].model_copy(update={"shadow": ("support-prompt",)})
    changed = Router(type(rules)({"new": only}, {}, "1"))
    assert changed.decide("new", Caller()).shadows == ()


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        ('"support-ru"', '"supp0rt-ru"',
         ["russian: 'supp0rt-ru' is not served; did you mean 'support-ru'?"]),
        ("[route.new]", "[route.support-lora]",
         ["route.support-lora: a variant that is served has this name"]),
        ('default = "support-prompt"', 'default = "none"', ["route.support: default: 'none'"]),
        ('shadow = ["support-prefix"]', 'shadow = ["gone"]', ["route.new: shadow: 'gone'"]),
        ('split = { support-lora = 3', 'split = { loar = 3', ["rule 3: 'loar'"]),
    ],
)  # fmt: skip
def test_a_rule_must_name_what_is_served(tmp_path, old, new, problems):
    assert old in ROUTES
    rules = read_rules(written(tmp_path, ROUTES.replace(old, new, 1).replace(
        "[route.new.canary]", "[route.support-lora.canary]" if "-lora]" in new else
        "[route.new.canary]")))  # fmt: skip
    with pytest.raises(SettingsError) as caught:
        check_rules(rules, SERVED)
    for problem in problems:
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("segment =", "sgment =", "did you mean 'segment'"),
        ('{ segment = "wholesale", variant', "{ variant", "needs key, tenant, segment"),
        ('{ segment = "wholesale", variant = "prefix-wholesale" }', '{ segment = "wholesale" }',
         "needs variant, split, canary or experiment"),
        ("share = 0.5", "share = 0.05", "steps must follow in time and not shrink"),
        ("2026-12-02T09:00:00Z", "2026-11-02T09:00:00Z", "steps must follow in time"),
        ("2026-12-02T09:00:00Z", "2026-12-02T09:00:00", "timezone"),
        ("support-lora = 3", "support-lora = 0", "greater than 0"),
        ('"X-Beta" = "1"', 'Authorization = "x"', "authorization cannot be compared"),
        ('language = "ru"', 'language = "Russian"', 'must be a code such as "ru"'),
        ('experiment = "lora-against-prefix"', 'experiment = "../../etc/passwd"', "pattern"),
        ('experiment = "lora-against-prefix"', 'experiment = "none"', "no such file"),
        ('experiment = "lora-against-prefix"',
         'experiment = "lora-against-prefix"\nsplit = { a = 1 }', "one of split, canary and exp"),
        ("[route.support]", '[route."support\\r\\nx-evil: 1"]', "pattern"),
        ('{ segment = "wholesale"', '{ name = "russian", segment = "wholesale"', "must differ"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path, old, new, problem):
    assert old in ROUTES
    with pytest.raises(SettingsError, match=problem):
        read_rules(written(tmp_path, ROUTES.replace(old, new)))


def test_the_version_changes_with_rules_and_experiments(tmp_path, rules):
    assert read_rules(written(tmp_path)).version == rules.version
    changed = LORA_AGAINST_PREFIX.replace("weight = 3", "weight = 1")
    assert read_rules(written(tmp_path, experiment=changed)).version != rules.version
    assert read_rules(written(tmp_path, f"{ROUTES}# a comment\n")).version == rules.version


def test_clients_ask_for_a_route_and_get_a_variant(rules):
    async def ask():
        client = plain_client(routing_engine(), router=Router(rules))
        answers = []
        for model, headers, user in (
            ("support", {"x-kamerton-unit": "user-2"}, None),
            ("support", {}, "user-2"),
            ("support", {"x-kamerton-segment": "wholesale"}, None),
            ("support", {"accept-language": "ru-RU,ru;q=0.9", "x-kamerton-tenant": "acme"}, None),
            ("support-lora", {"x-kamerton-segment": "wholesale"}, "user-2"),
        ):
            body = {"model": model, "messages": HELLO, "user": user}
            answers.append(await client.post("/v1/chat/completions", json=body, headers=headers))
        return (
            answers,
            (await client.get("/v1/models")).json(),
            await client.get("/v1/models/support"),
        )

    answers, models, card = asyncio.run(ask())
    assert [one.status_code for one in answers] == [200] * 5
    header, field, wholesale, russian, named = (one.headers for one in answers)
    for one in (header, field):
        assert one["x-kamerton-variant"] == "support-lora"
        assert one["x-kamerton-route"] == "support"
        assert one["x-kamerton-experiment"] == "lora-against-prefix"
        assert one["x-kamerton-arm"] == "lora"
    assert answers[0].json()["model"] == "support-lora"
    assert wholesale["x-kamerton-variant"] == "prefix-wholesale"
    assert "x-kamerton-arm" not in wholesale
    assert russian["x-kamerton-variant"] == "support-ru"
    assert named["x-kamerton-variant"] == "support-lora"
    assert "x-kamerton-route" not in named
    listed = {one["id"]: one["kind"] for one in models["data"]}
    assert listed == dict.fromkeys(VARIANTS, "lora") | {"support": "route", "new": "route"}
    assert card.json()["artefact"] == rules.version


def test_unknown_names_are_404_and_a_variant_that_went_away_is_503(rules):
    engine = routing_engine()

    async def ask(name):
        client = plain_client(engine, router=Router(rules))
        body = {"model": name, "messages": HELLO}
        return await client.post("/v1/chat/completions", json=body)

    for name in ("supp0rt", "support\r\nx-evil: 1", "", "../support", "route.support"):
        answer = asyncio.run(ask(name))
        assert answer.status_code == 404, name
        assert "x-evil" not in answer.headers
        assert "x-kamerton-route" not in answer.headers
    del engine.models["support-prefix"]
    answer = asyncio.run(ask("support"))
    assert answer.status_code == 503
    assert "leads to 'support-prefix'" in answer.json()["error"]["message"]


def test_a_unit_is_exposed_once_when_its_arm_is_decided(rules):
    exposures = []

    async def ask():
        engine = routing_engine()
        client = plain_client(engine, router=Router(rules), log_exposure=exposures.append)
        for user in ("user-2", "user-2", None, "user-3"):
            body = {"model": "support", "messages": HELLO, "user": user}
            await client.post("/v1/chat/completions", json=body)
        # What is no answer exposes nobody.
        await client.post("/v1/embeddings", json={"model": "support", "input": "x", "user": "u9"})
        await client.post("/v1/chat/completions", json={"model": "new", "messages": HELLO})

    asyncio.run(ask())
    assert [(one.experiment, one.unit, one.arm, one.propensity) for one in exposures] == [
        ("lora-against-prefix", "user-2", "lora", 0.75),
        ("lora-against-prefix", "user-3", "prefix", 0.25),
    ]


def test_exposures_are_remembered_up_to_a_limit():
    exposures = []
    log = Exposures(exposures.append, most_remembered=2)
    for unit in ("a", "b", "a", "c", "a"):
        log.note(Exposure("test", unit, "arm"))
    log.note(None)
    assert [one.unit for one in exposures] == ["a", "b", "c", "a"]


def test_a_rule_must_name_a_key_of_the_server(rules):
    check_rules(rules, SERVED, ["lab", "shop"])
    check_rules(rules, SERVED, None)
    with pytest.raises(SettingsError, match="rule 3: the server has no key 'lab'; did you mean"):
        check_rules(rules, SERVED, ["labs"])
    with pytest.raises(SettingsError, match="has no key 'lab'$"):
        check_rules(rules, SERVED, [])
