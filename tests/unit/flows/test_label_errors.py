"""Labels that a variant finds wrong, and the rows that it must not judge."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import DataError
from kamerton.data.dataset import load_examples
from kamerton.flows import label_errors
from kamerton.flows.label_errors import check_labels
from kamerton.flows.unseen import trained_questions
from kamerton.store.variants import Variant
from kamerton.testing import FakeEngine
from kamerton.variants.opening import Ready
from tests.unit.flows.test_label import LABELS, topics

__all__ = ["topics"]


@pytest.fixture(autouse=True)
def _first_word_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    make = label_errors.make_ready

    def ready(*arguments: Any) -> Ready:
        fake = FakeEngine(lambda chat: chat[-1]["content"].split()[0])
        return replace(make(*arguments), engine=fake)

    monkeypatch.setattr(label_errors, "make_ready", ready)


def examples(folder: Path, wrong: tuple[int, ...]) -> list[Any]:
    path = folder / "given.jsonl"
    rows = [
        {"text": f"{LABELS[n % 3]} row {n}", "label": LABELS[(n + (n in wrong)) % 3]}
        for n in range(30)
    ]
    rows.append({"text": "refund row 30", "label": "something else"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(load_examples(path).examples)


def test_wrong_labels_are_found_with_their_place(topics: Variant, tmp_path: Path) -> None:
    checked = check_labels(topics, examples(tmp_path, (4, 20)), lambda event: None)
    assert [(one.text, one.label, one.likely) for one in checked.found] == [
        ("delivery row 4", "refund", "delivery"),
        ("refund row 20", "account", "refund"),
    ]
    assert checked.found[0].place == f"{tmp_path / 'given.jsonl'}:5"
    assert checked.found[0].probability < 0.1 < 0.9 < checked.found[0].likely_probability
    assert (checked.num_checked, checked.num_learned, checked.num_unknown) == (30, 0, 1)
    assert json.dumps(checked.to_json())


def test_what_the_variant_learned_from_is_left_out(
    topics: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = examples(tmp_path, (4, 20))
    learned = trained_questions(given[:10])
    monkeypatch.setattr(label_errors, "read_trained_on", lambda variant: learned)
    checked = check_labels(topics, given, lambda event: None)
    assert [one.text for one in checked.found] == ["refund row 20"]
    assert (checked.num_checked, checked.num_learned) == (20, 10)
    monkeypatch.setattr(label_errors, "read_trained_on", lambda one: trained_questions(given))
    with pytest.raises(DataError, match="desk learned from all of these rows"):
        check_labels(topics, given, lambda event: None)


def test_rows_without_labels_are_refused(topics: Variant) -> None:
    with pytest.raises(DataError, match="needs texts with labels"):
        check_labels(topics, [], lambda event: None)
