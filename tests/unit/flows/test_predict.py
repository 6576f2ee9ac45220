"""Applying a variant to a file: every row, every column, resumed, labels only."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import DataError, InterruptedRun, SettingsError
from kamerton.core.events import Event, Notice
from kamerton.core.protocols import Chat, Score
from kamerton.flows import predict as predicting
from kamerton.flows.predict import Predicted, predict
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.variants import Variant, read_variant
from kamerton.testing import FakeEngine
from kamerton.variants.opening import Ready

LABELS = ("account", "delivery", "refund")


def a_variant(folder: Path, rows: Sequence[dict[str, Any]], name: str = "desk") -> Variant:
    """A prompt on nano that knows what its training rows were."""
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": name,
        "base": {"id": "builtin:nano", "dtype": "float32"},
        "data": {"train": "train.jsonl", "holdout": 0.5},
        "adapter": {"kind": "none"},
        "generation": {"max_new_tokens": 4},
    }
    return make_variant(Recipe.parse(recipe), folder, Workspace(folder), lambda event: None).variant


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    rows = [{"text": f"{LABELS[n % 3]} number {n}", "label": LABELS[n % 3]} for n in range(48)]
    return a_variant(tmp_path_factory.mktemp("topics"), rows)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    rows = [{"prompt": f"Box {n}?", "completion": f"It is {n}."} for n in range(12)]
    return a_variant(tmp_path_factory.mktemp("answers"), rows)


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    rows = [
        {"prompt": f"Box {n}?", "completion": f'{{"id": {n}, "colour": "red"}}'} for n in range(9)
    ]
    return a_variant(tmp_path_factory.mktemp("fields"), rows)


class CountingEngine(FakeEngine):
    """Notes what it is asked."""

    asked: list[str]

    def stream(self, chats: Sequence[Chat], *others: Any) -> Iterator[Any]:
        self.asked.extend(chat[-1]["content"] for chat in chats)
        return super().stream(chats, *others)

    def score(self, chats: Sequence[Chat], answers: Any, *others: Any) -> list[list[Score]]:
        self.asked.extend(chat[-1]["content"] for chat in chats)
        return super().score(chats, answers, *others)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], str]], list[str]]:
    """Let a function answer in the place of the variant."""

    def use(answer: Callable[[str], str]) -> list[str]:
        fake = CountingEngine(lambda chat: answer(chat[-1]["content"]))
        object.__setattr__(fake, "asked", [])
        make = predicting.make_ready

        def ready(*arguments: Any) -> Ready:
            return replace(make(*arguments), engine=fake)

        monkeypatch.setattr(predicting, "make_ready", ready)
        return fake.asked

    return use


def run(variant: Variant, source: Path, to: str, **options: Any) -> tuple[Predicted, Path]:
    written = source.parent / to
    return predict(variant, source, written, lambda event: None, **options), written


def table(path: Path, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter=delimiter))


def test_a_table_keeps_rows_columns_order_and_separator(
    topics: Variant, engine: Any, tmp_path: Path
) -> None:
    engine(lambda text: text.split()[0])
    source = tmp_path / "tickets.csv"
    lines = ["№;text;заметка", "7;refund please;да", "3;;нет", "9;delivery late;=1+1"]
    source.write_bytes("\r\n".join(lines).encode("cp1251"))
    done, written = run(topics, source, "answers.csv")
    header, *rows = table(written, ";")
    assert header == ["№", "text", "заметка", "label", "confidence"]
    assert [row[:4] for row in rows] == [
        ["7", "refund please", "да", "refund"],
        ["3", "", "нет", ""],
        ["9", "delivery late", "=1+1", "delivery"],
    ]
    assert rows[1][4] == ""
    assert 0.5 < float(rows[0][4]) <= 1
    # Excel takes UTF-8 for cp1251 without the mark.
    assert written.read_bytes().startswith(b"\xef\xbb\xbf")
    assert (done.num_rows, done.num_answered) == (3, 2)
    assert done.problems == [f"{source}:3: text: is empty"]
    assert done.counts == {"refund": 1, "delivery": 1}
    assert not (tmp_path / "answers.csv.part").exists()


def test_labels_are_scored_by_the_variant_and_come_from_training(
    topics: Variant, tmp_path: Path
) -> None:
    assert topics.manifest.data.labels == LABELS
    source = tmp_path / "new.jsonl"
    source.write_text('{"text": "refund me", "n": [1]}\n{"text": "hello"}\n')
    done, written = run(topics, source, "out.jsonl")
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert [list(row) for row in rows] == [
        ["text", "n", "label", "confidence"],
        ["text", "label", "confidence"],
    ]
    assert all(row["label"] in LABELS and 1 / 3 <= row["confidence"] <= 1 for row in rows)
    assert done.calibration is not None
    assert done.calibration.num_items == 24
    done, written = run(topics, source, "other.jsonl", labels=["yes", "no"])
    assert set(done.counts) <= {"yes", "no"}
    assert "not calibrated" in done.calibrated_on


def test_repeats_are_computed_once(answers: Variant, engine: Any, tmp_path: Path) -> None:
    asked = engine(lambda text: text.upper())
    source = tmp_path / "boxes.csv"
    source.write_text("id,prompt\n1,Box a?\n2,Box b?\n3,Box a?\n")
    done, written = run(answers, source, "out.csv")
    assert asked == ["Box a?", "Box b?"]
    assert [row[2] for row in table(written)] == ["answer", "BOX A?", "BOX B?", "BOX A?"]
    assert (done.num_repeats, done.num_answered) == (1, 3)
    # The table that was read has no mark, and none is needed by who wrote it.
    assert written.read_bytes().startswith(b"id,")


def test_a_stopped_run_goes_on_and_another_input_is_refused(
    answers: Variant, engine: Any, tmp_path: Path
) -> None:
    def stops(text: str) -> str:
        if text == "Box 2?":
            raise KeyboardInterrupt
        return text.lower()

    engine(stops)
    source = tmp_path / "boxes.csv"
    source.write_text("prompt\n" + "".join(f"Box {n}?\n" for n in range(4)))
    with pytest.raises(InterruptedRun, match="stopped after 2 of 4 answers"):
        run(answers, source, "out.csv")
    assert not (tmp_path / "out.csv").exists()
    part = tmp_path / "out.csv.part"
    # kill -9 may leave half a line.
    part.write_bytes(part.read_bytes() + b'{"row": 2, "te')
    with pytest.raises(SettingsError, match="begun with another settings"):
        run(answers, source, "out.csv", overrides=["generation.max_new_tokens=3"])
    asked = engine(str.lower)
    text = source.read_text()
    source.write_text(text + "Box 9?\n")
    with pytest.raises(SettingsError, match="begun with another input"):
        run(answers, source, "out.csv")
    source.write_text(text)
    done, written = run(answers, source, "out.csv")
    assert asked == ["Box 2?", "Box 3?"]
    assert [row[1] for row in table(written)[1:]] == [f"box {n}?" for n in range(4)]
    assert (done.num_computed, done.num_answered) == (2, 4)


def test_json_answers_become_columns(fields: Variant, engine: Any, tmp_path: Path) -> None:
    def answer(text: str) -> str:
        return '{"colour":"=cmd()","id":[1]}' if "1" in text else "none"

    engine(answer)
    source = tmp_path / "boxes.csv"
    source.write_text("id,prompt\n-1,Box 1?\n2,Box 2?\n")
    done, written = run(fields, source, "out.csv")
    assert table(written) == [
        ["id", "prompt", "json.id", "colour"],
        ["-1", "Box 1?", "[1]", "'=cmd()"],
        ["2", "Box 2?", "", ""],
    ]
    assert done.problems == [f"{source}:3: the answer is no JSON object: 'none'"]


def test_only_uncertain_rows_are_a_queue(topics: Variant, tmp_path: Path) -> None:
    source = tmp_path / "new.csv"
    texts = [f"{LABELS[n % 3]} number {n} {'and more ' * n}" for n in range(8)]
    source.write_text("text\n" + "\n".join(texts) + '\n" "\n')
    _, whole = run(topics, source, "all.csv")
    sure = [float(row[2]) for row in table(whole)[1:] if row[2]]
    limit = sorted(sure)[4]
    done, queue = run(topics, source, "queue.csv", only_uncertain=limit)
    found = [row[2] for row in table(queue)[1:]]
    assert found[0] == ""
    assert [float(one) for one in found[1:]] == sorted(sure)[:4]
    assert done.num_written == 5


def test_parquet_keeps_its_types(topics: Variant, engine: Any, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    engine(lambda text: text.split()[0])
    before = pyarrow.table(
        {"when": pyarrow.array([0, 1], pyarrow.date32()), "text": ["refund a", "delivery b"]}
    )
    parquet.write_table(before, tmp_path / "new.parquet")
    _, written = run(topics, tmp_path / "new.parquet", "out.parquet")
    after = parquet.read_table(written)
    assert after.column_names == ["when", "text", "label", "confidence"]
    assert after.select(["when", "text"]).equals(before)
    assert after["label"].to_pylist() == ["refund", "delivery"]


def test_a_variant_without_notes_reads_its_training_file(
    topics: Variant, engine: Any, tmp_path: Path
) -> None:
    engine(lambda text: text.split()[0])
    noted = topics.manifest.data.model_copy(update={"format": "", "labels": (), "columns": {}})
    older = replace(topics, manifest=topics.manifest.model_copy(update={"data": noted}))
    assert older.manifest.identity() == topics.manifest.content_hash
    source = tmp_path / "new.csv"
    source.write_text("text\nrefund me\n")
    assert run(older, source, "out.csv")[0].counts == {"refund": 1}


def test_what_cannot_be_done_is_said_first(
    topics: Variant, answers: Variant, tmp_path: Path
) -> None:
    source = tmp_path / "new.csv"
    source.write_text("text\nrefund me\n")
    with pytest.raises(SettingsError, match="answers never replace a file"):
        run(topics, source, "new.csv")
    with pytest.raises(SettingsError, match="ending must say the format"):
        run(topics, source, "out.xlsx")
    with pytest.raises(DataError, match="no such file"):
        run(topics, tmp_path / "none.csv", "out.csv")
    with pytest.raises(SettingsError, match="only labels have a confidence"):
        run(answers, source, "out.csv", only_uncertain=0.5)
    with pytest.raises(SettingsError, match="trained already"):
        run(topics, source, "out.csv", overrides=["data.holdout=0.3"])
    with pytest.raises(SettingsError, match="only data"):
        run(topics, source, "out.csv", overrides=["evaluate.limit=3"])


def test_changed_training_data_leave_the_confidence_as_it_is(
    topics: Variant, engine: Any, tmp_path: Path
) -> None:
    engine(lambda text: text.split()[0])
    folder = Path(topics.manifest.recipe_folder)
    text = (folder / "train.jsonl").read_text()
    (folder / "train.jsonl").write_text(text.replace("number 3", "number three"))
    source, said = tmp_path / "new.csv", []

    def sink(event: Event) -> None:
        said.extend([event.message] if isinstance(event, Notice) else [])

    source.write_text("text\nrefund me\n")
    try:
        done = predict(topics, source, tmp_path / "out.csv", sink)
    finally:
        (folder / "train.jsonl").write_text(text)
    assert done.calibration is not None
    assert done.calibration.num_items == 0
    assert said == [
        "confidence is not calibrated: train.jsonl has changed since the variant was trained"
    ]
    assert read_variant(topics.folder).manifest == topics.manifest
