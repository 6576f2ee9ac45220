"""Who may ask what, and names, values and texts that mean harm, on all ways into the live half."""

import asyncio
import json
import logging
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from kamerton.core.errors import SettingsError
from kamerton.evaluation.live_metrics import BUILT_IN
from kamerton.experiments.settings import ExperimentSettings
from kamerton.flows.feedback import export_feedback, import_feedback
from kamerton.serving.access_log import access_log
from kamerton.serving.admin import make_admin_app
from kamerton.serving.app import make_app
from kamerton.serving.keys import ApiKey, hash_key
from kamerton.serving.record_policy import RecordPolicy
from kamerton.serving.routes import RouteSettings, Rules
from kamerton.serving.routing import Router
from kamerton.serving.switching import Switching
from kamerton.store.database import open_store
from kamerton.store.feedback import Feedback, add_feedback, latest_feedback
from kamerton.store.traffic import RequestRow, add_requests
from tests.unit.serving.recorded import ask, recording_client, rows_of
from tests.unit.serving.test_admin import Engine
from tests.unit.serving.test_gateway import Echo

SCOPES = ("use", "rate", "admin")
KEYS = [ApiKey(name=scope, sha256=hash_key(scope), scopes=(scope,)) for scope in SCOPES]
NEEDED = {
    "/": "", "/health": "", "/live": "", "/ready": "", "/feedback.js": "",
    "/page.css": "", "/page.js": "",
    "/metrics": "any", "/openapi.json": "any", "/v1/models": "any",
    "/v1/feedback": "rate",
    "/v1/models/{name:path}": "use", "/v1/chat/completions": "use", "/v1/completions": "use",
    "/v1/metrics": "use", "/v1/embeddings": "use", "/tokenize": "use", "/detokenize": "use",
    "/tokenizer_info": "use", "/ofrep/v1/evaluate/flags": "use",
    "/ofrep/v1/evaluate/flags/{key}": "use",
}  # fmt: skip
HOSTILE = [
    "'; DROP TABLE requests; --",
    '" OR 1=1 --',
    'x"} 1\nkamerton_rows_lost_total 99',
    "%s %(a)s {0} ${jndi:ldap://x}",
    "=HYPERLINK(1)",
    "<script>alert(1)</script>",
    "../../../etc/passwd",
    "пользователь 🙂",
]


def statuses(app, method, path):
    """The status without a key and with each one, by its scope."""
    # Whoever is let in may ask for what the fake engine has not.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def ask_all():
        client = httpx.AsyncClient(transport=transport, base_url="http://served")
        found = {}
        for scope in ("", *SCOPES):
            headers = {"Authorization": f"Bearer {scope}"} if scope else {}
            answer = await client.request(method, path, headers=headers, content=b"{}")
            found[scope] = answer.status_code
        return found

    return asyncio.run(ask_all())


def test_every_path_asks_for_its_scope():
    app = make_app(Echo(), keys=KEYS)
    assert {route.path for route in app.routes} == set(NEEDED)
    for route in app.routes:
        method = "POST" if "POST" in route.methods else "GET"
        needed = NEEDED[route.path]
        found = statuses(app, method, route.path.replace("{name:path}", "shop"))
        assert (found.pop("") == 401) == bool(needed), route.path
        if needed in SCOPES:
            allowed = found.pop(needed)
            assert set(found.values()) == {403}, route.path
        else:
            (allowed,) = set(found.values())
        assert allowed not in (401, 403), route.path


def test_the_admin_api_asks_for_its_scope_on_every_path(tmp_path):
    app = make_admin_app(Switching(Engine(), tmp_path), keys=KEYS)
    for route in app.routes:
        for method in route.methods - {"HEAD"}:
            path = route.path.replace("{name}", "x").replace("{arm}", "x").replace("{what}", "stop")
            found = statuses(app, method, path)
            assert (found[""], found["use"], found["rate"]) == (401, 403, 403), path
            assert found["admin"] not in (401, 403), path


def router() -> Router:
    experiment = ExperimentSettings.model_validate({
        "name": "tone", "control": "a",
        "arms": {"a": {"variant": "shop"}, "b": {"variant": "builtin:nano"}},
        "primary": {"metric": "rating", "smallest_effect": 0.1},
    })  # fmt: skip
    route = RouteSettings(default="shop", experiment="tone")
    return Router(Rules({"support": route}, {"tone": experiment}))


