"""Recorded traffic in every kind of store: requests, feedback, exposures, experiments."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from kamerton.store.database import Store, open_store
from kamerton.store.experiments import (
    ExperimentEvent,
    ExperimentRow,
    add_experiment,
    add_experiment_event,
    experiment_events,
    experiment_rows,
    update_experiment,
)
from kamerton.store.feedback import Feedback, add_feedback, feedback_history, latest_feedback
from kamerton.store.request_columns import answers_of, request_columns
from kamerton.store.retention import forget_texts
from kamerton.store.traffic import (
    AnswerChecks,
    Exposure,
    RequestRow,
    add_exposures,
    add_requests,
    exposures_of,
    find_request,
    now,
    requests_between,
    set_checks,
)
from tests.contract.stores import PLACES


@pytest.fixture(params=PLACES)
def store(request: pytest.FixtureRequest, tmp_path) -> Iterator[Store]:
    with PLACES[request.param](tmp_path) as place, open_store(place) as opened:
        yield opened


def test_a_request_comes_back_as_it_was(store):
    row = RequestRow(
        "chatcmpl-1", "shop", "a" * 64, experiment="tone", arm="lora", propensity=0.25,
        unit="user 7", segment="vip", language="ru", latency_s=0.5, first_token_s=0.1,
        answer_tokens=3, finish_reason="stop", refusal=False, cost=0.02, answer="Да 🙂",
        checks={"exact": 1.0},
    )  # fmt: skip
    with store.begin() as connection:
        add_requests(connection, [row])
        assert find_request(connection, "chatcmpl-1") == row
        assert find_request(connection, "chatcmpl-2") is None
        set_checks(connection, [AnswerChecks("chatcmpl-1", {"exact": 0.0})])
        assert find_request(connection, "chatcmpl-1") == replace(row, checks={"exact": 0.0})


def test_a_row_that_is_written_again_stays_one(store):
    with store.begin() as connection:
        add_requests(connection, [RequestRow("a", "one")])
        add_requests(connection, [RequestRow("a", "two"), RequestRow("b", "two")])
        found = {row.id: row.variant for row in requests_between(connection)}
    assert found == {"a": "one", "b": "two"}


def test_what_clients_write_too_long_or_with_zero_bytes_is_cut_to_fit(store):
    with store.begin() as connection:
        add_requests(connection, [RequestRow("a", "v", unit="u\x00" * 500, answer="x\x00" * 500)])
        row = find_request(connection, "a")
    assert (row.unit, row.answer) == ("u" * 200, "x" * 500)


def test_many_rows_at_once_come_back_in_order_of_time_without_shadows(store):
    start = now()
    rows = [
        RequestRow(f"r{number:04}", "v" if number % 2 else "w", created=start + timedelta(number))
        for number in range(2000)
    ]
    with store.begin() as connection:
        add_requests(connection, [*rows[::-1], RequestRow("s", "v", shadow_of="r0001")])
        assert list(requests_between(connection)) == rows
        some = requests_between(connection, start + timedelta(3), start + timedelta(8), variant="v")
        assert [row.id for row in some] == ["r0003", "r0005", "r0007"]


def test_columns_are_those_of_the_rows(store):
    start = now()
    rows = [
        RequestRow("b", "v", created=start + timedelta(1), unit="u", refusal=True, answer="x"),
        RequestRow("a", "v", created=start, cost=0.5, format_valid=False, checks={"one": 1.0}),
        RequestRow("c", "w", created=start + timedelta(2), status=500, first_token_s=0.25),
    ]
    names = ("id", "created", "unit", "refusal", "format_valid", "cost", "status", "checks")
    with store.begin() as connection:
        add_requests(connection, [*rows, RequestRow("s", "v", shadow_of="a")])
        found = request_columns(connection, names)
        some = request_columns(connection, ["id"], start + timedelta(1), variant="w")
        none = request_columns(connection, ["id", "created", "cost"], variant="x")
        assert answers_of(connection, ["a", "b", "gone"]) == {"b": "x"}
    assert found["id"].tolist() == ["a", "b", "c"]
    assert found["created"].tolist() == [start, start + timedelta(1), start + timedelta(2)]
    assert found["unit"].tolist() == ["", "u", ""]
    assert found["checks"].tolist() == [{"one": 1.0}, None, None]
    np.testing.assert_array_equal(found["refusal"], [np.nan, 1, np.nan])
    np.testing.assert_array_equal(found["format_valid"], [0, np.nan, np.nan])
    np.testing.assert_array_equal(found["cost"], [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(found["status"], [200, 200, 500])
    assert some["id"].tolist() == ["c"]
    assert (len(none), none["created"].dtype, none["cost"].dtype) == (0, "<M8[us]", "float64")


def test_of_exposures_the_first_one_of_each_unit_stays(store):
    with store.begin() as connection:
        add_exposures(connection, [Exposure("tone", "u1", "a"), Exposure("tone", "u1", "b")])
        add_exposures(connection, [Exposure("tone", "u1", "b"), Exposure("other", "u1", "b")])
        assert [each.arm for each in exposures_of(connection, "tone")] == ["a"]
        assert [each.arm for each in exposures_of(connection, "other")] == ["b"]


def test_feedback_is_stored_once_per_key_and_the_last_word_counts(store):
    with store.begin() as connection:
        first = add_feedback(connection, Feedback("c", "rating", 1.0, rater="ann"))
        again = Feedback("c", "rating", 2.0, rater="bob", idempotency_key="k")
        one, two = add_feedback(connection, again), add_feedback(connection, again)
        other = add_feedback(connection, replace(again, completion_id="d"))
        last = add_feedback(connection, Feedback("c", "rating", 5.0, rater="ann"))
        assert one == two
        assert len({first.id, one.id, other.id, last.id}) == 4
        assert list(latest_feedback(connection)) == [one, other, last]
        assert list(latest_feedback(connection, ["c"])) == [one, last]
        assert feedback_history(connection, "c") == [first, one, last]


def test_texts_are_forgotten_when_their_time_is_over(store):
    old, limit = now() - timedelta(days=10), now() - timedelta(days=7)
    with store.begin() as connection:
        add_requests(
            connection,
            [RequestRow("old", "v", created=old, answer="x"), RequestRow("new", "v", answer="y")],
        )
        add_feedback(connection, Feedback("old", "rating", 5.0, comment="x", created=old))
        add_feedback(connection, Feedback("new", "rating", 4.0, correction="y"))
        assert forget_texts(connection, limit) == 2
        assert forget_texts(connection, limit) == 0
        assert [row.answer for row in requests_between(connection)] == [None, "y"]
        told = [(one.value, one.comment, one.correction) for one in latest_feedback(connection)]
    assert told == [(5.0, None, None), (4.0, None, "y")]


def test_experiments_and_their_audit(store):
    row = ExperimentRow("tone", "1", {"arms": ["a", "b"]}, "salt")
    with store.begin() as connection:
        assert add_experiment(connection, row)
        assert not add_experiment(connection, replace(row, salt="another"))
        started = now()
        update_experiment(connection, "tone", "1", status="running", started=started)
        add_experiment_event(connection, ExperimentEvent("tone", "started", "ann", {"by": "cli"}))
        add_experiment_event(connection, ExperimentEvent("tone", "stopped", "guardrail"))
        assert experiment_rows(connection) == [replace(row, status="running", started=started)]
        assert experiment_rows(connection, "none") == []
        events = experiment_events(connection, "tone")
    assert [(event.what, event.by_whom) for event in events] == [
        ("started", "ann"),
        ("stopped", "guardrail"),
    ]


def test_a_quick_commit_is_all_or_nothing_and_seen_by_others(store):
    with store.begin_quickly() as connection:
        add_requests(connection, [RequestRow("a", "v")])
    with pytest.raises(ZeroDivisionError), store.begin_quickly() as connection:
        add_requests(connection, [RequestRow("b", "v")])
        _ = 1 / 0
    store.sync()
    with store.begin() as connection:
        assert [row.id for row in requests_between(connection)] == ["a"]
        if connection.dialect.name == "sqlite":
            # Connections are shared: whoever comes next waits for the disk again.
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
