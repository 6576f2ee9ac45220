"""Errors as people see them: one message, one hint, the right exit status."""

import errno
import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("colourless", [True, False])
def test_no_colour_where_nobody_wants_it(colourless: bool, tmp_path: Path) -> None:
    """In a real terminal (a pseudo one), so that there would be colour without NO_COLOR."""
    pty = pytest.importorskip("pty", reason="Windows has no pseudo terminals")
    (tmp_path / "d.jsonl").write_text('{"text": "hello there"}\nbad\n')
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        **({"NO_COLOR": "1"} if colourless else {}),
    }
    if not colourless:
        environment.pop("NO_COLOR", None)
    subprocess.run(
        [sys.executable, "-m", "kamerton", "check", "d.jsonl"], cwd=tmp_path, env=environment,
        stdout=theirs, stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    os.close(theirs)
    text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert ("\x1b[3" in text) is not colourless


@pytest.mark.parametrize("verb", VERBS)
def test_no_help_is_cut(verb: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["kamerton", verb, "--help"])
    run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Usage: kamerton {verb}")
    # Arguments that may be repeated end the usage line with dots.
    assert not [line for line in lines[1:] if line.endswith("...")]
    assert max(map(len, lines)) <= 80


DATA = '{"prompt": "Сколько?", "completion": "\x1b[31mТри.\x1b[0m"}\n'


def spoken(
    arguments: list[str], folder: Path, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "kamerton", *arguments], cwd=folder, capture_output=True,
        check=False, env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )  # fmt: skip


def test_a_terminal_without_our_letters_gets_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(DATA.replace("\x1b", "\\u001b") * 3)
    done = spoken(["check", "d.jsonl", "--show", "1"], tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"\\u0421" in done.stdout
    # What is trained is marked, and nothing in the data is obeyed.
    assert b"[[" in done.stdout
    assert b"\\x1b[31m" in done.stdout
    assert b"\x1b" not in done.stdout


def test_check_says_what_it_took_and_what_comes_next(tmp_path: Path) -> None:
    row = '{"subject": "s", "body": "b", "topic": "t", "note": "n"}\n'
    (tmp_path / "d.jsonl").write_text(row * 3)
    columns = r'data.columns={text = "{subject}\n{body}", label = "topic"}'
    done = spoken(["check", "d.jsonl", "--set", columns], tmp_path)
    lines = [" ".join(line.split()) for line in done.stdout.decode().splitlines()]
    assert r"columns text = {subject}\n{body}, label = topic" in lines
    assert "not learned note" in lines
    following = f"next: kamerton check d.jsonl --set '{columns}' --show 3"
    assert done.stderr.decode().splitlines()[-1] == following
    done = spoken(["check", "d.jsonl", "--set", columns, "--json"], tmp_path)
    assert b"next:" not in done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "hello there"}\n' * 3)
    command = f"{sys.executable} -m kamerton check d.jsonl | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "141"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("name", ["faq.tsv", "faq.jsonl.gz", "FAQ.PARQUET"])
def test_data_is_no_recipe(name: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"question\tanswer\n")
    status, text = failed(["train", name], capsys, monkeypatch)
    assert status == 2
    lines = text.splitlines()
    assert lines[0] == f"error: {name}: this is data, and train takes a recipe"
    assert f'[data] has train = "{name}"' in lines[1]
    assert f"kamerton check {name}" in lines[1]


def test_a_recipe_that_is_not_there_is_guessed(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, text = failed(["train", "desk.toml"], capsys, monkeypatch)
    assert status == 2
    assert "error: desk.toml: no such file\nhint: give the path of a recipe" in text
    Path("desk.toml").write_bytes(b"")
    for typed in ("desk", "dsek.toml"):
        _, text = failed(["train", typed], capsys, monkeypatch)
        assert f"{typed}: no such file; did you mean 'desk.toml'?" in text
    _, text = failed(["train", "."], capsys, monkeypatch)
    assert "error: .: must be a recipe, found a folder" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        ('name = "имя"'.encode("cp1251"), "a recipe must be UTF-8 text"),
    ],
)
def test_a_strange_recipe_is_an_error(content, said, tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "r.toml").write_bytes(content)
    status, text = failed(["train", str(tmp_path / "r.toml")], capsys, monkeypatch)
    assert status == 2
    assert said in text


def test_an_error_about_the_system_hints_at_its_cause(capsys, monkeypatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x")

    monkeypatch.setattr(train, "train", click.command("train")(full))
    _, text = failed(["train"], capsys, monkeypatch)
    assert text.splitlines()[0] == "error: runs/x: No space left on device"
    assert text.splitlines()[1].startswith("hint: make room on the disk")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "r.toml", "--project", "typo"], "--project: there is no folder typo"),
        (["chat", "desk", "--project", "typo"], "--project: there is no folder typo"),
        (["chat", "a", "b", "--votes", "typo/v.jsonl"], "--votes: there is no folder typo"),
        (["variant", "merge", "desk", "typo/out"], "FOLDER: there is no folder typo"),
        (["variant", "export", "desk", "--to", "typo/out"], "--to: there is no folder typo"),
    ],
)
def test_mistyped_folders_are_not_made(
    arguments, said, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text('name = "desk"\ndata.train = "d.jsonl"\n')
    status, text = failed(arguments, capsys, monkeypatch)
    assert status == 2
    assert text.splitlines()[0] == f"error: {said}"
    assert text.splitlines()[1].endswith("mkdir -p typo makes it")
    assert [path.name for path in tmp_path.iterdir()] == ["r.toml"]
