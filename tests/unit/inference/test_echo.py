"""Log-probabilities of a prompt, as lm-evaluation-harness reads them."""

from typing import Any

import pytest
import torch

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel, TokenLogprob
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.prompting.prompt import Prompt
from kamerton.wire.answers import text_answer
from tests.shapes import tiny_base, tiny_renderer

PROMPTS = [tuple(range(5, 25)), (40, 2, 41), (50,), (60, 61) * 10]
"""The second has the end of a text inside; the third is one token."""


def engine_of(base: Base, tokens_per_step: int = 512) -> ContinuousEngine:
    variant = LoadedVariant(ServedModel("m", "base", "h", "m"), tiny_renderer(base), Prompt())
    return ContinuousEngine(base, [variant], num_slots=3, tokens_per_step=tokens_per_step)


def answers(engine: ContinuousEngine, max_tokens: int, **how: Any) -> list[AnswerUpdate]:
    for number, prompt in enumerate(PROMPTS):
        how = {"num_top_logprobs": 1, "echo": True, **how}
        request = AnswerRequest(
            str(number), "m", Generation(max_tokens=max_tokens), prompt=prompt, **how
        )
        assert engine.add(request) == []
    found: dict[str, list[AnswerUpdate]] = {}
    while not engine.is_idle:
        for update in engine.step():
            found.setdefault(update.id, []).append(update)
    assert all(len(updates) == 1 for updates in found.values())
    return [found[str(number)][0] for number in range(len(PROMPTS))]


@torch.no_grad()
def expected(base: Base, prompt: tuple[int, ...]) -> torch.Tensor:
    """[n, V] log-probabilities after each token, as Transformers computes them."""
    hidden = base.plain_hidden(torch.tensor(prompt), Layout.of_lengths([len(prompt)]))
    return base.head.logits(hidden).log_softmax(-1)


@pytest.mark.parametrize("tokens_per_step", [4, 512])
def test_the_prompt_and_exactly_one_token_come_back(tokens_per_step: int) -> None:
    base = tiny_base("llama")
    for prompt, update in zip(PROMPTS, answers(engine_of(base, tokens_per_step), 1), strict=True):
        tokens, rows = update.logprobs, expected(base, prompt)
        assert [token.text for token in tokens[:-1]] == [base.tokenizer.decode([t]) for t in prompt]
        assert len(tokens) == len(prompt) + 1
        assert tokens[0] == TokenLogprob(f"w{prompt[0]}", None)
        said = torch.tensor([token.logprob for token in tokens[1:]])
        following = torch.tensor([*prompt[1:], int(rows[-1].argmax())])
        torch.testing.assert_close(
            said, rows.gather(1, following[:, None])[:, 0], atol=2e-5, rtol=1e-5
        )
        for token, row, index in zip(tokens[1:], rows, following, strict=True):
            # Whether a token is the likeliest is told by equal numbers.
            assert (token.logprob == token.top[0][1]) == bool(row.argmax() == index)
            assert token.top[0][1] >= token.logprob
        assert update.text.startswith(base.tokenizer.decode(list(prompt)))


def test_a_request_for_no_token_only_reads() -> None:
    base = tiny_base("llama")
    whole = answers(engine_of(base), 1)
    for one, read in zip(whole, answers(engine_of(base), 0), strict=True):
        assert read.logprobs == one.logprobs[:-1]
        assert (read.num_tokens, read.finish_reason) == (0, "length")
        assert one.text.startswith(read.text)
    assert [update.text for update in answers(engine_of(base), 0, echo=False)] == [""] * 4


def test_a_token_that_ends_the_answer_is_reported_too() -> None:
    """Without its entry, the harness would drop the last token that it scores."""
    base = tiny_base("llama")
    with torch.no_grad():
        weight = base.model.get_output_embeddings().weight
        last = base.plain_hidden(torch.tensor(PROMPTS[0]), Layout.of_lengths([20]))[-1]
        weight[2] = last * 100
    update = answers(engine_of(base), 1)[0]
    assert update.finish_reason == "stop"
    assert len(update.logprobs) == len(PROMPTS[0]) + 1


def test_the_body_is_what_the_harness_reads() -> None:
    tokens = [
        TokenLogprob("a", None),
        TokenLogprob("b", -2.5, (("c", -0.25),)),
        TokenLogprob("\ufffd", float("-inf"), (("token_id:7", -0.5), ("d", float("nan")))),
    ]
    body = text_answer("id", "m", [{"text": "ab", "finish_reason": "stop", "logprobs": tokens}], {})
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["a", "b", "\ufffd"],
        "token_logprobs": [None, -2.5, -9999.0],
        "top_logprobs": [
            None,
            {"c": -0.25, "b": -2.5},
            {"token_id:7": -0.5, "d": -9999.0, "\ufffd": -9999.0},
        ],
        "text_offset": [0, 1, 2],
    }


def test_a_prompt_as_long_as_the_context_can_be_read_but_not_continued() -> None:
    base = tiny_base("llama")
    engine = engine_of(base)
    prompt = (5, 6) * 128
    for max_tokens, is_refused in ((0, False), (1, True)):
        how = Generation(max_tokens=max_tokens)
        found = engine.add(
            AnswerRequest("a", "m", how, prompt=prompt, num_top_logprobs=1, echo=True)
        )
        assert bool(found) == is_refused
    while not engine.is_idle:
        updates = engine.step()
    assert len(updates[0].logprobs) == 256
