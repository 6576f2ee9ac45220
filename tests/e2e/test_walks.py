"""The walks of docs/first-hour.md: from a raw file to something that a shop can decide by.

Each walk runs the commands of its section as they stand there. What is asserted is what its user
has to know in the end: what the file was taken for, how long it takes, what training is compared
with, which of them is better, and what to do next.
"""

import csv
import random
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest

from tests.e2e.made_up import FILES
from tests.e2e.project import kamerton
from tests.e2e.test_readme import ROOT, fenced

PAGE = ROOT / "docs" / "first-hour.md"
MOST_COMMANDS = 5

pytestmark = pytest.mark.slow


def walks() -> dict[str, list[str]]:
    """Commands by the heading of their section."""
    text = PAGE.read_text(encoding="utf-8").partition("\n## From each kind of file")[2]
    sections = text.partition("\n## ")[0].split("\n### ")[1:]
    return {
        section.partition("\n")[0]: [
            line.removeprefix("$ ")
            for line in "".join(fenced(section, "console")).splitlines()
            if line.startswith("$ ")
        ]
        for section in sections
    }


@dataclass(frozen=True)
class Walked:
    """What a user has after a walk.

    Attributes:
        folder: The project.
        said: What each verb printed, with spaces in the place of line breaks.
        report: The words of the HTML report.
    """

    folder: Path
    said: dict[str, str]
    report: str


Walk = Callable[[str], Walked]


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Walk:
    # Without a cache there is no other base at hand than the bundled toy.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KAMERTON_LANGUAGE", "en")
    monkeypatch.setenv("COLUMNS", "160")

    def walked(heading: str) -> Walked:
        folder, said = tmp_path / "shop", {}
        folder.mkdir()
        shown = walks()[heading]
        assert len(shown) <= MOST_COMMANDS
        for name, write in FILES.items():
            if any(name in command for command in shown):
                write(folder / name, random.Random(name))
        for command in shown:
            program, *arguments = shlex.split(command)
            if program == "cd":
                folder /= arguments[0]
                continue
            assert program == "kamerton"
            done = kamerton(*arguments, cwd=folder)
            said[arguments[0]] = " ".join((done.stderr + done.stdout).split())
        return Walked(folder, said, words_of(folder / "report.html"))

    return walked


def words_of(report: Path) -> str:
    text = re.sub(r"<(style|script|svg).*?</\1>", " ", report.read_text("utf-8"), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def assert_way(walked: Walked, kind: str) -> None:
    """What every walk says."""
    new, train = walked.said["new"], walked.said["train"]
    assert kind in new
    assert "builtin:nano is a toy" in new
    assert "method to try first:" in new
    assert re.search(r"Forecast for this machine: .+ for \d+ steps, memory about", new)
    assert re.search(r"done after \d+ steps in \d+ s; kept step \d+, held-out loss", train)
    assert "general loss" in walked.report  # what was forgotten


def test_tickets_are_sorted(walk: Walk) -> None:
    walked = walk("Tickets in a table")
    assert_way(walked, "it is classification with 4 labels")
    new, evaluate = walked.said["new"], walked.said["evaluate"]
    assert "tickets.csv: 150 rows of 5 columns, cp1251" in new
    assert "read as: text from Обращение, label from Тема" in new
    for shown in (evaluate, walked.report):
        assert "zero-shot" in shown
        assert "4-shot" in shown
        assert "p<0.001" in shown
    with (walked.folder / "april-sorted.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert len(rows) == 20
    assert list(rows[0]) == ["Номер", "Дата", "Канал", "Обращение", "label", "confidence"]
    assert {row["label"] for row in rows} <= {"доставка", "возврат", "брак", "оплата"}
