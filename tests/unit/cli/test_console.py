"""What is seen while something runs."""

import io
import queue
import signal

import pytest
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kamerton.cli import console
from kamerton.cli.audit_table import print_audit
from kamerton.cli.progress_lines import Remaining, pulse
from kamerton.cli.stopping import stop_flag
from kamerton.core.durations import duration_text
from kamerton.core.events import Forecast, Notice, RunFinished, RunStarted, StepDone
from kamerton.core.events import Progress as ProgressEvent
from kamerton.core.language import current_language, speaking
from kamerton.data.audit.audit import audit
from kamerton.data.dataset import load_examples
from kamerton.data.settings import DataSettings


def shown(bars: Progress) -> list[str]:
    return [task.description for task in bars.tasks if task.visible]


def test_something_moves_before_between_and_after_tasks() -> None:
    bars = Progress(disable=True)
    sink = console._Bars(bars, announce=False)
    assert shown(bars) == ["working"]
    sink(ProgressEvent("asking base", 0, 3))
    assert shown(bars) == ["asking base"]
    sink(ProgressEvent("asking base", 3, 3))
    assert shown(bars) == ["working"]
    # The first step may take long: its bar is there before it.
    sink(RunStarted("id", "lora", num_steps=10, first_step=0))
    assert shown(bars) == ["training"]


def test_a_log_names_each_task_once_and_keeps_brackets(capsys) -> None:
    with console.progress_sink() as sink:
        for done in (0, 1, 2, 3, 0):
            sink(ProgressEvent("asking [base]", done, 3))
        sink(Notice("row [3] :warning: left out", "warning"))
    assert capsys.readouterr().err.splitlines() == [
        "asking [base]",
        "warning: row [3] :warning: left out",
    ]


def log(now: list[float]) -> tuple[io.StringIO, console._Bars]:
    """Make a log and what writes into it; `now` is the time."""
    file = io.StringIO()
    bars = Progress(console=Console(file=file, width=200), disable=True)
    return file, console._Bars(bars, announce=True, clock=lambda: now[0])


def test_a_log_gets_a_line_every_ten_seconds_however_long_it_takes() -> None:
    now = [0.0]
    file, sink = log(now)
    sink(RunStarted("id", "lora", num_steps=2000, first_step=0))
    for step in range(1, 601):
        now[0] = float(step)
        sink(StepDone(step, 2000, 0.5, 1e-3, 1.0, 1000, 500, 1.0, share=step / 2000))
    lines = file.getvalue().splitlines()
    assert lines[:2] == [
        "training",
        "training: step 10 of 2,000, loss 0.500, 1,000 tokens/s, 0 %, about 33 min left",
    ]
    assert lines[-1].endswith(
        "step 600 of 2,000, loss 0.500, 1,000 tokens/s, 30 %, about 23 min left"
    )
    assert len(lines) == 61


def test_a_log_hears_of_a_task_that_does_not_move() -> None:
    now = [0.0]
    file, sink = log(now)
    sink(RunStarted("id", "lora", num_steps=4, first_step=0))
    for seconds in range(1, 26):
        now[0] = float(seconds)
        sink.lines.beat()
    sink(StepDone(1, 4, 0.5, 1e-3, 1.0, 1000, 500, 25.0, share=0.25))
    for seconds in range(26, 41):
        now[0] = float(seconds)
        sink.lines.beat()
    assert file.getvalue().splitlines() == [
        "training",
        "training: step 0 of 4, 10 s so far",
        "training: step 0 of 4, 20 s so far",
        "training: step 1 of 4, loss 0.500, 40 tokens/s, 25 %, about 70 s left",
        "training: step 1 of 4, loss 0.500, 40 tokens/s, 25 %, about 60 s left",
    ]


def test_a_log_says_that_it_works_where_no_task_is_named() -> None:
    now = [0.0]
    file, sink = log(now)
    sink(ProgressEvent("reading", 3, 3))
    now[0] = 12.0
    sink.lines.beat()
    assert file.getvalue().splitlines() == ["reading", "working: 12 s so far"]


def test_what_is_left_goes_by_size_where_items_differ() -> None:
    now = [0.0]
    file, sink = log(now)
    sink(ProgressEvent("asking base", 0, 60, "questions", 0.0))
    now[0] = 10.0
    sink(ProgressEvent("asking base", 10, 60, "questions", 0.5))
    assert file.getvalue().splitlines()[-1] == (
        "asking base: 10 of 60 questions, 50 %, about 10 s left"
    )


