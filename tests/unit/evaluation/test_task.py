"""From examples to items to answers."""

import dataclasses

import pytest

from kamerton.core.errors import EvaluationError, SettingsError
from kamerton.core.generation import GenerationSettings
from kamerton.core.protocols import Engine, Generation
from kamerton.data.examples import ChatExample, ClassificationExample, SourceLocation
from kamerton.evaluation.items import make_items, run_items, spread
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.testing import FakeEngine

CLASSIFIED = [
    ClassificationExample(SourceLocation("a.csv", n + 1), f"text {n}", "odd" if n % 2 else "even")
    for n in range(600)
]
CHATS = [
    ChatExample(
        SourceLocation("a.jsonl", n),
        (
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "1"},
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": "2 or so"},
        ),
        extra={"must": "2"},
        group="g",
    )
    for n in (1, 2)
]


def test_classification_becomes_a_question_with_candidates() -> None:
    items = make_items(CLASSIFIED, labels=["odd", "even", "prime", "odd"])
    assert items[1].chat == ({"role": "user", "content": "text 1"},)
    assert (items[1].reference, items[1].labels) == ("odd", ("even", "odd", "prime"))
    assert len({item.id for item in items}) == 600


def test_a_chat_loses_its_last_answer_only() -> None:
    first, second = make_items(CHATS)
    assert [message["content"] for message in first.chat] == ["Be brief.", "one", "1", "two"]
    assert (first.reference, first.labels, first.extra) == ("2 or so", (), {"must": "2"})
    assert first.group == "g"
    assert first.id != second.id
    assert [first.id, second.id] == [item.id for item in make_items(CHATS)]


def test_a_limit_spreads_over_all_but_keeps_the_labels() -> None:
    items = make_items(spread(CLASSIFIED, 3), [e.label for e in CLASSIFIED])
    assert [item.chat[0]["content"] for item in items] == ["text 0", "text 200", "text 400"]
    assert items[0].labels == ("even", "odd")
    assert spread(CLASSIFIED, 10_000) == spread(CLASSIFIED, 0) == list(CLASSIFIED)


def test_what_cannot_be_asked_is_refused_with_its_place() -> None:
    with pytest.raises(EvaluationError, match=r"a.csv:2: .* found 'odd'"):
        make_items(CLASSIFIED, labels=["even"])
    cut = dataclasses.replace(CHATS[0], messages=CHATS[0].messages[:-1])
    with pytest.raises(EvaluationError, match=r"a.jsonl:1: .* role 'user'"):
        make_items([cut])
    with pytest.raises(EvaluationError, match="found none"):
        make_items([])
    with pytest.raises(EvaluationError, match="one kind"):
        make_items([*CLASSIFIED, *CHATS])


def test_labels_are_scored_in_batches() -> None:
    items = make_items(CLASSIFIED)
    engine = FakeEngine(lambda chat: "odd")
    assert isinstance(engine, Engine)
    seen: list[tuple[int, int]] = []
    answers = run_items(
        engine, "v", items, EvaluationSettings(), lambda done, total: seen.append((done, total))
    )
    assert seen == [(256, 600), (512, 600), (600, 600)]
    assert (answers.kind, set(answers.texts)) == ("scored", {"odd"})
    assert set(answers.num_tokens) == {2}
    assert len(answers.seconds) == len(answers.finish_reasons) == 600
    assert len(set(answers.seconds)) <= 3
    assert answers.item_ids == tuple(item.id for item in items)


def test_length_normalisation_changes_the_choice() -> None:
    example = ClassificationExample(SourceLocation("f", 1), "x", "short")
    items = make_items([example], labels=["short", "a label of many words"])
    # Neither is what it would say: both score -10, over one token and over five.
    engine = FakeEngine(lambda chat: "something else")
    longer = run_items(engine, "v", items, EvaluationSettings(length_normalised=True))
    plain = run_items(engine, "v", items[:1], EvaluationSettings())
    assert longer.texts == ("a label of many words",)
    assert plain.texts == ("a label of many words",)
    turned = [dataclasses.replace(items[0], labels=items[0].labels[::-1])]
    assert run_items(engine, "v", turned, EvaluationSettings()).texts == ("short",)
    normalised = run_items(engine, "v", turned, EvaluationSettings(length_normalised=True))
    assert normalised.texts == ("a label of many words",)


def test_answers_are_generated() -> None:
    items = make_items(CHATS)
    engine = FakeEngine(lambda chat: f"echo {chat[-1]['content']} and more")
    answers = run_items(engine, "v", items, EvaluationSettings(max_new_tokens=2))
    assert answers.texts == ("echo two", "echo two")
    assert answers.finish_reasons == ("length", "length")
    assert answers.num_tokens == (2, 2)
    whole = run_items(engine, "v", items, EvaluationSettings())
    assert (whole.texts[0], whole.finish_reasons[0]) == ("echo two and more", "stop")


def test_answers_are_measured_greedily_and_else_as_the_variant_gives_them() -> None:
    own = GenerationSettings(temperature=0.8, top_p=0.9, top_k=5, max_new_tokens=3, stop=("and",))
    assert EvaluationSettings().generation(own) == Generation(max_tokens=3, stop=("and",))
    shorter = EvaluationSettings(max_new_tokens=2)
    assert shorter.generation(own) == Generation(max_tokens=2, stop=("and",))
    items = make_items(CHATS)
    engine = FakeEngine(lambda chat: f"echo {chat[-1]['content']} now and more")
    answers = run_items(engine, "v", items, EvaluationSettings(), own=own)
    assert answers.texts[0] == "echo two now"


def test_a_key_that_moved_is_named() -> None:
    with pytest.raises(
        SettingsError, match=r"max_tokens is now generation\.max_new_tokens"
    ) as caught:
        EvaluationSettings.parse({"max_tokens": 12, "level": 0.9})
    assert len(caught.value.problems) == 2


def test_items_with_and_without_labels_do_not_mix() -> None:
    items = [*make_items(CHATS), *make_items(CLASSIFIED)]
    with pytest.raises(EvaluationError, match="found both"):
        run_items(FakeEngine(lambda chat: ""), "v", items, EvaluationSettings())
