"""Each answered request leaves a row before the client has its last bytes."""

import asyncio
import hashlib
import hmac
import json
import logging
import threading
import time
from concurrent.futures import Future
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from kamerton.evaluation.live_metrics import MetricsFile
from kamerton.serving.access_log import access_log
from kamerton.serving.feedback import FeedbackIntake
from kamerton.serving.record_policy import RecordPolicy
from kamerton.serving.recording import Recording
from kamerton.serving.row_writer import RowWriter
from kamerton.store.database import open_store
from kamerton.store.feedback import feedback_history
from kamerton.store.traffic import Exposure, RequestRow, add_requests, exposures_of, now
from kamerton.wire.feedback import FeedbackBody
from tests.unit.serving.recorded import ask, recording_client, rows_of
from tests.unit.serving.test_gateway import Echo, plain_client

PERSONAL = "write to ann.lee@example.com or call +7 916 123-45-67"


def test_a_row_says_what_was_asked_how_long_it_took_and_who_asked(tmp_path):
    headers = {
        "x-kamerton-unit": "user 7",
        "x-kamerton-segment": "vip",
        "x-kamerton-conversation": "talk 1",
        "x-kamerton-tenant": "ООО Ромашка".encode(),
        "accept-language": "ru-RU,ru;q=0.9",
    }
    with recording_client(tmp_path / "k.db") as (client, store, _):
        answer = asyncio.run(ask(client, headers=headers))
        (row,) = rows_of(store)
    assert row.id == answer.json()["id"]
    assert (row.variant, row.content_hash) == ("shop", "hash of shop")
    assert (row.unit, row.segment, row.conversation) == ("user 7", "vip", "talk 1")
    assert (row.tenant, row.language) == ("ООО Ромашка", "ru")
    assert (row.prompt_tokens, row.answer_tokens) == (7, 3)
    assert (row.finish_reason, row.status, row.refusal) == ("stop", 200, False)
    assert 0 < row.first_token_s <= row.latency_s < 60
    assert (row.prompt, row.answer) == (None, None)


def test_the_row_is_there_when_a_client_reads_the_end_of_a_stream(tmp_path):
    seen: dict[str, int] = {}

    async def read(client, store):
        messages = [{"role": "user", "content": "hello"}]
        body = {"model": "shop", "messages": messages, "stream": True}
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    seen[line] = len(rows_of(store))

    with recording_client(tmp_path / "k.db") as (client, store, _):
        asyncio.run(read(client, store))
    # The transport in this process gives the whole body at once: sockets are tested end to end.
    assert seen["data: [DONE]"] == 1


def test_nothing_leaves_before_the_commit():
    class Slow:
        """Commits when it is told to."""

        is_failing, busy_s = False, 0.0

        def __init__(self):
            self.rows: list[tuple[RequestRow, Future[bool]]] = []

        def put(self, row):
            self.rows.append((row, Future()))
            return self.rows[-1][1]

    sent = []

    async def run():
        writer = Slow()
        recording = Recording(None, writer=writer)
        app = plain_client(Echo(), recording=recording)._transport.app
        body = json.dumps(
            {"model": "shop", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        ).encode()
        inbox: asyncio.Queue = asyncio.Queue()
        inbox.put_nowait({"type": "http.request", "body": body, "more_body": False})
        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [],
            "query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": "",
            "server": ("served", 80), "client": ("me", 1), "raw_path": b"/v1/chat/completions",
        }  # fmt: skip

        async def send(message):
            sent.append(message)

        task = asyncio.ensure_future(app(scope, inbox.get, send))
        while not writer.rows:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        before = b"".join(message.get("body", b"") for message in sent)
        writer.rows[0][1].set_result(True)
        await task
        return before

    before = asyncio.run(run())
    assert b"hi" in before
    assert b"[DONE]" not in before
    assert b"[DONE]" in b"".join(message.get("body", b"") for message in sent)


def test_errors_and_clients_that_leave_have_rows_too(tmp_path):
    async def run(client):
        await ask(client, "broken")
        await ask(client, "a b broken", stream=True)
        await client.get("/v1/models")

    with recording_client(tmp_path / "k.db") as (client, store, recording):
        asyncio.run(run(client))
        recording.stop()
        rows = rows_of(store)
    assert sorted((row.status, row.finish_reason) for row in rows) == [(503, ""), (503, "")]
    assert all(row.refusal is None for row in rows)


def test_refusals_and_formats_are_told(tmp_path):
    async def run(client):
        await ask(client, "I cannot help with that.")
        await ask(client, "{}", response_format={"type": "json_object"})

    with recording_client(tmp_path / "k.db") as (client, store, _):
        asyncio.run(run(client))
        refused, formatted = rows_of(store)
    assert (refused.refusal, refused.format_valid) == (True, None)
    assert (formatted.refusal, formatted.format_valid) == (False, False)


