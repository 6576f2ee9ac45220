"""The business cases: their examples fit their checks, in two languages."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from kamerton.advisor.cases import CASES, lay_out
from kamerton.core.events import Event
from kamerton.flows.new import look_at, make_plan, write_project
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace

KINDS = {"classify": "classes", "tone": "rewriting", "support": "answers"}


def quiet(_: Event) -> None:
    pass


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_trained_as_it_is_laid_out(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    file = lay_out(case, tmp_path)
    looked = look_at(str(file), "", "", None, quiet)
    assert looked.kind.name == KINDS[name]
    plan = make_plan(looked, tmp_path, "", "", "builtin:nano", case)
    recipe = Recipe.read(write_project(tmp_path, plan)[0], ["train.max_steps=2"])
    assert recipe.name == f"{name}-lora"
    assert recipe.data.train == "examples.jsonl"
    assert recipe.prompt.system.startswith(case.task)
    assert len(recipe.evaluate.checks) == {"classify": 0, "tone": 3, "support": 3}[name]
    made = make_variant(recipe, tmp_path, Workspace(tmp_path), quiet)
    assert made.outcome is not None
    assert made.outcome.num_steps == 2
    assert (tmp_path / "METHOD.md").read_text(encoding="utf-8").startswith("# ")
    assert set(looked.checked.audit.languages) >= {"en", "ru"}
    assert 30 <= len(looked.checked.loaded.examples) <= 60


def test_the_right_answers_pass_their_own_checks(tmp_path: Path) -> None:
    rules = tomllib.loads(CASES["tone"].checks)["evaluate"]["checks"][0]["rules"]
    for number, line in enumerate(lines("tone", tmp_path)):
        assert not any(re.search(rule["pattern"], line["after"]) for rule in rules), number
        assert line["before"] != line["after"]
    for line in lines("support", tmp_path):
        assert all(fact in line["answer"] for fact in line["facts"])
        assert line["answer"].endswith(f"[escalate: {line['escalate']}]")


def lines(name: str, folder: Path) -> list[dict]:
    file = lay_out(CASES[name], folder / name)
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
