"""Answers, questions and names are printed as they were written."""

import io

import pytest
from rich.console import Console

from kamerton.cli.answers import answer_panel, print_side_by_side
from kamerton.cli.chat import _answer
from kamerton.core.protocols import Generation
from kamerton.flows.chat import Conversation
from kamerton.testing import FakeEngine

ODD = "[billing | escalate: yes] [/bold] :warning: [red]"


def console(width: int) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=width, color_system=None), file


def test_a_panel_keeps_brackets_and_codes() -> None:
    out, file = console(80)
    out.print(answer_panel(ODD, "lora [4]"))
    assert ODD in file.getvalue()
    assert "lora [4]" in file.getvalue()


def test_an_empty_answer_says_so() -> None:
    out, file = console(80)
    out.print(answer_panel(" \n", "base"))
    assert "(empty)" in file.getvalue()


def test_two_answers_stand_side_by_side_at_80_columns() -> None:
    out, file = console(80)
    print_side_by_side(out, {"left": "first " * 20, "right": "second " * 20})
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "left" in lines[0]
    assert "right" in lines[0]
    assert file.getvalue().count("first") == file.getvalue().count("second") == 20


def test_two_answers_stand_below_each_other_at_40_columns() -> None:
    out, file = console(40)
    print_side_by_side(out, {"left": "first", "right": "second"})
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert len(lines) == 6


@pytest.mark.parametrize("names", [("one",), ("one", "two")])
def test_chat_keeps_what_the_model_says(names: tuple[str, ...], capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    engines = {name: FakeEngine(lambda chat: ODD) for name in names}
    _answer(Conversation(engines, Generation(max_tokens=50)), "[hello]")
    assert capsys.readouterr().out.count(ODD) == len(names)
