"""The business cases: their examples fit their checks, in two languages."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from kamerton.advisor.cases import CASES, lay_out
from kamerton.core.events import Event
from kamerton.data.examples import ChatExample
from kamerton.evaluation.checks import check_answers, worth_of_text
from kamerton.evaluation.items import make_items
from kamerton.evaluation.settings import EvaluationSettings, RulesCheck
from kamerton.flows.new import look_at, make_plan, write_project
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace

KINDS = {
    "classify": "classes",
    "tone": "rewriting",
    "support": "answers",
    "extract": "fields",
    "segments": "answers",
    "compliance": "rewriting",
}
NUM_CHECKS = {
    "classify": 0, "tone": 3, "support": 3, "extract": 6, "segments": 3, "compliance": 2
}  # fmt: skip


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
    assert len(recipe.evaluate.checks) == NUM_CHECKS[name]
    made = make_variant(recipe, tmp_path, Workspace(tmp_path), quiet)
    assert made.outcome is not None
    assert made.outcome.num_steps == 2
    assert (tmp_path / "METHOD.md").read_text(encoding="utf-8").startswith("# ")
    assert set(looked.checked.audit.languages) >= {"en", "ru"}
    assert 30 <= len(looked.checked.loaded.examples) <= 60


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].checks.count("[[")])
def test_the_right_answers_pass_their_own_checks(name: str, tmp_path: Path) -> None:
    looked = look_at(str(lay_out(CASES[name], tmp_path)), "", "", None, quiet)
    examples = looked.checked.loaded.examples
    items = make_items([one for one in examples if isinstance(one, ChatExample)])
    checks = EvaluationSettings.parse(tomllib.loads(CASES[name].checks)["evaluate"]).checks
    # How well a style is told is measured when it is fitted.
    for check in (one for one in checks if one.kind != "style"):
        found = check_answers(check, items, [item.reference for item in items])
        failed = [items[at].reference for at in np.flatnonzero(found.values == 0)]
        assert not failed, check.title
        assert not np.isnan(found.values).all()


@pytest.mark.parametrize("name", ["tone", "compliance"])
def test_most_texts_before_break_the_rules(name: str, tmp_path: Path) -> None:
    file = lay_out(CASES[name], tmp_path)
    before = [json.loads(line)["before"] for line in file.read_text("utf-8").splitlines()]
    rules, *_ = EvaluationSettings.parse(tomllib.loads(CASES[name].checks)["evaluate"]).checks
    assert isinstance(rules, RulesCheck)
    broken = [not worth_of_text(rules, text) for text in before]
    assert sum(broken) > len(broken) / 2
    found = {
        rule.name for rule in rules.rules if any(re.search(rule.pattern, text) for text in before)
    }
    assert found == {rule.name for rule in rules.rules}
