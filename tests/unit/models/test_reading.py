"""Whoever waits for a base is told how much of it is read."""

import time

import pytest

from kamerton.core.events import Event, Progress
from kamerton.models import reading
from kamerton.models.load import load_base
from kamerton.models.reading import ReadingProgress


@pytest.mark.parametrize("quantise", ["none", "int8"])
def test_loading_tells_how_many_bytes_of_the_weights_are_read(quantise, monkeypatch):
    monkeypatch.setattr(reading, "_EVERY_S", 0.0)
    told: list[Event] = []
    base = load_base("builtin:nano", dtype="float32", quantise=quantise, sink=told.append)
    size = (base.identity.folder / "model.safetensors").stat().st_size
    events = [event for event in told if isinstance(event, Progress)]
    read = [event.done for event in events if event.task == "reading weights"]
    assert {(event.total, event.unit) for event in events} == {(size, "bytes")}
    assert (read[0], read[-1]) == (0, size)
    # Tensor by tensor, and only the last event is the end.
    assert len(read) > 20
    assert read == sorted(set(read))


def test_what_is_read_at_once_is_not_worth_a_word(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(bytes(100))
    told: list[Event] = []
    counter = ReadingProgress("checking weights", [file], told.append)
    counter.add(60)
    counter.finish()
    assert told == []


def test_what_takes_longer_tells_beginning_middle_and_end(tmp_path, monkeypatch):
    file = tmp_path / "weights"
    file.write_bytes(bytes(100))
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    told: list[Event] = []
    counter = ReadingProgress("checking weights", [file], told.append)
    for now[0] in (0.4, 0.6, 0.65, 0.8):
        counter.add(20)
    counter.finish()
    assert [event.done for event in told if isinstance(event, Progress)] == [40, 80, 100]
