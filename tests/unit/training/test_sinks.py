"""The events file: what is written reads back, and older files are still read."""

from pathlib import Path

from kamerton.core.events import HoldoutMeasured
from kamerton.training.sinks import jsonl_sink, read_events


def test_events_read_back_and_older_names_are_renamed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "HoldoutMeasured", "step": 1, "loss": 2.0, "parts": {"kl": 0.5}}\n')
    jsonl_sink(path)(HoldoutMeasured(2, 1.5, True, {"kl": 0.25}))
    assert [(event["step"], event["metrics"]) for event in read_events(path)] == [
        (1, {"kl": 0.5}),
        (2, {"kl": 0.25}),
    ]
    assert not any("parts" in event for event in read_events(path))


def test_metrics_of_older_files_have_the_names_of_today(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    older = (
        '{"event": "StepDone", "step": 1, "metrics": {"good_change": 0.5, "bad_change": -1.0}}\n'
    )
    path.write_text(older)
    (event,) = read_events(path)
    assert event["metrics"] == {"desirable_change": 0.5, "undesirable_change": -1.0}
