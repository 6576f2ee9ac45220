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
        verdict: The first line of the evaluation.
        report: The words of the HTML report.
    """

    folder: Path
    said: dict[str, str]
    verdict: str
    report: str


Walk = Callable[[str], Walked]


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Walk:
    # Without a cache there is no other base at hand than the bundled toy.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KAMERTON_LANGUAGE", "en")
    monkeypatch.setenv("COLUMNS", "160")

    def walked(heading: str) -> Walked:
        folder, said, verdict = tmp_path / "shop", {}, ""
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
            if arguments[0] == "evaluate":
                verdict = done.stdout.partition("\n")[0]
        return Walked(folder, said, verdict, words_of(folder / "report.html"))

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
    assert re.search(r"Forecast for this machine .+: .+ for \d+ steps, .+ GiB of memory", new)
    assert re.search(r"done after \d+ steps in \d+ s; kept step \d+, held-out loss", train)
    assert "fewer than 20 held out" not in train
    assert "general loss" in walked.report  # what was forgotten
    assert walked.verdict in walked.report
    assert "## What to decide by" in (walked.folder / "README.md").read_text(encoding="utf-8")


def assert_advice(walked: Walked, words: str, command: str) -> None:
    """The last lines of the evaluation say what to do, and with which command."""
    advice = walked.said["evaluate"].partition("what to do next:")[2]
    assert words in advice
    assert command in advice
    assert words in walked.report


def test_tickets_are_sorted(walk: Walk) -> None:
    walked = walk("Tickets in a table")
    assert_way(walked, "it is classification with 4 labels")
    new, evaluate = walked.said["new"], walked.said["evaluate"]
    assert "tickets.csv: 150 rows, 5 columns, cp1251" in new
    assert "read as: text from Обращение, label from Тема" in new
    assert "not read: Номер, Дата, Канал" in new
    assert re.fullmatch(
        r"tickets-lora answers \d+ % of 30 questions right, .+ \d+ %: switch it on\.",
        walked.verdict,
    )
    assert_advice(walked, "points of accuracy: use it", "kamerton predict tickets-lora FILE")
    for shown in (evaluate, walked.report):
        assert "zero-shot" in shown
        assert re.search(r"\d+-shot", shown)
        assert "p<0.001" in shown
    with (walked.folder / "april-sorted.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert len(rows) == 20
    assert list(rows[0]) == ["Номер", "Дата", "Канал", "Обращение", "label", "confidence"]
    assert {row["label"] for row in rows} <= {"доставка", "возврат", "брак", "оплата"}


def test_sentences_are_rewritten(walk: Walk) -> None:
    walked = walk("Sentences before and after")
    assert_way(walked, "it is rewriting of texts")
    assert "read as: prompt from before, completion from after" in walked.said["new"]
    assert "rewritings-lora is closer to your texts than a prompt" in walked.verdict
    assert "read the pairs below before you switch it on" in walked.verdict
    assert_advice(walked, "read the pairs, then use it", "kamerton predict rewritings-lora FILE")
    for shown in (walked.said["evaluate"], walked.report):
        # The loss says that it is nearer to the house's texts than prompting is.
        assert "loss, nats a token" in shown
        assert "chrF" in shown
        assert re.search(r"\d+-shot", shown)
        assert "p<0.001" in shown
        assert "wrong" not in shown
    with (walked.folder / "drafts-rewritten.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["before", "answer"]
    assert len(rows) == 10
    assert all(row["answer"] for row in rows)


def test_thumbs_are_learned_from(walk: Walk) -> None:
    walked = walk("Dialogues with thumbs")
    assert_way(walked, "it is answers with thumbs up or down")
    assert "method to try first: KTO + LoRA" in walked.said["new"]
    assert "talks-lora puts answers that users liked above those that they" in walked.verdict
    assert_advice(walked, "read what it writes itself, then use it", "kamerton chat talks-lora")
    for shown in (walked.said["evaluate"], walked.report):
        assert "liked above disliked" in shown
        assert "zero-shot" in shown
        assert "p<0.001" in shown


def test_texts_get_several_labels(walk: Walk) -> None:
    walked = walk("Several labels to a text")
    assert_way(walked, "it is classification with 4 labels, several to a text")
    assert re.match(r'reviews-lora reaches \d+ % in "all labels right" on 30', walked.verdict)
    assert_advice(walked, "points of all labels right: use it", "kamerton predict reviews-lora")
    for shown in (walked.said["evaluate"], walked.report):
        assert "all labels right" in shown
        assert "labels F1" in shown
        assert "is JSON" in shown
        assert "p<0.001" in shown


def test_fields_are_read_out_of_letters(walk: Walk) -> None:
    walked = walk("Fields out of letters")
    assert_way(walked, "it is extraction to JSON with 4 keys")
    # The toy learns the form, and which fields it cannot copy is seen.
    assert re.match(r'orders-lora reaches \d+ % in "(all fields right|field \w+)"', walked.verdict)
    for shown in (walked.said["evaluate"], walked.report):
        assert "all fields right" in shown
        for key in ("name", "town", "product", "pieces"):
            assert f"field {key}" in shown
    with (walked.folder / "letters-read.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert {"letter", "name", "town", "product", "pieces"} <= rows[0].keys()


def test_texts_alone_are_learned(walk: Walk) -> None:
    walked = walk("Texts alone")
    assert_way(walked, "it is plain texts")
    assert "news.txt: 150 rows, 1 column, cp1251" in walked.said["new"]
    assert "news-lora foresees your texts better than base alone does: loss" in walked.verdict
    for shown in (walked.said["evaluate"], walked.report):
        assert "base alone" in shown
        assert "loss, nats a token" in shown
        assert "p<0.001" in shown
