"""`POST /v1/feedback`: what is taken, what is refused, and what it finds."""

import asyncio

from sqlalchemy.exc import OperationalError

from kamerton.serving.feedback import FeedbackIntake
from kamerton.serving.keys import ApiKey, hash_key
from kamerton.store.feedback import feedback_history, latest_feedback
from tests.unit.serving.recorded import ask, recording_client
from tests.unit.serving.test_gateway import Echo, plain_client


def send(client, **body):
    headers = body.pop("headers", {})
    return asyncio.run(client.post("/v1/feedback", json=body, headers=headers))


def stored(store, completion_id="c"):
    with store.begin() as connection:
        return feedback_history(connection, completion_id)


def test_feedback_finds_the_variant_of_its_answer(tmp_path):
    with recording_client(tmp_path / "k.db") as (client, store, _):
        completion = asyncio.run(ask(client)).json()["id"]
        answer = send(client, id=completion, name="rating", value=4, rater="ann", comment="good")
        (found,) = stored(store, completion)
    assert answer.json() == {
        "object": "feedback",
        "feedback_id": found.id,
        "id": completion,
        "name": "rating",
        "is_matched": True,
        "variant": "shop",
        "arm": None,
    }
    assert (found.value, found.rater, found.comment, found.source) == (4.0, "ann", "good", "api")


def test_feedback_may_come_before_the_row_and_again_and_be_changed_later(tmp_path):
    with recording_client(tmp_path / "k.db") as (client, store, _):
        early = send(client, id="c", name="thumbs", value=True, idempotency_key="1").json()
        again = send(client, id="c", name="thumbs", value=True, idempotency_key="1").json()
        later = send(client, id="c", name="thumbs", value=False, idempotency_key="2").json()
        assert early["is_matched"] is False
        assert early["feedback_id"] == again["feedback_id"] != later["feedback_id"]
        assert [each.value for each in stored(store)] == [1.0, 0.0]
        with store.begin() as connection:
            assert [each.value for each in latest_feedback(connection)] == [0.0]


def test_a_dry_run_is_checked_and_not_stored(tmp_path):
    with recording_client(tmp_path / "k.db") as (client, store, _):
        assert send(client, id="c", name="rating", value=4, dry_run=True).status_code == 200
        assert send(client, id="c", name="rating", value=9, dry_run=True).status_code == 400
        assert stored(store) == []


def test_the_variant_is_never_the_callers_to_say(tmp_path):
    with recording_client(tmp_path / "k.db") as (client, store, _):
        answer = send(client, id="c", name="rating", value=4, variant="other")
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "variant"
        assert stored(store) == []


def test_what_is_wrong_is_refused_with_what_is_right(tmp_path):
    wrong = {
        "'stars' is no metric; feedback may be: rating, thumbs, escalation": {"name": "stars"},
        "'latency' is measured, and not sent": {"name": "latency", "value": 1},
        "'rating' must be at least 1 and at most 5, got 0": {"name": "rating", "value": 0},
        "'rating' must be a number, got true": {"name": "rating", "value": True},
        "'rating' takes a number as value and no label": {"name": "rating", "label": "good"},
        "'thumbs' must be true or false, got 0.5": {"name": "thumbs", "value": 0.5},
        "value: must be a number, or true or false, got '4'": {"name": "rating", "value": "4"},
        "id": {"id": "a b", "name": "rating", "value": 4},
        "comment: must be given": {},
    }
    with recording_client(tmp_path / "k.db") as (client, store, _):
        for message, body in wrong.items():
            answer = send(client, **{"id": "c", **body})
            assert answer.status_code == 400, message
            assert message in answer.json()["error"]["message"]
        assert stored(store) == []


def test_a_correction_or_a_comment_needs_no_metric(tmp_path):
    with recording_client(tmp_path / "k.db") as (client, store, _):
        send(client, id="c", correction="Better\x00.")
        send(client, id="c", comment="'; DROP TABLE feedback; --")
        found = [(each.name, each.correction, each.comment) for each in stored(store)]
    assert found == [
        ("correction", "Better.", None),
        ("comment", None, "'; DROP TABLE feedback; --"),
    ]


def test_a_server_that_records_nothing_says_so():
    answer = send(plain_client(Echo()), id="c", name="rating", value=4)
    assert answer.status_code == 404
    assert "--record" in answer.json()["error"]["message"]


def test_feedback_needs_a_key_that_is_for_it(tmp_path):
    keys = [ApiKey(name=name, sha256=hash_key(name), scopes=(name,)) for name in ("use", "rate")]
    with recording_client(tmp_path / "k.db", keys=keys) as (client, _, _):
        body = {"id": "c", "name": "rating", "value": 4}
        assert send(client, **body).status_code == 401
        assert send(client, **body, headers={"Authorization": "Bearer use"}).status_code == 403
        assert send(client, **body, headers={"Authorization": "Bearer rate"}).status_code == 200


def test_a_store_that_is_down_is_a_503_that_clients_try_again(tmp_path):
    class Down:
        def begin(self):
            raise OperationalError("select", {}, Exception("down"))

    answer = send(
        plain_client(Echo(), feedback=FeedbackIntake(Down())), id="c", name="rating", value=4
    )
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
