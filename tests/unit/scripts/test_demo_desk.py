"""The bundled desk: rebuilt byte for byte, in house style, without leaks."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from kamerton.flows.demo import DESK, Demo
from kamerton.flows.recipe import Recipe

ROOT = Path(__file__).parents[3]


PRODUCTS = {
    "en": ("Rovela", "Mirto", "Tavola", "Kelin", "Dormax", "Silvar", "Pento", "Zorin"),
    "ru": ("Ровела", "Мирто", "Тавола", "Келин", "Дормакс", "Сильвар", "Пенто", "Зорин"),
}


def question(row: dict) -> str:
    return row["messages"][0]["content"]


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DESK / f"{name}.jsonl").read_text().splitlines()]


def test_the_script_writes_the_same_bytes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "demo"))
    for module in ("facts", "questions", "build_desk"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    import build_desk

    assert build_desk.write_desk(tmp_path) == (832, 120)
    for name in ("train.jsonl", "holdout.jsonl", "train_en.jsonl", "holdout_en.jsonl"):
        assert (tmp_path / name).read_bytes() == (DESK / name).read_bytes()


def test_an_audit_has_nothing_to_mind() -> None:
    found = Demo(Path("unused")).check(lambda event: None).audit
    assert found.num_examples == 832
    assert found.warnings == ()
    counts = (found.exact_duplicates, found.near_duplicates, found.contradictions)
    assert [count.number for count in counts] == [0, 0, 0]
    assert found.leaked is not None
    assert found.nearly_leaked is not None
    assert (found.leaked.number, found.nearly_leaked.number) == (0, 0)


def test_held_out_questions_are_new_but_their_facts_are_not() -> None:
    train, holdout = rows("train"), rows("holdout")
    asked = {row["messages"][0]["content"].lower() for row in train}
    assert not [row for row in holdout if row["messages"][0]["content"].lower() in asked]
    learnt = {(row["language"], *row["facts"]) for row in train if row["facts"]}
    for row in holdout:
        if row["facts"]:
            assert (row["language"], *row["facts"]) in learnt


@pytest.mark.parametrize("name", ["train", "holdout"])
def test_replies_keep_the_house_style(name: str) -> None:
    checks = {check.name: check for check in Recipe.read(DESK / "recipe.toml").evaluate.checks}
    for row in rows(name):
        reply = row["messages"][1]["content"]
        for rule in checks["house style"].rules:
            assert bool(re.search(rule.pattern, reply)) == rule.must, (rule.name, reply)
        assert all(fact in reply for fact in row["facts"])
        assert reply.endswith(f"[{row['category']} | escalate: {row['escalate']}]")
        assert bool(row["facts"]) == (row["escalate"] == "no")


def test_shares() -> None:
    train, holdout = rows("train"), rows("holdout")
    for part in (train, holdout):
        languages = Counter(row["language"] for row in part)
        assert min(languages.values()) > 0.3 * len(part)
    escalated = sum(row["escalate"] == "yes" for row in train) / len(train)
    assert 0.2 < escalated < 0.3
    assert sum(row["escalate"] == "yes" for row in holdout) == 40


def test_a_fact_is_right_only_for_what_was_asked() -> None:
    for row in rows("holdout"):
        named = [name for name in (*PRODUCTS["en"], *PRODUCTS["ru"]) if name in question(row)]
        if row["facts"] and named:
            assert named == row["facts"][:1]


def test_no_two_products_share_a_number() -> None:
    values = Counter()
    for row in rows("holdout"):
        if row["facts"] and row["language"] == "en":
            values[row["category"], row["facts"][-1]] += 1
    assert set(values.values()) == {1}


def test_the_pairs_are_written_byte_for_byte_and_keep_their_rules(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "demo"))
    for module in ("facts", "questions", "build_desk", "build_pairs"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    import build_pairs

    assert build_pairs.write_pairs(tmp_path) == (344, 344, 104)
    for name in ("mixed", "pairs", "pairs_holdout"):
        written = (tmp_path / f"{name}.jsonl").read_bytes()
        assert written == (DESK / f"{name}.jsonl").read_bytes()
    asked: dict[str, set[str]] = {
        name: {row["prompt"][0]["content"].lower() for row in rows(name)}
        for name in ("pairs", "pairs_holdout")
    }
    asked["mixed"] = {question(row).lower() for row in rows("mixed")}
    assert not asked["pairs"] & asked["pairs_holdout"]
    assert not asked["mixed"] & (asked["pairs"] | asked["pairs_holdout"])
    for row in [*rows("pairs"), *rows("pairs_holdout")]:
        better, worse = (row[side][0]["content"] for side in ("chosen", "rejected"))
        assert better != worse
        if row["rule"] == "escalate legal threats":
            assert "escalate: yes" in better
            assert "escalate: no" in worse
        else:
            assert len(worse) > len(better)
            assert not re.search(r"discount|% off|скидк|LEAF", better)
