"""Several files for `kamerton new`: joined by their columns, told apart by their names."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from kamerton.cli.main import main
from kamerton.core.errors import SettingsError
from kamerton.data.prepared import prepare
from kamerton.flows.new_files import sources_of
from kamerton.flows.prepare import relative_to
from kamerton.flows.recipe import Recipe


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(name: str, numbers: range, encoding: str = "utf-8", head: str = "обращение;тема") -> str:
    topics = ("доставка", "возврат")
    lines = [f"Где мой заказ {n}, он не приехал;{topics[n % 2]}" for n in numbers]
    Path(name).write_text("\n".join([head, *lines]), encoding=encoding)
    return name


def new(*arguments: str) -> str:
    run = CliRunner().invoke(main, ["new", *arguments, "--base", "builtin:nano", "--no-measure"])
    if run.exception and not isinstance(run.exception, SystemExit):
        raise run.exception
    return run.stderr


def test_files_with_the_same_columns_are_joined() -> None:
    said = new(table("march.csv", range(20), "cp1251"), table("april.csv", range(20, 40)))
    assert "joined march.csv, april.csv in march/examples.jsonl" in said
    rows = [
        json.loads(line) for line in Path("march/examples.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(rows) == 40
    assert rows[0] == {"обращение": "Где мой заказ 0, он не приехал", "тема": "доставка"}
    recipe = Recipe.read(Path("march/recipe.toml"))
    assert (recipe.name, recipe.data.train) == ("march-lora", "examples.jsonl")
    prepared = prepare(relative_to(recipe.data, Path("march")))
    assert len(prepared.train) + len(prepared.holdout) + len(prepared.test) == 40


def test_a_test_file_and_a_holdout_are_known_by_their_names() -> None:
    files = (
        table("tickets_train.csv", range(20)),
        table("tickets-test.csv", range(20, 40)),
        table("tickets.valid.csv", range(40, 52)),
    )
    said = new(*files, "--to", "p")
    assert "tickets-test.csv is the test set, by its name" in said
    recipe = Recipe.read(Path("p/recipe.toml"))
    assert recipe.data.train == "../tickets_train.csv"
    assert (recipe.data.test, recipe.data.holdout) == (
        "../tickets-test.csv",
        "../tickets.valid.csv",
    )
    prepared = prepare(relative_to(recipe.data, Path("p")))
    assert [len(part) for part in (prepared.train, prepared.holdout, prepared.test)] == [20, 12, 20]
    assert "`../tickets-test.csv` is kept for evaluation" in Path("p/README.md").read_text("utf-8")


def test_a_single_file_may_have_any_name() -> None:
    new(table("test.csv", range(20)))
    assert Recipe.read(Path("test/recipe.toml")).data.train == "../test.csv"


def test_what_does_not_belong_together_is_refused() -> None:
    table("a.csv", range(20))
    table("b.csv", range(20), head="текст;тема")
    with pytest.raises(SettingsError, match="a.csv has обращение; b.csv has текст"):
        new("a.csv", "b.csv")
    with pytest.raises(SettingsError, match="a.csv is given twice"):
        new("a.csv", "a.csv")
    table("test.csv", range(20))
    table("my-test.csv", range(20))
    with pytest.raises(SettingsError, match="called so: test.csv and my-test.csv"):
        sources_of(["a.csv", "test.csv", "my-test.csv"], Path("p"))
    with pytest.raises(SettingsError, match="none of 2 files is there to learn from"):
        table("dev.csv", range(20))
        sources_of(["test.csv", "dev.csv"], Path("p"))


def test_a_question_that_nobody_answers_leaves_nothing_behind() -> None:
    for name in ("a.csv", "b.csv"):
        lines = [f"We look into case {name} {n};low{n % 2};kind{n % 3}" for n in range(20)]
        Path(name).write_text("\n".join(["said;urgency;sort", *lines]), encoding="utf-8")
    with pytest.raises(SettingsError, match="several columns may be the answer"):
        new("a.csv", "b.csv")
    assert not Path("a").exists()
    new("a.csv", "b.csv", "--answer", "sort")