@pytest.mark.parametrize("text", ["none", "redacted", "full"])
def test_texts_are_kept_as_the_policy_says(tmp_path, text):
    with recording_client(tmp_path / "k.db", RecordPolicy(text)) as (client, store, _):
        asyncio.run(ask(client, PERSONAL))
        (row,) = rows_of(store)
    masked = "write to [EMAIL_1] or call [PHONE_1]"
    assert (
        row.answer
        == {"none": None, "redacted": f"shop: {masked} ", "full": f"shop: {PERSONAL} "}[text]
    )
    asked = {"redacted": masked, "full": PERSONAL}.get(text)
    chat = [{"role": "user", "content": asked}]
    assert (row.prompt and json.loads(row.prompt)) == (asked and chat)


@pytest.mark.parametrize("text", ["none", "redacted"])
def test_no_sink_has_personal_data(tmp_path, text, caplog):
    caplog.set_level(logging.DEBUG)
    seen = []
    place = tmp_path / "k.db"
    with access_log(tmp_path / "access.log") as write:

        def end(record):
            seen.append(repr(record))
            write(record)

        with recording_client(place, RecordPolicy(text), write_access=end) as (client, _, _):
            completion = asyncio.run(ask(client, PERSONAL)).json()["id"]
            vote = {"id": completion, "comment": PERSONAL, "correction": PERSONAL}
            asyncio.run(client.post("/v1/feedback", json=vote))
            asyncio.run(client.post("/v1/feedback", json={**vote, "name": PERSONAL, "value": 1}))
    assert "chat/completions" in (tmp_path / "access.log").read_text()
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert files
    for secret in ("ann.lee", "123-45-67"):
        assert not any(secret.encode() in content for content in files)
        assert secret not in "".join(seen) + caplog.text


def test_units_are_hashed_with_the_projects_secret(tmp_path):
    policy = RecordPolicy(unit_secret=b"secret")
    with recording_client(tmp_path / "k.db", policy) as (client, store, recording):
        asyncio.run(ask(client, headers={"x-kamerton-unit": "ann"}))
        recording.expose(Exposure("tone", "ann", "lora"))
        recording.stop()
        (row,) = rows_of(store)
        with store.begin() as connection:
            (exposure,) = exposures_of(connection, "tone")
    expected = hmac.new(b"secret", b"ann", hashlib.sha256).hexdigest()[:32]
    assert row.unit == exposure.unit == expected


class Flaky:
    """A store that refuses until it is mended."""

    def __init__(self, store):
        self._store, self.is_down = store, True

    def begin_quickly(self):
        if self.is_down:
            raise OperationalError("insert", {}, Exception("down"))
        return self._store.begin_quickly()

    def sync(self):
        if self.is_down:
            raise OperationalError("sync", {}, Exception("down"))


def test_a_store_that_is_down_holds_up_no_answer_for_long_and_loses_no_row(tmp_path):
    async def run(client):
        return [(await ask(client)).status_code for _ in range(5)]

    with open_store(tmp_path / "k.db") as store:
        flaky = Flaky(store)
        # Nobody waits so long: answers leave when the store is seen to fail.
        recording = Recording(flaky, wait_s=3600)
        recording.start()
        client = plain_client(Echo(), recording=recording)
        assert asyncio.run(run(client)) == [200] * 5
        assert recording.num_late == 5
        assert rows_of(store) == []
        flaky.is_down = False
        recording.stop()
        assert len(rows_of(store)) == 5
        assert recording.writer.num_lost == 0


def test_memory_is_bounded_and_what_is_lost_is_counted(tmp_path):
    with open_store(tmp_path / "k.db") as store:
        flaky = Flaky(store)
        writer = RowWriter(flaky, limit_rows=10, limit_bytes=1000)
        writer.start()
        large = [writer.put(RequestRow(f"l{n}", "v", answer="x" * 400)) for n in range(4)]
        small = [writer.put(RequestRow(f"s{n}", "v")) for n in range(20)]
        assert writer.num_waiting == 10
        assert writer.num_lost == 14
        flaky.is_down = False
        writer.stop()
        kept = {row.id for row in rows_of(store)}
    assert kept == {"l0", "l1", *(f"s{n}" for n in range(8))}
    assert [done.result() for done in large + small].count(True) == 10


def test_a_row_that_the_store_cannot_take_does_not_stop_the_others(tmp_path):
    with open_store(tmp_path / "k.db") as store:
        writer = RowWriter(store)
        rows = [RequestRow(f"r{n}", "v") for n in range(5)]
        rows.insert(2, RequestRow("bad", None))
        done = [writer.put(row) for row in rows]
        writer.start()
        writer.stop()
        assert [each.result() for each in done] == [True, True, False, True, True, True]
        assert len(rows_of(store)) == 5
        assert (writer.num_written, writer.num_lost) == (5, 1)