def test_names_from_outside_are_only_values(tmp_path):
    async def run(client):
        for number, value in enumerate(HOSTILE):
            names = ("unit", "conversation", "segment", "tenant", "language")
            headers = {f"x-kamerton-{name}": value.encode() for name in names}
            answer = await ask(client, model="support", headers=headers)
            assert answer.status_code == 200
            assert answer.headers["x-kamerton-experiment"] == "tone"
            told.append(answer.headers)
            assert (await ask(client, model=value)).status_code == 404
            vote = {"id": answer.json()["id"], "name": "rating", "value": 4, "rater": value}
            posts = [
                (vote, 200), ({**vote, "name": value}, 400), ({**vote, "id": value}, 400),
                ({**vote, "label": value}, 400), ({**vote, "source": value}, 400),
                ({**vote, "idempotency_key": f"{value}{number}"}, 200),
                ({**vote, "value": value}, 400),
            ]  # fmt: skip
            for body, status in posts:
                assert (await client.post("/v1/feedback", json=body)).status_code == status, body
            for path in ("flags", f"flags/{quote(value, safe='')}"):
                body = {"context": {"targetingKey": value, "segment": value}}
                given = await client.post(f"/ofrep/v1/evaluate/{path}", json=body)
                assert given.status_code in (200, 404), given.text
            wrong = await client.get("/v1/metrics", params={"by": value})
            assert wrong.status_code == 400
        by = {"by": ["segment", "tenant"]}
        listed = (await client.get("/v1/metrics", params=by)).json()
        return (await client.get("/metrics")).text, listed

    told: list[object] = []
    with recording_client(tmp_path / "k.db", router=router()) as (client, store, recording):
        text_format, listed = asyncio.run(run(client))
        recording.stop()
        rows = [row for row in rows_of(store) if row.experiment]
    assert len(rows) == len(HOSTILE)
    # What has line ends is kept as its hash; the rest stays what it was.
    kept = {row.unit for row in rows}
    assert {one for one in HOSTILE if "\n" not in one} == {
        one for one in kept if not one.startswith("sha256:")
    }
    assert {each["group"]["segment"] for each in listed["data"]} == {row.segment for row in rows}
    assert "kamerton_rows_lost_total 0" in text_format
    assert "99" not in [line.rpartition(" ")[2] for line in text_format.splitlines()]
    assert not any("script" in str(headers) or "jndi" in str(headers) for headers in told)


@pytest.mark.parametrize("name", [*HOSTILE, "a b", "", "x" * 101])
def test_no_experiment_has_a_name_that_could_be_more(name):
    plain = {
        "name": name, "control": "a", "arms": {"a": {"variant": "a"}, "b": {"variant": "b"}},
        "primary": {"metric": "rating", "smallest_effect": 0.1},
    }  # fmt: skip
    with pytest.raises(SettingsError, match="name"):
        ExperimentSettings.parse(plain, source="test")


def test_huge_and_binary_values_are_refused_or_kept_small(tmp_path):
    async def run(client):
        answer = await ask(client, headers={
            "x-kamerton-unit": b"u" * 50_000, "x-kamerton-segment": b"\xff\xfe\x00\x01",
        })  # fmt: skip
        vote = {"id": answer.json()["id"], "name": "rating"}
        bodies = [
            json.dumps({**vote, "value": 10**400}), '{"id": "c", "name": "rating", "value": NaN}',
            json.dumps({**vote, "value": 4, "rater": "r" * 201}),
            json.dumps({**vote, "value": 4, "comment": "c" * 10_001}),
            json.dumps({"id": "c" * 10_000, "name": "rating", "value": 4}),
            json.dumps({**vote, "value": 4, "comment": "\ud800"}),
            b"\x00\xff" * 500, b"[" * 100_000, b"", b"null", b'"' + b"x" * 100_000 + b'"',
        ]  # fmt: skip
        statuses = []
        for body in bodies:
            sent = await client.post("/v1/feedback", content=body)
            statuses.append(sent.status_code)
            assert len(sent.content) < 2000
        large = await client.post("/v1/feedback", content=b"x" * ((1 << 22) + 1))
        return statuses, large.status_code

    with recording_client(tmp_path / "k.db") as (client, store, _):
        statuses, large = asyncio.run(run(client))
        (row,) = rows_of(store)
        with store.begin() as connection:
            assert list(latest_feedback(connection)) == []
    assert (set(statuses), large) == ({400}, 413)
    assert len(row.unit) < 80
    assert row.segment.startswith("sha256:")


