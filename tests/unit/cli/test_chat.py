"""What is typed in `kamerton chat`: commands stay out of the conversation."""

import io
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kamerton.cli.chat import chat
from kamerton.core.protocols import Chat, Generation
from kamerton.flows.chat import Conversation
from kamerton.testing import FakeEngine


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("/quit\nhello\n", ["hello"]),
        ("/\n/help me\nhello\n", ["hello"]),
        ("hello\n/new\nagain\n", ["hello", "again"]),
        # A path is no command.
        ("/etc/hosts is broken\n", ["/etc/hosts is broken"]),
    ],
)
def test_unknown_commands_never_reach_the_model(
    typed: str, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    def answer(messages: Chat) -> str:
        heard.append(str(messages[-1]["content"]))
        return "yes"

    made = Conversation({"desk": FakeEngine(answer)}, Generation(max_tokens=50))
    monkeypatch.setattr(Conversation, "open", lambda *_, **__: made)
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    done = CliRunner().invoke(chat, ["desk", "--project", str(tmp_path)], input=typed)
    assert done.exit_code == 0, done.output
    assert heard == asked
    commands = [line for line in typed.splitlines() if line.startswith("/") and "/etc" not in line]
    unknown = [command for command in commands if command != "/new"]
    assert done.stderr.count("error: there is no /") == len(unknown)
    for command in unknown:
        assert f"error: there is no {command}; empty input or Ctrl-D ends, /new" in done.stderr


def test_an_empty_message_is_not_asked(tmp_path: Path) -> None:
    done = CliRunner().invoke(chat, ["desk", "-m", " ", "--project", str(tmp_path)])
    assert done.exit_code == 2
    assert "--message is empty" in done.stderr
