"""Errors as people see them: one message, one hint, the right exit status."""

import click
import pytest

from kamerton.cli import train
from kamerton.cli.main import VERBS, run
from kamerton.core.errors import InterruptedRun


def failed(arguments: list[str], capsys, monkeypatch) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["kamerton", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run()
    captured = capsys.readouterr()
    assert captured.out == ""
    return int(stopped.value.code or 0), captured.err


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["trainn"], "error: there is no verb 'trainn'; did you mean 'train'?", "kamerton --help"),
        (["chat"], "error: Missing argument 'VARIANTS...'.", "kamerton chat --help"),
        (["chat", "a", "b", "c"], "error: at most two variants", "kamerton chat --help"),
        (["check", "nosuch.jsonl"], "error: nosuch.jsonl: no such file", "give a path"),
    ],
)
def test_an_error_has_a_hint(arguments, message, hint, capsys, monkeypatch) -> None:
    status, text = failed(arguments, capsys, monkeypatch)
    assert status in (1, 2)
    lines = [line for line in text.splitlines() if line.startswith(("error:", "hint:"))]
    assert lines[0].startswith(message)
    assert lines[1].startswith(f"hint: {hint}")


def test_a_stopped_run_is_no_error_and_says_how_to_go_on(capsys, monkeypatch) -> None:
    def stopped() -> None:
        raise InterruptedRun("stopped after step 3 of 9", hint="the same command goes on")

    monkeypatch.setattr(train, "train", click.command("train")(stopped))
    status, text = failed(["train"], capsys, monkeypatch)
    assert status == InterruptedRun.exit_status
    assert text.splitlines() == ["stopped after step 3 of 9", "hint: the same command goes on"]


def test_no_colour_codes_where_nobody_reads_them(capsys, monkeypatch) -> None:
    _, text = failed(["trainn"], capsys, monkeypatch)
    assert "\x1b" not in text


@pytest.mark.parametrize("verb", VERBS)
def test_no_help_is_cut(verb: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["kamerton", verb, "--help"])
    run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Usage: kamerton {verb}")
    # Arguments that may be repeated end the usage line with dots.
    assert not [line for line in lines[1:] if line.endswith("...")]
    assert max(map(len, lines)) <= 80
