"""What `check --show` says of questions that the model answers itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.dataset import load_examples
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.data.settings import DataSettings
from kamerton.flows.preview import Shown, show_examples
from kamerton.flows.recipe import Recipe
from kamerton.prompting.prompt import Prompt

PAIRS = [
    {"prompt": f"Q{n}?", "chosen": f"Yes {n}.", "rejected": f"No {n}.", "terms": "yes", "topic": n}
    for n in range(3)
]
CHATS = [{"prompt": f"Q{n}?", "completion": f"Yes {n}."} for n in range(3)]
REWARDS = [{"kind": "check", "check": {"kind": "contains", "field": "terms"}}]


def shown(
    folder: Path, rows: list[dict[str, Any]], kind: str, limit: int = 100
) -> tuple[dict[str, str], list[str], list[Shown]]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    objective = {"kind": kind, "rewards": REWARDS, "max_tokens": 7, "num_generations": 2}
    recipe = Recipe.parse({"name": "x", "data": {"train": str(path)}, "objective": objective})
    loaded = load_examples(DataSettings(train=str(path)))
    render = RenderSettings(max_tokens=limit)
    prompt = Prompt(system="Be kind.")
    facts, notices, found = show_examples(
        loaded, "builtin:nano", render, 1, prompt, objective=recipe.objective
    )
    return dict(facts), notices, found


@pytest.mark.parametrize("kind", ["rloo", "rlhf", "grpo", "ppo"])
def test_only_the_question_is_shown_where_the_model_answers(tmp_path: Path, kind: str) -> None:
    facts, _, (one,) = shown(tmp_path, PAIRS, kind)
    text = "".join(span.text for span in one.spans)
    assert "Be kind." in text
    assert "Q0?" in text
    assert "Yes 0." not in text
    assert text.rstrip().endswith("<|assistant|>")
    assert not any(span.trained for span in one.spans)
    assert (one.num_trained, one.num_bos, one.num_ends) == (0, 1, 0)
    assert one.columns == ("terms", "topic")
    assert "trained tokens" not in facts
    assert facts["examples rendered"] == "3 of 3"
    assert facts["questions"].startswith("3, ")
    assert facts["answered by the model"].startswith("2 answers to each, of at most 7 tokens")
    _, _, (chat,) = shown(tmp_path, CHATS, kind)
    assert chat.columns == ()
    assert chat.spans == one.spans


def test_drpo_learns_from_the_pair_too(tmp_path: Path) -> None:
    facts, _, (question, better, worse) = shown(tmp_path, PAIRS, "drpo")
    assert question.location.endswith(":1, the question")
    assert question.num_trained == 0
    assert question.columns == ("terms", "topic")
    assert better.location.endswith("the better answer")
    assert worse.location.endswith("the worse answer")
    assert better.columns is None
    assert better.num_trained > 0
    trained = facts["given answers: trained tokens"].split()[0]
    assert int(trained) == 3 * (better.num_trained + worse.num_trained)
    assert "trained tokens" not in facts


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    facts, notices, (one,) = shown(tmp_path, CHATS, "drpo")
    assert "prompts with a better and a worse answer" in one.problem
    assert facts["examples rendered"] == "0 of 3"
    assert "3 of 3 examples would be dropped" in notices[-1]
    _, notices, (one,) = shown(tmp_path, CHATS, "rloo", limit=5)
    assert "render.max_tokens" in one.problem
    assert "3 of 3 examples would be dropped" in notices[-1]


def test_windows_of_a_long_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text(" ".join(f"Line {n}." for n in range(60)))
    loaded = load_examples(DataSettings(train=str(path)))
    facts, notices, (one,) = show_examples(
        loaded, "builtin:nano", RenderSettings(max_tokens=64), 1, Prompt()
    )
    found = dict(facts)
    num_rows = int(found["rows"].partition(",")[0])
    assert num_rows > 1
    assert found["rows without a trained end"] == "0"
    assert one.location == f"{path}:1, the first of {num_rows} windows"
    assert notices[-1] == ("1 examples: the text is longer than 64 tokens and is cut into windows")
