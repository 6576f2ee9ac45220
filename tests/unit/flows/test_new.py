"""`kamerton new`: each kind of file becomes a recipe that is checked and trained as it stands."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kamerton.advisor.columns import Column
from kamerton.cli.main import main
from kamerton.core.errors import DataError, SettingsError
from kamerton.core.events import Event
from kamerton.data.prepared import prepare
from kamerton.flows.check import check_data
from kamerton.flows.checked import read_checked
from kamerton.flows.new import Looked, look_at, make_plan, write_project
from kamerton.flows.prepare import relative_to
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from tests.unit.data.files import write_jsonl as write_in

TOPICS = ("delivery", "refund", "login")
SAID = (
    "Where is my parcel {}, it should have come",
    "Please return the money for order {}",
    "The page says {} and does not let me in",
)
RUSSIAN = (
    ("Где мой заказ {}, он не приехал вовремя", "доставка"),
    ("Верните деньги за покупку {} пожалуйста", "возврат"),
)


def quiet(_: Event) -> None:
    pass


def write_jsonl(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    return write_in(file.parent, rows, file.name)


def asked(number: int) -> str:
    return SAID[number % 3].format(number)


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


ROWS: dict[str, list[dict[str, Any]]] = {
    "classes": [{"text": asked(n), "topic": TOPICS[n % 3]} for n in range(24)],
    "several classes": [
        {"text": asked(n), "labels": [TOPICS[n % 3], "urgent"]} for n in range(24)
    ],
    "fields": [{"text": asked(n), "fields": {"topic": TOPICS[n % 3], "n": n}} for n in range(24)],
    "rewriting": [
        {"before": asked(n), "after": f"{asked(n)}, thank you very much"} for n in range(24)
    ],
    "answers": [
        {"question": asked(n), "answer": f"We look into case {n} today and write to you"}
        for n in range(24)
    ],
    "dialogues": [
        {
            "messages": [
                said("user", asked(n)), said("assistant", "Which order?"),
                said("user", f"Number {n}"), said("assistant", f"Order {n} comes tomorrow."),
            ]
        }
        for n in range(24)
    ],
    "pairs": [
        {"prompt": asked(n), "chosen": f"Order {n} comes today.", "rejected": "No idea."}
        for n in range(24)
    ],
    "thumbs": [
        {"prompt": asked(n), "completion": f"It is number {n}.", "label": n % 2 == 0}
        for n in range(24)
    ],
    "texts": [{"text": f"{asked(n)}. {asked(n + 1)}."} for n in range(24)],
}  # fmt: skip


DECIDED_BY = {
    "classes": "`accuracy`",
    "several classes": "`labels F1`",
    "fields": "`all fields right`",
    "rewriting": "side by side",
    "answers": "side by side",
    "dialogues": "side by side",
    "pairs": "kamerton chat",
    "thumbs": "kamerton chat",
    "texts": "`general loss`",
}


def look(file: Path, question: str = "", answer: str = "", **more: Any) -> Looked:
    return look_at(str(file), question, answer, more.get("choose"), quiet)


@pytest.mark.parametrize("kind", ROWS)
def test_each_kind_is_told_and_its_recipe_is_checked_and_trained(kind: str, tmp_path: Path) -> None:
    looked = look(write_jsonl(tmp_path / "data.jsonl", ROWS[kind]))
    assert looked.kind.name == kind
    folder = tmp_path / "project"
    files = write_project(folder, make_plan(looked, folder, "", "Sort, now", "builtin:nano"))
    assert [file.name for file in files] == ["recipe.toml", "README.md"]
    checked = check_data(read_checked(str(files[0]), []).data, quiet)
    assert checked.audit.num_examples == 24
    assert not checked.audit.rejections
    recipe = Recipe.read(files[0], ["train.max_steps=3"])
    assert recipe.prompt.system.startswith("Sort, now.") == (kind != "texts")
    assert 0 < float(recipe.data.test) < 0.5
    made = make_variant(recipe, folder, Workspace(folder), quiet)
    assert made.outcome is not None
    assert made.outcome.num_steps == 3
    page = files[1].read_text(encoding="utf-8")
    assert "kamerton evaluate data-lora" in page
    assert DECIDED_BY[kind] in page.partition("## What to decide by")[2]


def test_a_russian_table_of_an_office_program(tmp_path: Path) -> None:
    lines = ["номер;обращение;тема"]
    lines += [f"{n};{RUSSIAN[n % 2][0].format(n)};{RUSSIAN[n % 2][1]}" for n in range(20)]
    file = tmp_path / "обращения.csv"
    file.write_bytes("\r\n".join(lines).encode("cp1251"))
    looked = look(file)
    assert looked.encoding == "cp1251"
    assert dict(looked.columns) == {"text": "обращение", "label": "тема"}
    plan = make_plan(looked, tmp_path / "p", "", "", "builtin:nano")
    assert plan.system == (
        "Определите, к какому классу относится текст. "
        "Ответьте ровно одной из этих меток и ничем больше: доставка; возврат."
    )
    assert plan.train == "../обращения.csv"
    assert plan.name == "обращения-lora"


def doubtful(tmp_path: Path) -> Path:
    lines = ["said,kind,urgency"]
    lines += [f'"{asked(n)}",{TOPICS[n % 3]},{"low" if n % 2 else "high"}' for n in range(24)]
    file = tmp_path / "doubtful.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_columns_that_fit_equally_are_named_and_not_guessed(tmp_path: Path) -> None:
    file = doubtful(tmp_path)
    with pytest.raises(
        SettingsError, match=r"answer: kind \(3 values\), urgency \(2 values\)"
    ) as e:
        look(file)
    assert e.value.hint == "name one: --answer 'kind'"
    assert look(file, answer="urgency").kind.labels == ("high", "low")


def test_in_a_terminal_it_asks(tmp_path: Path) -> None:
    asked_for: list[tuple[str, list[str]]] = []

    def choose(role: str, candidates: Sequence[Column]) -> str:
        asked_for.append((role, [column.name for column in candidates]))
        return candidates[0].name

    looked = look(doubtful(tmp_path), choose=choose)
    assert asked_for == [("answer", ["kind", "urgency"])]
    assert len(looked.kind.labels) == 3


def test_two_columns_of_sentences_without_names_are_refused(tmp_path: Path) -> None:
    rows = [{"a": asked(n), "b": f"We look into case {n} today"} for n in range(24)]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(SettingsError, match="question: a .*, b") as error:
        look(file)
    assert "--question '{a}\\n{b}'" in str(error.value.hint)
    assert look(file, question="a").kind.name == "answers"


def test_several_columns_are_joined_as_the_question(tmp_path: Path) -> None:
    rows = [{**row, "subject": f"letter {n}"} for n, row in enumerate(ROWS["classes"])]
    looked = look(write_jsonl(tmp_path / "rows.jsonl", rows), question="{subject}\\n{text}")
    assert dict(looked.columns) == {"text": "{subject}\\n{text}", "label": "topic"}


def test_disliked_answers_are_not_imitated(tmp_path: Path) -> None:
    rows = [
        {"вопрос": asked(n), "ответ": f"We look into case {n}", "оценка": "👍👎"[n % 2]}
        for n in range(24)
    ]
    looked = look(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert looked.kind.name == "thumbs"
    assert dict(looked.columns) == {"prompt": "вопрос", "completion": "ответ", "label": "оценка"}
    plan = make_plan(looked, tmp_path / "p", "", "", "builtin:nano")
    assert Recipe.read(write_project(tmp_path / "p", plan)[0]).objective.kind == "kto"
    stars = [{**row, "оценка": 1 + n % 5} for n, row in enumerate(rows)]
    looked = look(write_jsonl(tmp_path / "stars.jsonl", stars))
    assert (looked.kind.name, looked.stars, looked.unused) == ("answers", "оценка", ("оценка",))


def test_few_short_answers_are_labels(tmp_path: Path) -> None:
    rows = [{"prompt": asked(n), "completion": TOPICS[n % 3]} for n in range(24)]
    looked = look(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert dict(looked.columns) == {"text": "prompt", "label": "completion"}
    assert looked.kind.name == "classes"


def test_what_the_readers_know_by_name_is_not_doubted(tmp_path: Path) -> None:
    rows = [{"text": f"word{n}", "label": TOPICS[n % 3]} for n in range(24)]
    looked = look(write_jsonl(tmp_path / "words.jsonl", rows))
    assert looked.kind.name == "classes"
    assert dict(looked.shown_columns) == {"text": "text", "label": "label"}


def test_two_columns_with_names_of_labels_are_not_guessed(tmp_path: Path) -> None:
    rows = [{**row, "label": "ab"[n % 2]} for n, row in enumerate(ROWS["classes"])]
    with pytest.raises(SettingsError, match="answer: topic .*, label"):
        look(write_jsonl(tmp_path / "rows.jsonl", rows))


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 12 usable examples .* found 5"):
        look(write_jsonl(tmp_path / "few.jsonl", ROWS["answers"][:5]))


def test_rows_that_cannot_be_used_do_not_stop_the_training(tmp_path: Path) -> None:
    rows = [*ROWS["answers"], *({"question": "", "answer": "x"} for _ in range(4))]
    looked = look(write_jsonl(tmp_path / "rows.jsonl", rows))
    plan = make_plan(looked, tmp_path / "p", "", "", "builtin:nano")
    (path, _) = write_project(tmp_path / "p", plan)
    assert Recipe.read(path).data.max_unusable == 0.15


@pytest.mark.parametrize(
    ("num", "test", "holdout"),
    [(24, 0.3, 0.2), (150, 0.2, 0.17), (400, 0.2, 0.1), (2000, 0.1, 0.05)],
)
def test_enough_examples_choose_the_step(
    num: int, test: float, holdout: float, tmp_path: Path
) -> None:
    rows = [{"text": f"It was the year {n}, and the harvest was good."} for n in range(num)]
    looked = look(write_jsonl(tmp_path / "rows.jsonl", rows))
    plan = make_plan(looked, tmp_path / "p", "", "", "builtin:nano")
    assert (plan.test, plan.holdout) == (test, holdout)
    (path, _) = write_project(tmp_path / "p", plan)
    prepared = prepare(relative_to(Recipe.read(path).data, tmp_path / "p"))
    assert len(prepared.holdout) >= 20 or holdout == 0.2


def test_texts_of_the_user_are_quoted_in_the_recipe(tmp_path: Path) -> None:
    looked = look(write_jsonl(tmp_path / 'a "b".jsonl', ROWS["answers"]))
    plan = make_plan(looked, tmp_path / "p", "x", 'Say "yes"\\no', "builtin:nano")
    recipe = Recipe.read(write_project(tmp_path / "p", plan)[0])
    assert recipe.data.train == '../a "b".jsonl'
    assert recipe.purpose == 'Say "yes"\\no'


def test_the_verb_prints_the_folder_and_the_next_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "tickets.jsonl", ROWS["classes"])
    done = CliRunner().invoke(
        main, ["new", "tickets.jsonl", "--base", "builtin:nano", "--no-measure"]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout == "tickets\n"
    assert "it is classification with 3 labels" in done.stderr
    assert "builtin:nano is a toy" in done.stderr
    assert "method to try first: LoRA; kamerton advise tickets.jsonl" in done.stderr
    assert "kamerton evaluate tickets-lora --report report.html" in done.stderr
    recipe = (tmp_path / "tickets" / "recipe.toml").read_text(encoding="utf-8")
    assert 'columns = { text = "text", label = "topic" }' in recipe
    assert json.dumps("../tickets.jsonl") in recipe
    again = CliRunner().invoke(main, ["new", "tickets.jsonl", "--base", "builtin:nano"])
    assert isinstance(again.exception, SettingsError)
    assert "must be a new or an empty folder" in str(again.exception)


def test_one_column_of_any_name_is_texts(tmp_path: Path) -> None:
    rows = "".join(f"the shop opens at {number} and sells lamps\n" for number in range(30))
    file = tmp_path / "news.csv"
    file.write_text(f"message\n{rows}", encoding="utf-8")
    looked = look_at(str(file), "", "", None, quiet)
    assert looked.kind.name == "texts"
    assert looked.columns == {"text": "message"}
