"""A teacher over HTTP on loopback: faults, resuming, budget, privacy."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import DataError, InterruptedRun, SettingsError
from kamerton.core.events import Event, Notice
from kamerton.data.dataset import load_examples
from kamerton.data.examples import ClassificationExample
from kamerton.data.settings import DataSettings
from kamerton.flows.label import label_file, label_settings
from kamerton.flows.label_remote import Endpoint
from kamerton.flows.labelled_files import Labelled
from kamerton.flows.loopback import is_loopback
from kamerton.flows.workspace import Workspace
from kamerton.labelling import asking
from tests.unit.flows.teacher_server import TeacherServer, serving, text_of

LABELS = ("account", "delivery", "refund")


@pytest.fixture(autouse=True)
def _without_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_FIRST_WAIT_S", 0.001)


def write(folder: Path, num: int = 12, num_gold: int = 20) -> tuple[Path, Path]:
    source, gold = folder / "new.csv", folder / "gold.csv"
    source.write_text("text\n" + "".join(f"{LABELS[n % 3]} new {n}\n" for n in range(num)))
    rows = (f"{LABELS[n % 3]} gold {n},{LABELS[n % 3]}\n" for n in range(num_gold))
    gold.write_text("text,label\n" + "".join(rows))
    return source, gold


def run(
    folder: Path, url: str, *overrides: str, sink: Any = lambda event: None, **options: Any
) -> Labelled:
    source, gold = folder / options.pop("source", "new.csv"), folder / "gold.csv"
    settings = label_settings(source, overrides, redact=options.pop("redact", False))
    models = options.pop("models", ["big-model"])
    to = folder / options.pop("to", "out.jsonl")
    endpoints = [Endpoint(url, model, **options) for model in models]
    return label_file(endpoints, source, to, gold, 0.8, settings, Workspace(folder), sink)


def first_word(text: str) -> str:
    return text.split()[0]


def test_labels_come_with_the_probability_of_the_answer(tmp_path: Path) -> None:
    write(tmp_path)

    def logprob(text: str) -> float:
        return -1.5 if text.endswith(("1", "3")) and "new" in text else -0.1

    with serving(TeacherServer(first_word, logprob)) as server:
        said: list[Event] = []
        done = run(tmp_path, server.url, sink=said.append)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {row["confidence"] for row in rows} == {
        round(math.exp(-0.1), 4),
        round(math.exp(-1.5), 4),
    }
    assert all(row["label"] == first_word(row["text"]) for row in rows)
    asked = server.bodies[0]
    assert asked["model"] == "big-model"
    assert "- account\n- delivery\n- refund" in asked["messages"][0]["content"]
    assert (asked["temperature"], asked["logprobs"]) == (0.0, True)
    assert done.paid is not None
    assert (done.paid.prompt, done.paid.completion) == (32 * 40, 32 * 2)
    assert any(isinstance(one, Notice) and "32 requests, at most" in one.message for one in said)


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".parquet", ".csv"])
def test_files_of_all_forms_are_labelled(tmp_path: Path, ending: str) -> None:
    source, gold = write(tmp_path)
    # The gold file may call its columns otherwise.
    gold.write_text(gold.read_text().replace("text,label", "question,topic"))
    texts = source.read_text().splitlines()[1:]
    if ending == ".parquet":
        pyarrow, parquet = (pytest.importorskip(f"pyarrow{one}") for one in ("", ".parquet"))
        parquet.write_table(pyarrow.table({"question": texts}), tmp_path / "new.parquet")
    elif ending == ".csv":
        source.write_text("question\n" + "\n".join(texts) + "\n")
    else:
        lines = texts if ending == ".txt" else [json.dumps({"question": one}) for one in texts]
        # In a text file blank lines stand between rows.
        between = "\n\n" if ending == ".txt" else "\n"
        (tmp_path / f"new{ending}").write_text(between.join(lines) + "\n")
    columns = ["data.columns.label=topic"]
    columns += ["data.columns.text=question"] if ending != ".txt" else []
    with serving(TeacherServer(first_word)) as server:
        if ending == ".txt":
            gold.write_text(gold.read_text().replace("question", "text"))
        to = "out.jsonl" if ending == ".txt" else f"out{ending}"
        done = run(tmp_path, server.url, *columns, source=f"new{ending}", to=to)
    assert done.num_kept == 12
    assert done.to is not None
    kept = load_examples(DataSettings(train=str(done.to), format="classification")).examples
    labels = [one.label for one in kept if isinstance(one, ClassificationExample)]
    assert labels == [first_word(text) for text in texts]


def test_a_list_without_blank_lines_is_one_text_and_that_is_said(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "new.txt").write_text("refund one\nrefund two\n")
    said: list[Event] = []
    with serving(TeacherServer(first_word)) as server:
        run(tmp_path, server.url, source="new.txt", sink=said.append)
    told = [one.message for one in said if isinstance(one, Notice) and one.level == "warning"]
    assert told == [f"{tmp_path / 'new.txt'} is one text: blank lines must stand between texts"]


def test_over_all_faults_nothing_is_paid_for_twice(tmp_path: Path) -> None:
    write(tmp_path)
    faults = {
        "account new 0": ["429", "500", "429"],
        "delivery new 1": ["cut", "slow"],
        "refund new 2": ["malformed"],
        "account new 3": ["slow"],
        "delivery gold 1": ["500", "cut"],
    }
    with serving(TeacherServer(first_word, faults=faults)) as server:
        done = run(tmp_path, server.url, "teacher.timeout_s=0.3", "teacher.attempts=4")
        assert done.dropped == {"format": 1}
        assert done.num_kept == 11
        assert set(server.paid.values()) == {1}
        assert len(server.paid) == 32
        asked = len(server.bodies)
        again = run(tmp_path, server.url, to="again.jsonl")
        assert len(server.bodies) == asked
    assert again.paid == done.paid
    assert again.balance == done.balance


def test_a_job_that_broke_off_goes_on_and_pays_nothing_twice(tmp_path: Path) -> None:
    write(tmp_path)
    server = TeacherServer(first_word, fails_after=15)
    with serving(server):
        with pytest.raises(InterruptedRun, match="no answer in 2 attempts: no"):
            run(tmp_path, server.url, "teacher.attempts=2")
        assert not (tmp_path / "out.jsonl").exists()
        before = len(server.paid)
        assert 15 <= before < 32
        server.fails_after = None
        done = run(tmp_path, server.url, "teacher.attempts=2")
        assert set(server.paid.values()) == {1}
        assert len(server.paid) == 32
    assert done.num_kept == 12


def test_the_budget_stops_the_job_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    write(tmp_path, num=30)
    prices = ("teacher.price_prompt=1000000", "teacher.price_completion=0")
    with serving(TeacherServer(first_word)) as server:
        with pytest.raises(SettingsError, match="--budget needs the prices"):
            run(tmp_path, server.url, budget=5)
        # An answer reads 40 tokens of 1 each; about 400 must be left before one is asked for.
        done = run(tmp_path, server.url, *prices, budget=1500)
        assert done.cost is not None
        assert 900 < done.cost == 40 * len(server.paid) <= 1500
        assert done.dropped["not asked"] == 30 - done.num_kept > 0
        done = run(tmp_path, server.url, *prices, budget=10_000, to="whole.jsonl")
        assert (done.num_kept, done.cost) == (30, 40 * 50)
        assert set(server.paid.values()) == {1}


def test_a_teacher_that_does_not_understand_stops_the_job(tmp_path: Path) -> None:
    write(tmp_path, num=50)
    with serving(TeacherServer(lambda text: "I am well, thank you!")) as server:
        with pytest.raises(DataError, match="none of the labels in its first 20 answers.*thank"):
            run(tmp_path, server.url)
        # Some more were under way.
        assert 20 <= len(server.bodies) <= 20 + 2 * 8


def test_several_samples_agree_or_not(tmp_path: Path) -> None:
    write(tmp_path, num=6)

    class Torn(TeacherServer):
        def _completion(self, text: str) -> bytes:
            if text == "account new 0" and len(self.bodies) % 2:
                return super()._completion("nonsense")
            return super()._completion(text)

    with serving(Torn(first_word, gives_logprobs=False)) as server:
        with pytest.raises(SettingsError, match="gives no log-probabilities"):
            run(tmp_path, server.url)
        paid = server.paid.total()
        done = run(tmp_path, server.url, "teacher.samples=4", "teacher.concurrency=1")
        assert server.paid.total() == paid + 4 * 26
    assert {body["seed"] for body in server.bodies[-8:]} == {0, 1, 2, 3}
    assert [point.threshold for point in done.selection.curve] == [1.0, 0.5]


def test_teachers_and_instructions_agree_or_not_within_one_budget(tmp_path: Path) -> None:
    write(tmp_path, num=9)

    class Torn(TeacherServer):
        def _completion(self, text: str) -> bytes:
            # Only one of four ways of asking is wrong, and only about new deliveries.
            asked = self.bodies[-1]
            odd = asked["model"] == "b" and asked["messages"][0]["content"].startswith("Choose.")
            text = text.replace("delivery new", "refund new") if odd else text
            return super()._completion(text)

    prices = ("teacher.price_prompt=1000000", "teacher.concurrency=1")
    ways = 'teacher.more_instructions=["Choose."]'
    with serving(Torn(first_word, lambda text: 0.0)) as server:
        done = run(tmp_path, server.url, *prices, ways, models=["a", "b"], budget=20_000)
        assert len(server.bodies) == 4 * 29
        assert done.cost == 40 * 4 * 29
        assert [point.threshold for point in done.selection.curve] == [1.0, 0.75]
        assert done.balance == {"account": 3, "refund": 3, "delivery": 3}


def test_several_teachers_share_one_budget(tmp_path: Path) -> None:
    write(tmp_path, num=9)
    with (
        serving(TeacherServer(first_word)) as server,
        pytest.raises(DataError, match="gave none of 9 rows a label"),
    ):
        prices = "teacher.price_prompt=1000000"
        run(tmp_path, server.url, prices, models=["a", "b"], budget=2000)
    # The first one's 29 answers cost 1,160.
    assert 29 < len(server.bodies) <= 50


def test_what_must_not_leave_is_refused_before_the_first_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = write(tmp_path)
    text = source.read_text()
    with serving(TeacherServer(first_word)) as server:
        source.write_text(f"{text}refund to anna@example.com\n")
        # This machine may see everything.
        run(tmp_path, server.url, to="local.jsonl")
        assert "refund to anna@example.com" in _sent(server)
        server.bodies.clear()
        monkeypatch.setattr("kamerton.flows.label.is_loopback", lambda url: False)
        with pytest.raises(DataError, match=r"1 row with personal data .*new.csv:14 \(email\)"):
            run(tmp_path, server.url)
        source.write_text("local,text\nno,refund one\nyes,refund two\n")
        with pytest.raises(DataError, match="1 row marked local .*new.csv:3"):
            run(tmp_path, server.url, redact=True)
        assert server.bodies == []
        source.write_text("customer,text\nbob@example.com,refund to anna@example.com\n")
        run(tmp_path, server.url, redact=True)
    assert _sent(server) == {"refund to [EMAIL_1]"}
    [kept] = (tmp_path / "out.jsonl").read_text().splitlines()
    assert list(json.loads(kept)) == ["text", "label", "confidence"]


def _sent(server: TeacherServer) -> set[str]:
    return {text_of(body) for body in server.bodies}


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000", True),
        ("http://[::1]:80/v1", True),
        ("https://api.example.com/v1", False),
        ("http://127.0.0.1.example.com", False),
        ("http://10.0.0.1:8000", False),
    ],
)
def test_only_this_machine_is_local(url: str, local: bool) -> None:
    assert is_loopback(url) is local