def test_rows_that_come_together_are_committed_together(tmp_path):
    with open_store(tmp_path / "k.db") as store:
        commits, syncs = [], []

        class Counting:
            def begin_quickly(self):
                commits.append(threading.current_thread().name)
                return store.begin_quickly()

            def sync(self):
                syncs.append(len(commits))
                store.sync()

        writer = RowWriter(Counting())
        for number in range(1200):
            writer.put(RequestRow(f"r{number}", "v"))
        writer.start()
        writer.stop()
        assert len(rows_of(store)) == 1200
    assert commits == ["row writer"] * 3
    # What was committed without waiting for the disk is on it at the end.
    assert syncs[-1] == 3


CHECKED = MetricsFile.parse(
    {
        "metric": [
            {
                "name": "greets", "type": "boolean", "from": "check",
                "check": {"kind": "rules", "rules": [{"name": "hello", "pattern": "hello"}]},
            },
            {"name": "json", "type": "boolean", "from": "check", "check": {"kind": "json"}},
        ],
        "price": [
            {"variant": "other", "per_million_prompt_tokens": 1},
            {"per_million_prompt_tokens": 1e6, "per_million_answer_tokens": 1e5},
        ],
    }
)  # fmt: skip


def test_checks_run_on_answers_whose_text_is_not_kept(tmp_path):
    with open_store(tmp_path / "k.db") as store:
        recording = Recording(store, metrics=CHECKED.metrics)
        recording.start()
        client = plain_client(Echo(), recording=recording)
        asyncio.run(ask(client, "hello"))
        asyncio.run(ask(client, "bye"))
        recording.stop()
        rows = rows_of(store)
    assert [row.checks for row in rows] == [
        {"greets": 1.0, "json": 0.0},
        {"greets": 0.0, "json": 0.0},
    ]
    assert [row.answer for row in rows] == [None, None]
    assert recording.writer.num_written == 2


def test_answers_cost_what_the_prices_say(tmp_path):
    with open_store(tmp_path / "k.db") as store:
        recording = Recording(
            store, cost=lambda row: CHECKED.cost(row.variant, row.prompt_tokens, row.answer_tokens)
        )
        recording.start()
        asyncio.run(ask(plain_client(Echo(), recording=recording)))
        (row,) = rows_of(store)
        recording.stop()
    assert row.cost == pytest.approx(7 * 1 + 3 * 0.1)
    assert MetricsFile().cost("shop", 1, 1) is None


def test_old_texts_go_when_the_server_starts_and_numbers_stay(tmp_path):
    with open_store(tmp_path / "k.db") as store:
        with store.begin() as connection:
            old = now() - timedelta(days=3)
            add_requests(connection, [RequestRow("a", "v", created=old, answer="x", cost=1.0)])
        recording = Recording(store, days=2)
        recording.start()
        for _ in range(500):
            if rows_of(store)[0].answer is None:
                break
            time.sleep(0.01)
        recording.stop()
        (row,) = rows_of(store)
    assert (row.answer, row.cost) == (None, 1.0)


def test_prometheus_has_counts_by_variant(tmp_path):
    async def run(client):
        await ask(client, "I cannot help with that.")
        completion = (await ask(client)).json()["id"]
        await client.post("/v1/feedback", json={"id": completion, "name": "rating", "value": 4})
        return (await client.get("/metrics")).text

    with open_store(tmp_path / "k.db") as store:
        recording = Recording(store)
        recording.start()
        intake = FeedbackIntake(store, count=recording.counts.add_feedback)
        text = asyncio.run(run(plain_client(Echo(), recording=recording, feedback=intake)))
        recording.stop()
    shop = 'gen_ai_response_model="shop"'
    assert f"kamerton_refusals_total{{{shop}}} 1.0" in text
    assert f"kamerton_invalid_formats_total{{{shop}}} 0.0" in text
    assert f'kamerton_feedback_total{{{shop},name="rating"}} 1.0' in text
    assert f'kamerton_feedback_value_total{{{shop},name="rating"}} 4.0' in text
    assert "kamerton_rows_total 2" in text
    assert "kamerton_rows_lost_total 0" in text


def test_comments_and_corrections_are_masked_and_raters_hidden(tmp_path):
    policy = RecordPolicy(unit_secret=b"secret")
    with open_store(tmp_path / "k.db") as store:
        body = FeedbackBody(id="c", correction=PERSONAL, comment=PERSONAL, rater="ann.lee")
        FeedbackIntake(store, policy=policy).take(body)
        with store.begin() as connection:
            (found,) = feedback_history(connection, "c")
    masked = "write to [EMAIL_1] or call [PHONE_1]"
    assert (found.correction, found.comment) == (masked, masked)
    assert found.rater == policy.hidden("ann.lee") != "ann.lee"
