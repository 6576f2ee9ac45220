"""What is seen while something runs."""

import io

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kamerton.cli import console
from kamerton.cli.audit_table import print_audit
from kamerton.core.events import Notice, RunStarted, StepDone
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


def test_a_log_says_now_and_then_how_far_a_long_task_is(capsys, monkeypatch) -> None:
    seconds = iter([0, 10, 31, 40, 62, 95, 96])
    terminal = Console(stderr=True, highlight=False, markup=False, width=200)
    sink = console._Bars(
        Progress(console=terminal, disable=True), announce=True, clock=lambda: next(seconds)
    )
    for done in (0, 10, 20, 25, 40, 40, 60):
        sink(ProgressEvent("asking base", done, 60))
    assert capsys.readouterr().err.splitlines() == [
        "asking base",
        "asking base: 20/60, about 62 s left",
        "asking base: 40/60, about 31 s left",
        "asking base: 60/60",
    ]


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
