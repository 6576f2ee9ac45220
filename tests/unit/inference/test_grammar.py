"""Answers that follow a grammar, beside others that do not."""

import json
import re
import sys

import pytest
import torch

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate, Grammar, Reweighting, ServedModel
from kamerton.data.rendering.answers import AnswerMarks, Block
from kamerton.data.rendering.renderer import Renderer, make_renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.inference.grammar import GrammarCompiler
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.prompting.prompt import Prompt

CHAT = [{"role": "user", "content": "Where is my order?"}]
SCHEMA = {
    "type": "object",
    "properties": {"open": {"type": "boolean"}, "day": {"enum": ["понедельник", "Tuesday"]}},
    "required": ["open", "day"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("builtin:nano", dtype="float32")


@pytest.fixture(scope="module")
def renderer(base: Base) -> Renderer:
    return make_renderer(base.tokenizer, RenderSettings(), ends=base.ends)


@pytest.fixture(scope="module")
def engine(base: Base, renderer: Renderer) -> ContinuousEngine:
    model = ServedModel("nano", "base", "hash", "nano")
    return ContinuousEngine(base, [LoadedVariant(model, renderer, Prompt())])


def asked(name: str, kind: str, text: object, seed: int = 0, **how: object) -> AnswerRequest:
    written = text if isinstance(text, str) else json.dumps(text)
    how = {"max_tokens": 300, "temperature": 1.0, "seed": seed, **how}
    grammar = Grammar(kind, written) if kind else None  # type: ignore[arg-type]
    return AnswerRequest(name, "nano", Generation(**how), CHAT, grammar=grammar)  # type: ignore[arg-type]


def run(engine: ContinuousEngine, *requests: AnswerRequest) -> dict[str, tuple[str, str | None]]:
    for request in requests:
        assert engine.add(request) == []
    texts: dict[str, str] = {}
    ends: dict[str, AnswerUpdate] = {}
    while not engine.is_idle:
        for update in engine.step():
            texts[update.id] = texts.get(update.id, "") + update.text
            assert not update.reasoning
            if update.is_last:
                ends[update.id] = update
    return {name: (text, ends[name].finish_reason) for name, text in texts.items()}


def test_each_answer_follows_its_own_grammar_and_ends(engine):
    requests = [asked(f"schema{seed}", "json_schema", SCHEMA, seed) for seed in range(3)]
    requests += [asked(f"regex{seed}", "regex", r"[a-f]{3}-\d{2}", seed) for seed in range(2)]
    requests += [asked(f"choice{seed}", "choice", ["да", 'say "no"\n'], seed) for seed in range(3)]
    requests += [asked("greedy", "choice", ["yes", "yesterday"], temperature=0.0)]
    free = asked("free", "", "", temperature=0.0)
    found = run(engine, *requests, free)
    for name, (text, reason) in found.items():
        if name == "free":
            continue
        assert reason == "stop"
        if name.startswith("schema"):
            value = json.loads(text)
            assert list(value) == ["open", "day"]
            assert value["day"] in SCHEMA["properties"]["day"]["enum"]
            assert isinstance(value["open"], bool)
        elif name.startswith("regex"):
            assert re.fullmatch(r"[a-f]{3}-\d{2}", text)
        else:
            assert text in ("да", 'say "no"\n', "yes", "yesterday")
    assert len({found[f"regex{seed}"] for seed in range(2)}) == 2
    # Who has no grammar answers as without the others.
    assert run(engine, free)["free"] == found["free"]


def test_a_cut_answer_says_so(engine):
    (found,) = run(engine, asked("a", "json_schema", SCHEMA, max_tokens=2)).values()
    assert found[1] == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(found[0])


def test_a_bias_brings_nothing_back_that_the_grammar_forbids(engine, base):
    (token,) = base.tokenizer("x", add_special_tokens=False)["input_ids"][-1:]
    request = AnswerRequest(
        "a", "nano", Generation(max_tokens=9), CHAT, grammar=Grammar("choice", '["yes"]'),
        reweighting=Reweighting(logit_bias=((token, 100.0),)),
    )  # fmt: skip
    assert run(engine, request)["a"] == ("yes", "stop")


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("json_schema", {"type": "strange"}, "Invalid type"),
        ("json_schema", {"type": "array", "uniqueItems": True}, "uniqueItems"),
        ("json_schema", "no schema", "json_schema: "),
        ("json_schema", {"$ref": "#"}, "cannot be followed"),
        ("regex", "(", "unclosed group"),
    ],
)
def test_what_cannot_be_followed_is_refused(engine, kind, text, said):
    (update,) = engine.add(asked("a", kind, text))
    assert update.is_client_error
    assert said in update.error
    assert engine.is_idle


def test_a_grammar_that_becomes_too_complex_ends_its_answer_alone(engine):
    key = {"type": "string", "pattern": "^(a|b){1,500}$"}
    wide = {"type": "object", "properties": {str(number): key for number in range(500)}}
    requests = [asked("wide", "json_schema", wide), asked("other", "choice", ["yes"])]
    for request in requests:
        assert engine.add(request) == []
    ends = {}
    while not engine.is_idle:
        ends |= {update.id: update for update in engine.step() if update.is_last}
    assert "too complex: Parser Error" in ends["wide"].error
    assert ends["wide"].is_client_error
    assert ends["other"].finish_reason == "stop"


@pytest.mark.parametrize("regex", [r"\d", r"[\d]", r"[a\]\d]", r"\[\d"])
def test_digits_are_those_of_ascii(regex, base, renderer):
    compiler = GrammarCompiler(base.identity.vocab_size)
    for text, allowed in (("7", True), ("٣", False)):
        state = compiler.compile(Grammar("regex", regex), renderer)
        text = f"[{text}" if regex.startswith(r"\[") else text
        for token in base.tokenizer(text, add_special_tokens=False)["input_ids"]:
            state.add(token)
        assert (not state.error) == allowed


def test_without_the_extra_its_name_is_said(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    (update,) = engine.add(asked("a", "choice", ["yes"]))
    assert update.is_client_error
    assert "pip install 'kamerton[grammar]'" in update.error


def test_the_mask_forbids_all_other_tokens(base, renderer):
    compiler = GrammarCompiler(base.identity.vocab_size)
    state = compiler.compile(Grammar("choice", '["да", "дата"]'), renderer)
    ids = base.tokenizer("да", add_special_tokens=False)["input_ids"]
    for token in ids:
        logits = torch.zeros(base.identity.vocab_size)
        row = state.apply(logits)
        assert row[token] == 0
        assert torch.isinf(row).sum() > len(row) - 20
        assert not torch.isinf(logits).any()
        state.add(token)
    row = state.apply(logits)
    assert not state.is_over
    assert all(row[end] == 0 for end in renderer.stop_ids)


def test_reasoning_that_the_prompt_begins_is_ended_before_the_answer(base, renderer):
    marks = AnswerMarks(blocks=(Block("<think>", "</think>"),), opened=True)
    thinking = Renderer(renderer._assembler, renderer.settings, None, marks, base.ends)
    assert base.tokenizer.decode(thinking.opening_ids()) == "\n</think>\n\n"
    assert renderer.opening_ids() == []
    model = ServedModel("nano", "base", "hash", "nano")
    engine = ContinuousEngine(base, [LoadedVariant(model, thinking, Prompt())])
    assert run(engine, asked("a", "choice", ["yes"]))["a"] == ("yes", "stop")
