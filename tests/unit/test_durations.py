"""The table of seconds by folder counts setup and teardown, and each test once."""

from types import SimpleNamespace

from tests.durations import table, time_by_folder


def report(nodeid: str, when: str, duration: float) -> SimpleNamespace:
    return SimpleNamespace(nodeid=nodeid, when=when, duration=duration)


def test_seconds_add_up_by_folder() -> None:
    reports = [
        report("tests/unit/core/test_a.py::test_one[x::y]", "call", 0.5),
        report("tests/unit/flows/test_b.py::test_two", "setup", 2.0),
        report("tests/unit/flows/test_b.py::test_two", "call", 1.0),
        report("tests/unit/flows/test_b.py::test_two", "teardown", 0.25),
        report("tests/unit/flows/test_c.py::Group::test_three", "call", 4.0),
        SimpleNamespace(message="a warning has no duration"),
        report("tests/unit/flows/test_c.py", "collect", 99.0),
    ]
    times = time_by_folder(reports)
    assert list(times.items()) == [("tests/unit/flows", (2, 7.25)), ("tests/unit/core", (1, 0.5))]
    assert table(times) == [
        "     7.2 s      2 tests  tests/unit/flows",
        "     0.5 s      1 tests  tests/unit/core",
        "     7.8 s      3 tests  all, one worker after another",
    ]