def test_what_is_left_goes_by_the_speed_of_late() -> None:
    remaining = Remaining(0.0, 0.0)
    assert remaining.seconds(0.0) is None
    for second in range(1, 101):
        remaining.note(float(second), second / 1000)
    # Ten times as fast from here on: after a minute the slow beginning is forgotten.
    for second in range(101, 171):
        remaining.note(float(second), 0.1 + (second - 100) / 100)
    assert remaining.seconds(170.0) == pytest.approx(20.0, rel=0.05)
    assert remaining.seconds(175.0) == pytest.approx(15.0, rel=0.05)


def test_a_pulse_speaks_the_language_of_whoever_waits() -> None:
    heard = queue.SimpleQueue[str]()
    with speaking("ru"), pulse(lambda: heard.put(current_language())):
        assert heard.get(timeout=10) == "ru"


def test_bytes_are_shown_as_mib_and_what_has_no_end_without_a_number() -> None:
    now = [0.0]
    file, sink = log(now)
    sink(ProgressEvent("loading PyTorch", 0, None))
    assert [task.fields["count"] for task in sink._bars.tasks if task.visible] == [""]
    sink(ProgressEvent("loading PyTorch", 1, 1))
    for share in range(9):
        now[0] = 10.0 * share
        sink(ProgressEvent("reading weights", share * 1e7, 1e9, "bytes"))
    assert file.getvalue().splitlines()[:3] == [
        "loading PyTorch",
        "reading weights",
        "reading weights: 10 of 954 MiB, 1 %, about 16 min left",
    ]
    assert len(file.getvalue().splitlines()) == 10


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(4.4, "4 s"), (100, "2 min"), (3600, "60 min"), (7300, "2 h 2 min"), (7200, "2 h")],
)
def test_durations_are_rough(seconds: float, said: str) -> None:
    assert duration_text(seconds) == said


def test_a_forecast_says_time_and_memory(capsys) -> None:
    with console.progress_sink() as sink:
        sink(RunStarted("id", "lora", num_steps=110, first_step=0))
        sink(Forecast(4, seconds=750, peak_bytes=3 << 29))
        sink(Forecast(4, seconds=3, peak_bytes=3 << 29))
    assert capsys.readouterr().err.splitlines() == [
        "training",
        "about 12 min for 106 steps to come and what follows them; memory about 1.5 GiB",
    ]


def test_a_stop_signal_is_gentle_only_while_there_is_something_to_save(capsys) -> None:
    with stop_flag() as stop:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        stop.watch(RunStarted("id", "lora", num_steps=10, first_step=0))
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert "stopping after this step" in capsys.readouterr().err
    with stop_flag() as stop:
        stop.watch(RunStarted("id", "lora", num_steps=10, first_step=0))
        stop.watch(RunFinished("id", 10, "done"))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_training_line_fits_80_columns(monkeypatch) -> None:
    file = io.StringIO()
    terminal = Console(file=file, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(console, "messages", terminal)
    with console.progress_sink() as sink:
        sink(StepDone(1500, 9999, 0.123, 1e-3, 1.0, 100_000, 50_000, 1.0))
    assert "1,500/9,999" in file.getvalue()
    assert "loss 0.123  100,000 tokens/s" in file.getvalue()


def test_an_audit_keeps_brackets_and_shows_short_places(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "desk [1].csv"
    file.write_text("text,label\nhello there,[bold]\nhello there,[bold]\nbye now,[/x]\n")
    found = audit(load_examples(DataSettings.parse({"train": str(file)}, source="test")))
    print_audit(console.data_console(), found)
    text = capsys.readouterr().out
    assert text.startswith("desk [1].csv: 3 of 3 rows")
    assert "[bold] 2, [/x] 1" in text
    assert "(line 3)" in text
    assert "\nwarning: only 3 examples: results" in text
    assert str(tmp_path) not in text


def test_a_table_in_a_pipe_is_as_wide_as_it_needs_to_be(capsys) -> None:
    table = Table(box=None)
    table.add_column("name")
    table.add_row("x" * 300)
    console.print_table(console.data_console(), table)
    assert "x" * 300 in capsys.readouterr().out


def test_escape_codes_are_written_out() -> None:
    said = "\x1b[31mred\x1b]0;title\x07 \u202etxt.exe\x9b1m\tкот 🐈\n"
    assert console.harmless(said) == (
        "\\x1b[31mred\\x1b]0;title\\x07 \\u202etxt.exe\\x9b1m\tкот 🐈\n"
    )
    assert console.harmless("\r") == "\\r"
