"""What is seen while something runs."""

import io
import itertools
import signal

import pytest
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kamerton.cli import console
from kamerton.cli.audit_table import print_audit
from kamerton.cli.stopping import stop_flag
from kamerton.core.durations import duration_text
from kamerton.core.events import Forecast, Notice, RunFinished, RunStarted, StepDone
from kamerton.core.events import Progress as ProgressEvent
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


def test_a_log_says_only_what_is_new_of_a_task_that_waits_for_its_turn() -> None:
    file = io.StringIO()
    seconds = iter([0, 10, 31, 40, 62, 95, 96])
    bars = Progress(console=Console(file=file, width=200), disable=True)
    sink = console._Bars(bars, announce=True, clock=lambda: next(seconds))
    for done in (0, 10, 20, 25, 40, 40, 60):
        sink(ProgressEvent("asking base", done, 60))
    assert file.getvalue().splitlines() == [
        "asking base",
        "asking base: 10/60, about 50 s left",
        "asking base: 20/60, about 62 s left",
        "asking base: 25/60, about 56 s left",
        "asking base: 40/60, about 31 s left",
    ]


def test_a_log_gets_a_line_now_and_then(monkeypatch) -> None:
    file = io.StringIO()
    log = Console(file=file, width=200)
    now = [0.0]
    sink = console._Bars(Progress(console=log, disable=True), announce=True, clock=lambda: now[0])
    times: list[float] = []
    for step in range(1, 2001):
        now[0] = 10.0 * step
        before = len(file.getvalue())
        sink(StepDone(step, 2000, 0.5, 1e-3, 1.0, 1000, 500, 1.0))
        if len(file.getvalue()) > before:
            times.append(now[0])
    lines = file.getvalue().splitlines()
    assert lines[:2] == [
        "training",
        "training: 4/2,000, loss 0.500  1,000 tokens/s, about 5 h 33 min left",
    ]
    # Half a minute at first, a tenth of the time so far later on: never silent, never a flood.
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps[:5] == [30.0] * 5
    assert max(gaps) <= 2010.0
    assert len(lines) < 70


def test_a_short_task_in_a_log_says_every_tenth() -> None:
    file = io.StringIO()
    now = [0.0]
    bars = Progress(console=Console(file=file, width=200), disable=True)
    sink = console._Bars(bars, announce=True, clock=lambda: now[0])
    for done in range(51):
        now[0] = 1.2 * done
        sink(ProgressEvent("asking base", done, 50, "questions"))
    assert file.getvalue().splitlines() == [
        "asking base",
        *(
            f"asking base: {done}/50 questions, about {1.2 * (50 - done):.0f} s left"
            for done in range(5, 50, 5)
        ),
    ]


def test_bytes_are_shown_as_mib_and_what_has_no_end_without_a_number() -> None:
    file = io.StringIO()
    now = [0.0]
    bars = Progress(console=Console(file=file, width=200), disable=True)
    sink = console._Bars(bars, announce=True, clock=lambda: now[0], line_after_s=10.0)
    sink(ProgressEvent("loading PyTorch", 0, None))
    assert [task.fields["count"] for task in bars.tasks if task.visible] == [""]
    sink(ProgressEvent("loading PyTorch", 1, 1))
    for share in range(9):
        now[0] = 10.0 * share
        sink(ProgressEvent("reading weights", share * 1e7, 1e9, "bytes"))
    assert file.getvalue().splitlines()[:3] == [
        "loading PyTorch",
        "reading weights",
        "reading weights: 10/954 MiB, about 16 min left",
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
        sink(Forecast(4, seconds=750, peak_bytes=3 << 29))
        sink(Forecast(4, seconds=3, peak_bytes=3 << 29))
    assert capsys.readouterr().err.splitlines() == [
        "about 12 min to go, measurements included; memory at most 1.5 GiB so far"
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


def test_steady_lines_come_every_ten_seconds_however_long_it_takes() -> None:
    file = io.StringIO()
    now = [0.0]
    bars = Progress(console=Console(file=file, width=200), disable=True)
    sink = console._Bars(bars, announce=True, clock=lambda: now[0], line_after_s=10.0, steady=True)
    for second in range(601):
        now[0] = float(second)
        sink(ProgressEvent("answering", second, 100_000, "1.0 rows/s"))
    lines = file.getvalue().splitlines()
    assert len(lines) == 61
    assert lines[-1] == "answering: 600/100,000, 1.0 rows/s, about 27 h 37 min left"
