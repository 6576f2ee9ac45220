"""Chat templates of real models, as TRL brings them: what is trained reads back as its message."""

import re
from functools import cache
from pathlib import Path

import pytest
import trl

from kamerton.core.errors import RenderingError
from kamerton.data.rendering.answers import Written
from kamerton.data.rendering.renderer import Renderer, RenderSettings, make_renderer
from tests.unit.data.rendering.cases import Case, tokenizer_of
from tests.unit.data.rendering.chats import chat, message
from tests.unit.data.rendering.test_answers import ASK, CALL, REASON, read, trained_ids

FOLDER = Path(trl.__file__).parent / "chat_templates"
# These take content as a list of parts only.
PARTS_ONLY = ("idefics3", "llava_next", "smolvlm")
NAMES = sorted(
    path.stem
    for path in FOLDER.glob("*.jinja")
    # Those with generation markers write what the others write.
    if not path.stem.endswith("_training") and not path.stem.startswith(PARTS_ONLY)
)
ENDS = ("<|return|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<turn|>")
CONTROL = re.compile(
    r"<\|[\w/]+\|?>|<｜[^｜]+｜>|</?(?:start|end)_of_turn>|<bos>|<\|?[a-z_]+\|>|<\|[a-z_]+>"
)
SCHEMA = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "City"}},
            "required": ["city"],
        },
    },
}


@cache
def renderer_of(name: str, *, thinking: bool) -> Renderer:
    template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    controls = tuple(dict.fromkeys(CONTROL.findall(template)))
    eos = next((end for end in ENDS if end in template), "</s>")
    bos = "<s>" if "bos_token" in template else None
    settings = RenderSettings(thinking=thinking, max_tokens=9000)
    return make_renderer(tokenizer_of(Case(template, controls, bos=bos, eos=eos)), settings)


def test_there_are_templates() -> None:
    assert {"gptoss", "qwen3", "llama3", "gemma3", "deepseek_r1_distill", "phi3"} <= {*NAMES}


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_an_answer_reads_back(name: str, thinking: bool) -> None:
    renderer = renderer_of(name, thinking=thinking)
    for text in ("Yes, until six.", '{"open": true}'):
        row = renderer.render(chat([ASK, message("assistant", text)]))
        assert read(renderer, trained_ids(row)) == Written(text)


THINKERS = (
    "deepseek_r1_distill", "deepseekv3", "gemma4_v5", "glm4moe", "gptoss", "lfm2_2_5",
    "nemotron_3_nano", "qwen3", "qwen3_5_think", "qwen3_8",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_reasoning_is_read_apart_or_refused(name: str) -> None:
    renderer = renderer_of(name, thinking=True)
    answer = message("assistant", "Yes, until six.", reasoning_content=REASON)
    try:
        row = renderer.render(chat([ASK, answer]))
    except RenderingError:
        assert name not in THINKERS
    else:
        assert read(renderer, trained_ids(row)) == Written("Yes, until six.", REASON)


CALLERS = ("gemma4", "gemma4_v5", "glm4moe", "gptoss", "llama3_1", "qwen2_5", "qwen3", "qwen3_8")


@pytest.mark.parametrize("reasoning", ["", REASON])
@pytest.mark.parametrize("name", NAMES)
def test_calls_read_with_their_reasoning_apart(name: str, reasoning: str) -> None:
    renderer = renderer_of(name, thinking=True)
    call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    if reasoning:
        call["reasoning_content"] = reasoning
    try:
        row = renderer.render(chat([ASK, call], tools=(SCHEMA,)))
    except RenderingError:
        assert reasoning or name not in CALLERS
    else:
        written = read(renderer, trained_ids(row))
        assert "get_weather" in written.text
        assert "Paris" in written.text
        assert "noon" not in written.text
        assert written.reasoning == reasoning
