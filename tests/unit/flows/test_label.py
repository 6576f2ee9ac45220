"""Labelling a file: what is kept, what is dropped and why, what people get to look at."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import DataError, EvaluationError, SettingsError
from kamerton.core.events import Event, Notice
from kamerton.data.questions import AnswerForm
from kamerton.flows.answering import read_asked
from kamerton.flows.label import label, label_file, label_settings
from kamerton.flows.label_gold import ensure_enough, read_gold
from kamerton.flows.labelled_files import Labelled
from kamerton.flows.predict import predict
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.labelling.teacher import Verdict
from kamerton.store.variants import Variant

LABELS = ("account", "delivery", "refund")
FORM = AnswerForm("classification", {"text": "text", "label": "label"})


@dataclass
class FakeTeacher:
    """Takes the first word for the label; is sure of short texts, and wrong where told to be."""

    labels: Sequence[str] = LABELS
    note: str = ""
    asked: list[str] = field(default_factory=list)

    def judge(self, texts: Sequence[str]) -> Iterator[tuple[int, Verdict]]:
        for number, text in enumerate(texts):
            self.asked.append(text)
            first = text.split()[0]
            if first == "refuse":
                yield number, Verdict(fault="refusal", said="I cannot help with that")
            elif first not in self.labels:
                yield number, Verdict(fault="format", said=first)
            else:
                wrong = "long" in text and int(text.split()[-1]) % 3 == 0
                found = LABELS[(LABELS.index(first) + wrong) % 3]
                yield number, Verdict(found, 0.6 if "long" in text else 0.99)


def gold_file(folder: Path, num: int = 200) -> Path:
    path = folder / "gold.csv"
    rows = [
        (f"{LABELS[n % 3]} gold {'long ' * (n % 2)}{n // 2}", LABELS[n % 3]) for n in range(num)
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("ticket", "topic"), *rows])
    return path


def run(
    folder: Path, source: Path, *overrides: str, **options: Any
) -> tuple[Labelled, FakeTeacher]:
    teacher = options.pop("teacher", None) or FakeTeacher()
    columns = ("data.columns.text=ticket", "data.columns.label=topic")
    settings = label_settings(source, [*columns, *overrides])
    gold = read_gold(gold_file(folder), FORM, settings.data, lambda event: None)
    reading = settings.data.model_copy(update={"columns": {"text": "ticket"}})
    asked = read_asked(source, FORM, reading, lambda event: None)
    done = label(
        teacher, asked, folder / "out.jsonl", gold, options.pop("precision", 0.9), settings,
        lambda event: None,
    )  # fmt: skip
    return done, teacher


def tickets(folder: Path, extra: Sequence[str] = ()) -> Path:
    source = folder / "tickets.csv"
    texts = [f"{LABELS[n % 3]} new {'long ' * (n % 2)}{n // 2}" for n in range(60)]
    with source.open("w", newline="") as file:
        rows = [(str(n), text) for n, text in enumerate([*texts, *extra])]
        csv.writer(file).writerows([("customer", "ticket"), *rows])
    return source


def test_sure_labels_are_kept_and_the_others_go_to_people(tmp_path: Path) -> None:
    done, _ = run(tmp_path, tickets(tmp_path))
    kept = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert kept[0] == {
        "text": "account new 0",
        "customer": "0",
        "label": "account",
        "confidence": 0.99,
    }
    assert len(kept) == done.num_kept == 30
    assert done.selection.chosen is not None
    assert done.selection.chosen.threshold == 0.99
    assert done.selection.chosen.num_gold == done.selection.chosen.num_right == 100
    assert done.balance == {"account": 10, "refund": 10, "delivery": 10}
    assert done.dropped == {"below": 30}
    with (tmp_path / "out.review.csv").open(encoding="utf-8-sig") as file:
        review = list(csv.DictReader(file))
    assert len(review) == 30
    assert {row["label"] for row in review} == {""}
    assert review[0]["reason"] == "unsure"
    assert review[0]["place"].startswith(f"{tmp_path / 'tickets.csv'}:")
    assert "<svg" in (tmp_path / "out.curve.svg").read_text()


def test_what_is_dropped_is_counted_and_asked_once(tmp_path: Path) -> None:
    extra = ["", "refuse this", "nothing fits", "Account  NEW 0", "account gold 0", "refund new 4"]
    done, teacher = run(tmp_path, tickets(tmp_path, extra))
    assert done.dropped == {
        "unusable": 1,
        "repeat": 2,
        "known": 1,
        "refusal": 1,
        "format": 1,
        "below": 30,
    }
    assert sum(done.dropped.values()) + done.num_kept == done.num_rows == 66
    assert len(teacher.asked) == len(set(teacher.asked))
    with (tmp_path / "out.review.csv").open(encoding="utf-8-sig") as file:
        reasons = [(row["reason"], row["said"]) for row in csv.DictReader(file)]
    # Those without any label are the most uncertain.
    assert sorted(reasons[:2]) == [
        ("format", "nothing"),
        ("refusal", "I cannot help with that"),
    ]


def test_a_cap_keeps_so_many_rows_of_each_label(tmp_path: Path) -> None:
    done, _ = run(tmp_path, tickets(tmp_path), "select.per_label=4")
    assert done.balance == {"account": 4, "refund": 4, "delivery": 4}
    assert done.dropped == {"below": 30, "over cap": 18}


def test_a_precision_that_cannot_be_shown_keeps_nothing(tmp_path: Path) -> None:
    @dataclass
    class Wrong(FakeTeacher):
        def judge(self, texts: Sequence[str]) -> Iterator[tuple[int, Verdict]]:
            for number, found in super().judge(texts):
                yield number, Verdict("refund", found.confidence)

    done, _ = run(tmp_path, tickets(tmp_path), teacher=Wrong())
    assert (done.to, done.num_kept, done.dropped) == (None, 0, {"below": 60})
    # The same command comes again, with more gold rows or a lower precision.
    assert {path.name for path in tmp_path.glob("out.*")} == {"out.curve.svg"}


def test_too_few_gold_rows_are_refused_before_the_teacher_is_asked(tmp_path: Path) -> None:
    columns = ("data.columns.text=ticket", "data.columns.label=topic")
    settings = label_settings(tmp_path / "none.csv", columns)
    gold = read_gold(gold_file(tmp_path, 40), FORM, settings.data, lambda event: None)
    with pytest.raises(EvaluationError, match="0.95 cannot be proven with 40 gold rows: .* 59"):
        ensure_enough(gold, 0.95, 0.95)
    ensure_enough(gold, 0.9, 0.95)


def test_gold_rows_that_contradict_each_other_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("text,label\nlate,delivery\nLate ,refund\nlogin,account\nLogin,account\n")
    said: list[Event] = []
    gold = read_gold(path, FORM, label_settings(path, []).data, said.append)
    assert [(one.text, one.label) for one in gold.examples] == [("login", "account")]
    assert said == [
        Notice("2 gold rows left out: the same text has another label elsewhere", "warning")
    ]


def test_what_cannot_be_done_is_said_first(tmp_path: Path) -> None:
    source = tickets(tmp_path)
    (tmp_path / "out.review.csv").write_text("mine")
    with pytest.raises(SettingsError, match="labels never replace a file"):
        run(tmp_path, source)
    with pytest.raises(SettingsError, match="only data, select, teacher"):
        label_settings(source, ["train.epochs=1"])
    with pytest.raises(DataError, match="--gold: .*: no such file"):
        read_gold(tmp_path / "none.csv", FORM, label_settings(source, []).data, print)
    with pytest.raises(DataError, match="no row can be used: .*text"):
        read_gold(gold_file(tmp_path), FORM, label_settings(source, []).data, print)


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    """A prompt on nano that knows what its training rows were."""
    folder = tmp_path_factory.mktemp("topics")
    rows = [{"text": f"{LABELS[n % 3]} number {n}", "label": LABELS[n % 3]} for n in range(48)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "desk",
        "base": {"id": "builtin:nano", "dtype": "float32"},
        "data": {"train": "train.jsonl", "holdout": 0.5},
        "adapter": {"kind": "none"},
    }
    return make_variant(Recipe.parse(recipe), folder, Workspace(folder), lambda event: None).variant


def test_a_variant_labels_by_its_scores_and_a_second_run_computes_nothing(
    topics: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, gold = tmp_path / "new.csv", tmp_path / "gold.csv"
    source.write_text("text\n" + "".join(f"{LABELS[n % 3]} new {n}\n" for n in range(12)))
    gold.write_text(
        "text,label\n" + "".join(f"{LABELS[n % 3]} gold {n},{LABELS[n % 3]}\n" for n in range(8))
    )

    def once(precision: float) -> Labelled:
        return label_file(
            *([topics], source, tmp_path / f"{precision}.jsonl", gold, precision),
            *(label_settings(source, []), Workspace(tmp_path), lambda event: None),
        )

    done = once(0.6)
    # The expected confidence is that of `kamerton predict`.
    predicted = predict(topics, source, tmp_path / "predicted.jsonl", lambda event: None)
    rows = [json.loads(line) for line in (tmp_path / "predicted.jsonl").read_text().splitlines()]
    lowest = done.selection.curve[-1].threshold
    assert lowest == pytest.approx(min(row["confidence"] for row in rows), abs=1e-4)
    assert predicted.calibration is not None

    def no_base(*arguments: Any) -> None:
        raise AssertionError("everything is known")

    monkeypatch.setattr("kamerton.flows.label_local.load_base_for", no_base)
    assert once(0.55).selection.curve[-1].threshold == lowest
