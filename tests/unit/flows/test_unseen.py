"""Questions that were seen before: found by content, left out, counted."""

from pathlib import Path

import pytest

from kamerton.core.errors import EvaluationError, VariantError
from kamerton.core.events import Event, Notice
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    FeedbackExample,
    PreferenceExample,
    SourceLocation,
)
from kamerton.flows.candidates import Measurable
from kamerton.flows.unseen import trained_questions, unseen
from kamerton.prompting.prompt import Prompt
from kamerton.store.manifest import BaseRecord, DataRecord, VariantManifest
from kamerton.store.trained_on import read_trained_on, trained_on_any
from kamerton.store.variants import TRAINED_ON_FILE, Variant, read_variant, write_variant

LOCATION = SourceLocation("f", 1)


def question(number: int) -> ClassificationExample:
    return ClassificationExample(LOCATION, f"Where is order {number}?", "delivery")


def variant(folder: Path, name: str, learned: frozenset[str] | None) -> Variant:
    hashes = {"weight_hash": "w", "tokenizer_hash": "t", "template_hash": "c"}
    manifest = VariantManifest(
        name=name,
        base=BaseRecord(id="b", architecture="Llama", num_parameters=1, **hashes),
        prompt={},
        method="lora",
        objective="sft",
        recipe={},
        data=DataRecord(place="d.jsonl", fingerprint="f", num_train=3, num_holdout=1),
        seed=0,
        kamerton_version="0",
        created="",
    )
    return write_variant(folder / name, manifest, {"w": name.encode()}, trained_on=learned)


class Heard(list[str]):
    def __call__(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.append(event.message)


def test_each_variant_is_counted_and_any_of_them_leaves_a_question_out(tmp_path: Path) -> None:
    a = variant(tmp_path, "a", trained_questions([question(1), question(2)]))
    b = variant(tmp_path, "b", trained_questions([question(2), question(3)]))
    heard = Heard()
    left, seen = unseen([question(n) for n in range(5)], [a, b], {}, heard)
    assert left == [question(0), question(4)]
    assert seen == (
        "3 of 5 examples are left out, as they were seen before "
        "(a learned from 2, b learned from 2)"
    )
    assert heard == [seen]


def test_questions_are_told_apart_by_content_whatever_their_format(tmp_path: Path) -> None:
    turns = ({"role": "user", "content": "where IS  order 1?"},)
    answer, other = ({"role": "assistant", "content": text} for text in ("delivery", "refund"))
    pair = PreferenceExample(LOCATION, turns, (answer,), (other,))
    chat = ChatExample(LOCATION, (*turns, answer))
    learned = variant(tmp_path, "a", trained_questions([pair]))
    held: list[Measurable] = [question(1), question(11), chat]
    assert unseen(held, [learned], {}, Heard())[0] == [question(11)]


SYSTEM = {"role": "system", "content": "Be kind."}
TURNS = (
    {"role": "user", "content": "Where is order 1?"},
    {"role": "assistant", "content": "delivery"},
)


@pytest.mark.parametrize(
    "example",
    [
        ChatExample(LOCATION, (SYSTEM, *TURNS)),
        PreferenceExample(LOCATION, (SYSTEM, TURNS[0]), TURNS[1:], (SYSTEM,)),
        FeedbackExample(LOCATION, (SYSTEM, TURNS[0]), TURNS[1:], is_desirable=False),
    ],
    ids=lambda example: type(example).__name__,
)
def test_worked_examples_count_as_seen_without_their_system_text(example: Measurable) -> None:
    prompts = {"1-shot": Prompt(demonstrations=(tuple(map(dict, TURNS)),))}
    left, seen = unseen([example, question(2)], [], prompts, Heard())
    assert left == [question(2)]
    assert "1-shot shows 1" in seen


def test_nothing_left_is_an_error_unless_memory_is_what_is_measured(tmp_path: Path) -> None:
    a = variant(tmp_path, "a", trained_questions([question(1)]))
    with pytest.raises(EvaluationError, match=r"all 1 examples were seen .* \(a learned from 1\)"):
        unseen([question(1)], [a], {}, Heard())
    heard = Heard()
    left, seen = unseen([question(1), question(2)], [a], {}, heard, include_trained=True)
    assert left == [question(1), question(2)]
    assert seen.startswith("1 of 2 questions were seen before (a learned from 1)")
    assert len(heard) == 1


def test_an_older_variant_gets_a_warning(tmp_path: Path) -> None:
    heard = Heard()
    old = variant(tmp_path, "old", None)
    assert unseen([question(1)], [old], {}, heard) == ([question(1)], "")
    (notice,) = heard
    assert notice.startswith("old was made by an older version")


def test_what_parents_learned_from_is_inherited(tmp_path: Path) -> None:
    a = variant(tmp_path, "a", trained_questions([question(1)]))
    b = variant(tmp_path, "b", trained_questions([question(2)]))
    own = trained_questions([question(3)])
    assert trained_on_any([a, b], own) == trained_questions([question(n) for n in (1, 2, 3)])
    assert trained_on_any([a, variant(tmp_path, "old", None)], own) is None


def test_the_record_is_small_and_verified(tmp_path: Path) -> None:
    made = variant(tmp_path, "a", trained_questions([question(n) for n in range(1000)]))
    path = made.folder / TRAINED_ON_FILE
    assert path.stat().st_size == 17_000
    learned = read_trained_on(read_variant(made.folder))
    assert learned is not None
    assert len(learned) == 1000
    path.write_text(path.read_text()[17:])
    with pytest.raises(VariantError, match="is not the file"):
        read_trained_on(made)
