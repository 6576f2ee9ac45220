"""Metrics of recorded traffic: values, groups, spans, intervals by unit."""

from dataclasses import fields
from datetime import datetime, timedelta

import numpy as np
import pytest

from kamerton.evaluation import live_series
from kamerton.evaluation.edits import edit_distance, edit_share
from kamerton.evaluation.live_metrics import BUILT_IN, LiveMetric
from kamerton.evaluation.statistics import wilson
from kamerton.store.feedback import Feedback
from kamerton.store.request_columns import as_columns
from kamerton.store.traffic import RequestRow

START = datetime(2026, 11, 2, 12)  # a Monday


def row(number, variant="v", minutes=0.0, **values):
    created = START + timedelta(minutes=minutes)
    return RequestRow(f"r{number}", variant, created=created, **values)


def columns(rows):
    names = [each.name for each in fields(RequestRow)]
    return as_columns(names, [[getattr(row, name) for name in names] for row in rows])


def answers(rows):
    return {row.id: row.answer for row in rows if row.answer is not None}


def measure(rows, feedback, metrics, **options):
    given = {"answers": answers(rows), **options}
    return live_series.measure(columns(rows), feedback, metrics, **given)


def told(rows, feedback=(), metrics=BUILT_IN, **options):
    found = measure(rows, feedback, metrics, **options)
    return {(*one.group.values(), one.metric): one for one in found}


def test_shares_of_independent_requests_have_wilsons_interval():
    found = told([row(n, refusal=n < 3) for n in range(30)])["v", "refusal"]
    expected = wilson(3, 30)
    assert (found.value, found.num_values, found.num_units) == (0.1, 30, 30)
    # The variance is the sample's, n - 1: a little wider.
    assert found.low == pytest.approx(expected.low, abs=2e-3)
    assert found.high == pytest.approx(expected.high, abs=4e-3)


def test_requests_of_one_unit_are_not_taken_for_independent():
    rows = [row(n, refusal=n // 10 % 2 == 0, unit=f"u{n // 10}") for n in range(200)]
    found = told(rows)["v", "refusal"]
    assert (found.num_values, found.num_units) == (200, 20)
    by_unit = wilson(10, 20)
    assert found.low == pytest.approx(by_unit.low, abs=0.01)
    assert found.high == pytest.approx(by_unit.high, abs=0.01)
    assert found.high - found.low > 2 * (wilson(100, 200).high - wilson(100, 200).low)


def test_without_any_refusal_the_units_bound_the_share():
    found = told([row(n, refusal=False, unit=f"u{n // 10}") for n in range(200)])["v", "refusal"]
    assert found.low == 0
    assert found.high == pytest.approx(wilson(0, 20).high)


def test_intervals_by_unit_cover_what_they_say():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        effects = np.repeat(random.normal(0, 1, 30), 8)
        values = 5 + effects + random.normal(0, 1, 240)
        rows = [row(n, latency_s=value, unit=f"u{n // 8}") for n, value in enumerate(values)]
        found = told(rows, metrics={"latency": BUILT_IN["latency"]})["v", "latency"]
        covered += found.low <= 5 <= found.high
    # 95 % with normal quantiles over 30 units; requests counted as independent cover about half.
    assert 0.90 <= covered / 300 <= 0.98


def test_ratings_are_those_that_count_and_are_found_by_completion():
    feedback = [
        Feedback("r0", "rating", 5.0, rater="ann"),
        Feedback("r0", "rating", 2.0, rater="bob"),
        Feedback("r1", "rating", 3.0),
        Feedback("gone", "rating", 1.0),
    ]
    found = told([row(0), row(1), row(2, "w")], feedback)
    assert (found["v", "rating"].value, found["v", "rating"].num_values) == (3.25, 2)
    assert ("w", "rating") not in found


def test_an_escalation_counts_once_for_its_conversation():
    rows = [row(n, conversation=f"talk{n // 3}") for n in range(6)]
    feedback = [Feedback(f"r{n}", "escalation", float(n == 4), rater=f"{n}") for n in range(6)]
    found = told(rows, feedback)["v", "escalation"]
    assert (found.value, found.num_values) == (0.5, 2)


def test_asked_again_is_within_two_minutes_of_the_answer_in_the_same_conversation():
    rows = [
        row(0, conversation="a", unit="u", latency_s=30.0),
        row(1, minutes=1, conversation="b", unit="u"),
        row(2, minutes=2.4, conversation="a", unit="u"),
        row(3, minutes=5, conversation="a", unit="u"),
        row(4, minutes=6),
    ]
    found = told(rows)["v", "asked_again"]
    assert (found.value, found.num_values) == (0.25, 4)


def test_without_a_conversation_the_unit_asks_again():
    rows = [row(0, unit="u"), row(1, minutes=1, unit="w"), row(2, minutes=1.5, unit="u"), row(3)]
    rows += [row(4, minutes=2, conversation="u"), row(5, minutes=2.1, conversation="")]
    found = told(rows)["v", "asked_again"]
    assert (found.value, found.num_values) == (0.25, 4)


def test_a_number_of_a_unit_is_the_mean_of_its_requests():
    mood = LiveMetric.parse({"name": "mood", "type": "number", "level": "unit"})
    rows = [row(n, unit="ab"[n > 2], conversation=f"{n}") for n in range(4)]
    feedback = [Feedback(f"r{n}", "mood", float(n), rater="x") for n in (1, 2, 3)]
    feedback.append(Feedback("r1", "mood", 5.0, rater="y"))
    found = told(rows, feedback, {"mood": mood})["v", "mood"]
    assert (found.value, found.num_values, found.num_units) == (2.75, 2, 2)
    assert found.low == pytest.approx(2.75 - 1.959964 * 0.25, abs=1e-6)
    outcomes = live_series.request_outcomes(columns(rows), feedback, {"mood": mood})["mood"]
    np.testing.assert_array_equal(outcomes, [np.nan, 2.5, np.nan, 3.0])


def test_groups_by_arm_and_by_version_have_short_names():
    rows = [row(0, experiment="tone", arm="b", content_hash="h" * 64, refusal=True)]
    rows += [row(1, content_hash="g" * 64, refusal=False)]
    metrics = {"refusal": BUILT_IN["refusal"]}
    found = measure(rows, [], metrics, by=("arm", "version"), every="hour")
    assert [(one.since, dict(one.group), one.value) for one in found] == [
        (START, {"arm": "", "version": "g" * 12}, 0.0),
        (START, {"arm": "tone/b", "version": "h" * 12}, 1.0),
    ]


def test_edits_are_measured_where_the_answer_is_kept():
    rows = [row(0, answer="good day"), row(1, answer=None)]
    feedback = [
        Feedback("r0", "correction", correction="good dog"),
        Feedback("r1", "correction", correction="x"),
    ]
    assert told(rows, feedback)["v", "edited"].value == 0.25


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("a cat sat", "a cat in a hat sat", 9),
        ("дом", "дым", 1),
        ("ab", "ba", 2),
    ],
)
def test_edit_distances(one, other, distance):
    assert edit_distance(one, other) == edit_distance(other, one) == distance
    assert edit_share(one, other) == (distance / max(len(one), len(other)) if distance else 0)


