"""What clients ask about tokenizers, and embeddings: through the worker's own connection."""

import multiprocessing
import threading

import pytest
import torch

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, ServedModel
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.data.rendering.renderer import make_renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.inference.worker import work
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.prompting.prompt import Prompt

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("builtin:nano", dtype="float32")


@pytest.fixture(scope="module")
def engine(base: Base) -> ContinuousEngine:
    renderer = make_renderer(base.tokenizer, RenderSettings(), ends=base.ends)
    plain = ServedModel("nano", "base", "hash", "nano")
    polite = ServedModel("polite", "prompt only", "other", "nano")
    variants = [
        LoadedVariant(plain, renderer, Prompt()),
        LoadedVariant(polite, renderer, Prompt(system="Be polite.")),
    ]
    return ContinuousEngine(base, variants, tokens_per_step=16)


def asked(model: str = "nano", **what: object) -> AnswerRequest:
    return AnswerRequest("a", model, Generation(max_tokens=0), **what)  # type: ignore[arg-type]


def test_texts_become_tokens_and_come_back(engine, base):
    text = "Hello, мир!"
    reply = engine.tokenize(TokenizerRequest("tokenize", asked(prompt=text), False))
    ids = base.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert reply.tokens == tuple(ids)
    assert reply.token_texts[0] == base.tokenizer.decode(ids[:1])
    assert reply.max_tokens == base.model.config.max_position_embeddings
    back = engine.tokenize(TokenizerRequest("detokenize", asked(prompt=reply.tokens)))
    assert back.text == text


def test_a_chat_has_the_prompt_of_its_variant(engine):
    plain = engine.tokenize(TokenizerRequest("tokenize", asked(chat=HELLO)))
    polite = engine.tokenize(TokenizerRequest("tokenize", asked("polite", chat=HELLO)))
    assert "Be polite." in "".join(polite.token_texts)
    assert len(polite.tokens) > len(plain.tokens)


def test_the_tokenizer_says_what_it_is(engine, base):
    info = engine.tokenize(TokenizerRequest("info", asked())).info
    assert info["eos_token"] == base.tokenizer.eos_token
    assert info["chat_template"] == base.tokenizer.chat_template


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (TokenizerRequest("info", asked("other")), "'other' is not served"),
        (TokenizerRequest("detokenize", asked(prompt=(1 << 30,))), "token ids are from 0"),
        (TokenizerRequest("tokenize", asked(chat=[{"content": "x"}])), "must have a role"),
    ],
)
def test_what_cannot_be_said_is_an_error(engine, question, said):
    assert said in engine.tokenize(question).error


@torch.no_grad()
def test_an_embedding_is_the_mean_of_the_last_hidden_states(engine, base):
    ids = tuple(base.tokenizer("word " * 20)["input_ids"])
    request = asked(prompt=ids, embeds=True)
    assert engine.add(request) == []
    updates = []
    while not engine.is_idle:
        updates += engine.step()
    (end,) = updates
    hidden = base.plain_hidden(torch.tensor(ids), Layout.of_lengths([len(ids)]))
    mean = hidden.mean(0)
    torch.testing.assert_close(torch.tensor(end.embedding), mean / mean.norm(), atol=1e-5, rtol=0)
    assert (end.text, end.num_tokens, end.num_prompt_tokens) == ("", 0, len(ids))


def test_the_worker_replies_through_its_connection(engine):
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=work, args=(theirs, lambda: engine))
    thread.start()
    try:
        assert [model.name for model in ours.recv()] == ["nano", "polite"]
        ours.send(TokenizerRequest("detokenize", asked(prompt=(5, 6))))
        (reply,) = ours.recv()
    finally:
        ours.close()
        thread.join(10)
    assert isinstance(reply, TokenizerReply)
    assert reply.id == "a"
    assert reply.text
