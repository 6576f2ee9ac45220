"""What stands before every example: demonstrations from all kinds of examples."""

from pathlib import Path

from kamerton.core.events import Event, Notice
from kamerton.data.examples import (
    Example,
    FeedbackExample,
    Message,
    PreferenceExample,
    SourceLocation,
    TextExample,
)
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.flows.prepare import make_prompt, read_examples
from kamerton.flows.recipe import Recipe
from kamerton.models.load import load_base
from kamerton.variants.rendering import renderer_of
from tests.unit.data.files import write_jsonl

HERE = SourceLocation("rows.jsonl", 1)


def said(role: str, text: str) -> tuple[Message, ...]:
    return ({"role": role, "content": text},)


def pair(question: str, better: str, worse: str) -> Example:
    return PreferenceExample(
        HERE, said("user", question), said("assistant", better), said("assistant", worse)
    )


def feedback(question: str, answer: str, good: bool) -> Example:
    return FeedbackExample(HERE, said("user", question), said("assistant", answer), good)


def shown(train: list[Example], count: int = 4) -> list[tuple[str, ...]]:
    recipe = Recipe.parse({"name": "x", "data": {"train": "x"}})
    prompt = make_prompt(recipe, train, count)
    # As they were written: without marks of what is trained.
    assert all(m.keys() == {"role", "content"} for chat in prompt.demonstrations for m in chat)
    return sorted(tuple(m["content"] for m in chat) for chat in prompt.demonstrations)


def test_of_pairs_the_better_answers_are_shown() -> None:
    assert shown([pair("Q1", "good", "bad"), pair("Q2", "kind", "rude")]) == [
        ("Q1", "good"), ("Q2", "kind"),
    ]  # fmt: skip
    assert len(shown([pair(f"Q{n}", f"good {n}", "bad") for n in range(9)])) == 4


def test_of_feedback_what_was_liked_is_shown() -> None:
    rows = [feedback("Q1", "good", True), feedback("Q2", "bad", False)]
    assert shown(rows) == [("Q1", "good")]


def test_what_was_rejected_anywhere_is_not_shown() -> None:
    ranking = [pair("Q", "best", "middle"), pair("Q", "middle", "worst")]
    assert shown(ranking) == [("Q", "best")]
    assert shown([feedback("Q", "moot", True), feedback("Q", "moot", False)]) == []


def test_plain_text_shows_nothing() -> None:
    assert shown([TextExample(HERE, "It was the year 1.")]) == []


def test_text_that_nothing_learns_from_is_named(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "mood": "x"}]
    write_jsonl(tmp_path, [{"messages": turns, "note": "n"}, {"messages": turns}], "x.jsonl")
    events: list[Event] = []
    data = {"train": "x.jsonl", "holdout": 0}
    read_examples(Recipe.parse({"name": "x", "data": data}), tmp_path, events.append)
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert len(notices) == 1
    assert "nothing learns from the columns note and the keys of turns mood of" in notices[0]


def test_all_ends_of_the_base_end_its_answers() -> None:
    base = load_base("builtin:nano", dtype="float32", device="cpu")
    assert base.ends == (1,)
    usual = renderer_of(base, RenderSettings()).stop_ids
    assert usual == {1}
    base.model.generation_config.eos_token_id = [1, 7]
    assert base.ends == (1, 7)
    assert renderer_of(base, RenderSettings()).stop_ids == {1, 7}