def test_tables_with_formulas_and_nul_bytes_are_only_texts(tmp_path):
    table = tmp_path / "votes.csv"
    table.write_bytes(
        b"id,name,value,comment,rater\n"
        b"c1,rating,4,=cmd|' /C calc'!A0,@SUM(1)\n"
        b"c2,rating,=2+2,x,y\n"
        b"c3,=rating,4,x,y\n"
        b"c4,rating,4,nul \x00 byte,\x00\n"
        b'"c5\'; DROP TABLE feedback; --",rating,4,x,y\n'
    )
    with open_store(tmp_path / "k.db") as store:
        told = import_feedback(store, table, BUILT_IN, columns={})
        with store.begin() as connection:
            found = {each.completion_id: each for each in latest_feedback(connection)}
    assert [rejection.location.line for rejection in told.refused] == [3, 4, 6]
    assert set(found) == {"c1", "c4"}
    assert (found["c1"].comment, found["c1"].rater) == ("=cmd|' /C calc'!A0", "@SUM(1)")
    assert "\x00" not in (found["c4"].comment or "") + found["c4"].rater


def test_an_export_is_json_whose_lines_no_spreadsheet_runs(tmp_path):
    formulas = ["=1+1", "+1", "-1", "@SUM(1)", "\t=1"]
    with open_store(tmp_path / "k.db") as store, store.begin() as connection:
        for number, formula in enumerate(formulas):
            chat = json.dumps([{"role": "user", "content": formula}])
            add_requests(connection, [RequestRow(f"c{number}", "shop", prompt=chat, answer="a")])
            add_feedback(connection, Feedback(f"c{number}", "", correction=f"{formula}!"))
    with open_store(tmp_path / "k.db") as store:
        export_feedback(store, "sft", tmp_path / "rows.jsonl", per_rater=100)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert all(line.startswith("{") and line.endswith("}") for line in lines)
    # Training needs the texts as they are: nothing is put before them.
    asked = [json.loads(line)["messages"][0]["content"] for line in lines]
    assert sorted(asked) == sorted(formulas)


SECRET = "write to ann.lee@example.com"


def test_texts_are_in_no_log_no_number_and_no_message_to_others(tmp_path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    policy = RecordPolicy("redacted")
    with access_log(tmp_path / "access.log") as write:
        options = {"write_access": write, "router": router()}
        with recording_client(tmp_path / "k.db", policy, **options) as (client, store, _):

            async def run():
                answer = await ask(client, SECRET, headers={"x-kamerton-unit": "u"})
                vote = {"id": answer.json()["id"], "name": "rating", "value": 2}
                vote |= {"comment": SECRET, "correction": f"{SECRET}!"}
                assert (await client.post("/v1/feedback", json=vote)).status_code == 200
                wrong = await client.post("/v1/feedback", json={**vote, "name": SECRET})
                assert wrong.status_code == 400
                pages = ("/metrics", "/v1/metrics", "/v1/models", "/")
                return [(await client.get(page)).text for page in pages]

            told = asyncio.run(run())
            export_feedback(store, "sft", tmp_path / "rows.jsonl", per_rater=9)
            export_feedback(store, "pairs", tmp_path / "pairs.jsonl", per_rater=9)
            assert "EMAIL" in (tmp_path / "rows.jsonl").read_text()
    # A part of each written file, the database's log among them, would do.
    found = {path.name: path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()}
    assert {"access.log", "k.db", "rows.jsonl", "pairs.jsonl"} <= set(found)
    seen = "".join(capsys.readouterr())
    for where, content in {**found, "told": "".join(told), "log": caplog.text, "": seen}.items():
        assert "ann.lee" not in content, where


def test_an_error_of_the_database_does_not_tell_what_was_to_be_stored(tmp_path):
    wrong = text("INSERT INTO nowhere VALUES (:x)")
    with (
        open_store(tmp_path / "k.db") as store,
        pytest.raises(SQLAlchemyError) as caught,
        store.begin() as connection,
    ):
        connection.execute(wrong, {"x": SECRET})
    assert "nowhere" in str(caught.value)
    assert SECRET not in str(caught.value)
