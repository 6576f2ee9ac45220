"""From labelled texts to labels of a file, with a kill on the way."""

import csv
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.project import command, environment, kamerton

WORDS = {
    "delivery": ("parcel", "courier", "late", "address"),
    "refund": ("money", "back", "return", "paid"),
    "account": ("password", "login", "email", "profile"),
}
RECIPE = """\
name = "topics"
base = { id = "builtin:nano", dtype = "float32" }

[data]
train = "topics.csv"
holdout = 0.25
columns = { text = "ticket", label = "topic" }

[train]
epochs = 4
learning_rate = 3e-3
tokens_per_step = 400
threads = 1
"""

pytestmark = pytest.mark.slow


def tickets(num: int, seed: int) -> list[tuple[str, str]]:
    """Texts of words of their topic, with the topic."""
    draw = random.Random(seed)
    topics = [draw.choice(list(WORDS)) for _ in range(num)]
    return [
        (f"{' '.join(draw.choices(WORDS[topic], k=5))} {n}", topic)
        for n, topic in enumerate(topics)
    ]


def write(path: Path, rows: list[tuple[str, str]], names: tuple[str, str]) -> None:
    with path.open("w", encoding="cp1251", newline="") as file:
        csv.writer(file, delimiter=";").writerows(
            [("номер заявки", *names), *((n, *row) for n, row in enumerate(rows))]
        )


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("topics")
    write(folder / "topics.csv", tickets(160, seed=0), ("ticket", "topic"))
    (folder / "recipe.toml").write_text(RECIPE)
    kamerton("train", "recipe.toml", cwd=folder)
    write(folder / "new.csv", tickets(400, seed=1), ("ticket", "right"))
    return folder


def test_a_trained_variant_labels_a_file(project: Path) -> None:
    done = kamerton("predict", "topics", "new.csv", "--to", "all.csv", "--json", cwd=project)
    summary, rows = json.loads(done.stdout), read(project / "all.csv")
    assert [list(row) for row in rows[:1]] == [
        ["номер заявки", "ticket", "right", "label", "confidence"]
    ]
    assert [row["номер заявки"] for row in rows] == [str(n) for n in range(400)]
    share = sum(row["label"] == row["right"] for row in rows) / len(rows)
    assert share > 0.8
    sure = sum(float(row["confidence"]) for row in rows) / len(rows)
    assert abs(sure - share) < 0.15
    assert summary["num_answered"] == 400
    assert summary["calibration"]["num_items"] >= 30
    assert "400 of 400 rows answered: all.csv" in done.stderr


def test_after_kill_9_the_same_command_gives_the_same_file(project: Path) -> None:
    kamerton("predict", "topics", "new.csv", "--to", "whole.csv", cwd=project)
    words = command("predict", "topics", "new.csv", "--to", "killed.csv")
    part = project / "killed.csv.part"
    running = subprocess.Popen(
        words, cwd=project, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    # Well after the header and the calibration, well before the end.
    while running.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") > 20):
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert not (project / "killed.csv").exists()
    done = kamerton("predict", "topics", "new.csv", "--to", "killed.csv", cwd=project)
    assert "of 400 answers are there: going on" in done.stderr
    resumed, whole = read(project / "killed.csv"), read(project / "whole.csv")
    assert [row["label"] for row in resumed] == [row["label"] for row in whole]
    # A batch of another size adds up in another order.
    for one, other in zip(resumed, whole, strict=True):
        assert float(one["confidence"]) == pytest.approx(float(other["confidence"]), abs=2e-4)
    assert not part.exists()