def test_accuracy_is_whether_all_checks_pass_and_each_check_is_a_metric():
    polite = LiveMetric.parse(
        {
            "name": "polite", "type": "boolean", "from": "check",
            "check": {"kind": "rules", "rules": [{"name": "please", "pattern": "please"}]},
        }
    )  # fmt: skip
    rows = [
        row(0, checks={"polite": 1.0, "json": 1.0}),
        row(1, checks={"polite": 1.0, "json": 0.0}),
        row(2),
    ]
    found = told(rows, metrics={**BUILT_IN, "polite": polite})
    assert (found["v", "accuracy"].value, found["v", "polite"].value) == (0.5, 1.0)


def test_labels_are_counted():
    topic = LiveMetric.parse({"name": "topic", "type": "label", "labels": ["bill", "lost"]})
    feedback = [Feedback(f"r{n}", "topic", label="bill" if n else "lost") for n in range(3)]
    found = told([row(n) for n in range(3)], feedback, {"topic": topic})["v", "topic"]
    assert (found.counts, found.value) == ({"bill": 2, "lost": 1}, None)


def test_groups_and_spans():
    rows = [
        row(0, segment="vip", refusal=True),
        row(1, minutes=13 * 60, segment="vip", refusal=False),
        row(2, "w", minutes=8 * 24 * 60, refusal=True),
    ]
    metrics = {"refusal": BUILT_IN["refusal"]}
    found = measure(rows, [], metrics, by=("variant", "segment"), every="day")
    assert [(one.since.day, dict(one.group), one.value) for one in found] == [
        (2, {"variant": "v", "segment": "vip"}, 1.0),
        (3, {"variant": "v", "segment": "vip"}, 0.0),
        (10, {"variant": "w", "segment": ""}, 1.0),
    ]
    weeks = measure(rows, [], metrics, every="week")
    assert [(one.since.day, one.num_requests) for one in weeks] == [(2, 2), (9, 1)]


def test_times_are_quantiles_of_what_was_answered():
    rows = [row(n, latency_s=n / 100, status=200) for n in range(101)]
    found = told([*rows, row(200, latency_s=99.0, status=503)])
    assert found["v", "latency"].p50 == pytest.approx(0.5)
    assert found["v", "latency"].p95 == pytest.approx(0.95)
    assert found["v", "error"].value == pytest.approx(1 / 102)


def test_experiments_get_an_outcome_per_request_and_one_per_conversation():
    rows = [row(n, conversation=f"talk{n // 2}", refusal=n == 1) for n in range(4)]
    feedback = [
        Feedback("r1", "rating", 5.0),
        Feedback("r0", "escalation", 0.0),
        Feedback("r1", "escalation", 1.0),
        Feedback("r3", "escalation", 0.0),
    ]
    found = live_series.request_outcomes(columns(rows), feedback, BUILT_IN)
    none = np.nan
    np.testing.assert_array_equal(found["refusal"], [0, 1, 0, 0])
    np.testing.assert_array_equal(found["rating"], [none, 5, none, none])
    np.testing.assert_array_equal(found["escalation"], [1, none, none, 0])
    assert "latency" in found
