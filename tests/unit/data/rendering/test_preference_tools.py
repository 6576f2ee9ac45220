"""Tools of pairs and verdicts, from the file to the rows: shown as for chats, or refused."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import RenderingError
from kamerton.data.dataset import load_examples
from kamerton.data.examples import ChatExample, Example, FeedbackExample, PreferenceExample
from kamerton.data.settings import DataSettings
from kamerton.prompting.prompt import Prompt
from kamerton.training.training_examples import makers_of
from tests.unit.data.rendering.chats import renderer_of, text_of, trained_texts

TOOL = {
    "type": "function",
    "function": {
        "name": "order_status",
        "description": "Looks up an order",
        "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}},
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "order_status", "arguments": "{}"}}
GUESS = {"role": "assistant", "content": "It should come soon, I guess."}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}


def asked(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Where is order {number}?"}]


ROWS: dict[str, list[dict[str, Any]]] = {
    "preference": [{"prompt": asked(1), "chosen": [CALLED], "rejected": [GUESS]}],
    "shared prompt": [{"chosen": [*asked(1), CALLED], "rejected": [*asked(1), GUESS]}],
    "ranking": [{"prompt": asked(1), "answers": [[CALLED], [GUESS]]}],
    "rating": [
        {"prompt": asked(1), "completion": [answer], "score": score}
        for answer, score in ((GUESS, 1), (CALLED, 5))
    ],
    "feedback": [
        {"prompt": asked(n), "completion": [answer], "label": good}
        for n, (answer, good) in enumerate(((GUESS, False), (CALLED, True)))
    ],
}


def read(folder: Path, rows: Sequence[Mapping[str, Any]], **settings: Any) -> list[Example]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"tools": [TOOL], **row}) + "\n" for row in rows))
    loaded = load_examples(DataSettings(train=str(path), **settings))
    assert not loaded.rejections
    return list(loaded.examples)


def settings_of(name: str) -> dict[str, str]:
    return {"format": "rating"} if name == "rating" else {}


@pytest.mark.parametrize("name", ROWS)
def test_tools_stand_in_prompts_as_in_those_of_chats(name: str, tmp_path: Path) -> None:
    examples = read(tmp_path, ROWS[name], **settings_of(name))
    renderer = renderer_of("chatml")
    feedback = name == "feedback"
    makers = makers_of(
        renderer,
        Prompt(),
        examples,
        "feedback" if feedback else "pairs",
        "kto" if feedback else "dpo",
    )
    made = [row for make in makers for row in make()]
    assert len(made) == len(examples)
    for example, one in zip(examples, made, strict=True):
        assert isinstance(example, PreferenceExample | FeedbackExample)
        prompt = renderer.prompt_ids(example.prompt, [TOOL])
        assert one.num_prompt == len(prompt)
        for row in one.answers:
            assert row.ids[: len(prompt)].tolist() == prompt
        own = example.chosen if isinstance(example, PreferenceExample) else example.completion
        chat = ChatExample(example.location, (*example.prompt, *own), tools=(TOOL,))
        # The answer that the data praise is the row of supervised fine-tuning, token by token.
        assert one.answers[0].ids.tolist() == renderer.render(chat).ids.tolist()
        shown = text_of(renderer, one.answers[0])
        assert shown.count('"name": "order_status", "description": "Looks up an order"') == 1
    better = made[-1].answers[0]
    assert trained_texts(renderer, better) == ["<tool_call>order_status{}</tool_call><|im_end|>"]


def test_a_pair_that_is_a_verdict_keeps_its_tools(tmp_path: Path) -> None:
    rows = [{"prompt": asked(n), "chosen": [CALLED], "rejected": [GUESS]} for n in (1, 2)]
    renderer = renderer_of("chatml")
    makers = makers_of(renderer, Prompt(), read(tmp_path, rows), "feedback", "kto")
    for make in makers:
        (one,) = make()
        assert "Looks up an order" in text_of(renderer, one.answers[0])
        assert "Looks up an order" in text_of(renderer, one.answers[1])


@pytest.mark.parametrize("name", ROWS)
def test_a_template_without_a_place_for_tools_refuses_them(name: str, tmp_path: Path) -> None:
    for example in read(tmp_path, ROWS[name], **settings_of(name)):
        with pytest.raises(RenderingError, match=r"rows\.jsonl:\d: .*no place for tool"):
            renderer_of("llama3").render(example)
    # Also where no answer is a call.
    row = {"prompt": asked(1), "chosen": [GUESS], "rejected": "No."}
    (pair,) = read(tmp_path, [row])
    with pytest.raises(RenderingError, match="no place for tools"):
        renderer_of("llama3").render_pair(pair)


@pytest.mark.parametrize("name", ["preference", "feedback"])
def test_the_model_cannot_answer_them_itself(name: str, tmp_path: Path) -> None:
    for example in read(tmp_path, ROWS[name]):
        with pytest.raises(RenderingError, match="a chat with tools cannot be answered here"):
            renderer_of("chatml").render_prompt(example)


def test_other_tools_are_another_example(tmp_path: Path) -> None:
    first, second = read(tmp_path, [*ROWS["preference"], {**ROWS["preference"][0], "tools": None}])
    assert (first.tools, second.tools) == ((TOOL,), ())
    loaded = load_examples(DataSettings(train=str(tmp_path / "rows.jsonl")))
    assert loaded.fingerprint != load_examples(DataSettings(train=_alone(tmp_path))).fingerprint


def _alone(folder: Path) -> str:
    lines = (folder / "rows.jsonl").read_text().splitlines()
    path = folder / "other.jsonl"
    path.write_text("".join(json.dumps({**json.loads(line), "tools": []}) + "\n" for line in lines))
    return str(path)
