"""What a request may do to the probabilities of tokens: its own answer's only."""

import math

import pytest
import torch

from kamerton.core.errors import ModelError
from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, Reweighting, ServedModel
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.inference.reweighting import Reweighter
from kamerton.inference.sampling import choose_tokens, random_stream
from kamerton.models.base import Base
from kamerton.prompting.prompt import Prompt
from tests.shapes import tiny_base, tiny_renderer

LOGITS = torch.tensor([2.0, 1.0, -1.0, 0.5])


def reweighted(how: Reweighting, prompt: list[int], written: list[int]) -> list[float]:
    reweighter = Reweighter(how, prompt, 4)
    for token in written:
        reweighter.add(token)
    before = LOGITS.clone()
    found = reweighter.apply(LOGITS)
    assert torch.equal(LOGITS, before)
    return found.tolist()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # The prompt is [0, 2] and the answer so far [1, 1].
        (Reweighting(presence_penalty=0.5), [2.0, 0.5, -1.0, 0.5]),
        (Reweighting(frequency_penalty=0.5), [2.0, 0.0, -1.0, 0.5]),
        (Reweighting(repetition_penalty=2.0), [1.0, 0.5, -2.0, 0.5]),
        (Reweighting(logit_bias=((3, 1.5), (0, -100.0))), [-98.0, 1.0, -1.0, 2.0]),
        (Reweighting(0.0, 0.25, 0.5, 2.0, ((1, 3.0),)), [1.0, 2.25, -2.0, 0.5]),
    ],
)
def test_penalties_and_bias(how, expected):
    assert reweighted(how, [0, 2], [1, 1]) == expected


def test_nothing_is_changed_that_nobody_asked_for():
    assert not Reweighting().changes_logits
    assert not Reweighting(min_p=0.5).changes_logits
    assert Reweighting(logit_bias=((1, 1.0),)).changes_logits


def test_a_bias_of_a_token_that_is_not_there_is_refused():
    with pytest.raises(ModelError, match="from 0 to 3: 4"):
        Reweighter(Reweighting(logit_bias=((4, 1.0),)), [], 4)


def test_min_p_keeps_the_tokens_near_the_likeliest():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(400, 4)
    how = Generation(temperature=1.0)
    streams = [random_stream(how, index) for index in range(400)]
    everything = set(choose_tokens(logits, how, streams).tolist())
    assert everything == {0, 1, 2, 3}
    kept = set(choose_tokens(logits, how, streams, min_p=0.5).tolist())
    assert kept == {0, 1}
    # At temperature 2 the second is sqrt(0.6) as probable, the third sqrt(0.3), the last sqrt(0.1).
    warm = Generation(temperature=2.0)
    kept = set(choose_tokens(logits, warm, streams, min_p=math.sqrt(0.25)).tolist())
    assert kept == {0, 1, 2}
    assert set(choose_tokens(logits, how, streams, min_p=1.0).tolist()) == {0}


def test_the_coldest_answers_are_greedy():
    cold = Generation(temperature=1e-300)
    assert choose_tokens(LOGITS[None], cold, [random_stream(cold, 0)]).tolist() == [0]


def test_an_answer_without_probabilities_fails_alone(monkeypatch):
    requests = [asked(name, Reweighting(), 1.0) for name in ("whole", "broken", "other")]
    alone = written(requests[:1])
    apply = Reweighter.apply

    def break_one(self: Reweighter, logits: torch.Tensor) -> torch.Tensor:
        return apply(self, logits) * math.nan

    monkeypatch.setattr(Reweighter, "apply", break_one)
    requests[1] = asked("broken", Reweighting(presence_penalty=1.0), 1.0)
    engine = engine_of(tiny_base("llama"))
    for request in requests:
        engine.add(request)
    texts, ends = {request.id: [] for request in requests}, {}
    while not engine.is_idle:
        for update in engine.step():
            texts[update.id] += [token.text for token in update.logprobs]
            ends |= {update.id: update} if update.is_last else {}
    assert "not finite" in ends["broken"].error
    assert texts["whole"] == alone["whole"] == texts["other"]
    assert not ends["whole"].error


def engine_of(base: Base) -> ContinuousEngine:
    variant = LoadedVariant(ServedModel("m", "base", "h", "m"), tiny_renderer(base), Prompt())
    return ContinuousEngine(base, [variant])


def written(requests: list[AnswerRequest]) -> dict[str, list[str]]:
    engine = engine_of(tiny_base("llama"))
    for request in requests:
        assert engine.add(request) == []
    found: dict[str, list[str]] = {request.id: [] for request in requests}
    while not engine.is_idle:
        for update in engine.step():
            found[update.id] += [token.text for token in update.logprobs]
    return found


def asked(name: str, how: Reweighting, temperature: float = 0.0) -> AnswerRequest:
    generation = Generation(max_tokens=16, temperature=temperature, seed=3)
    return AnswerRequest(
        name, "m", generation, prompt=(5, 6, 7), num_top_logprobs=0, reweighting=how
    )


def test_each_answer_of_a_batch_has_its_own_rules():
    never_end = ((2, -100.0),)
    requests = [
        asked("plain", Reweighting(logit_bias=never_end)),
        asked("forced", Reweighting(logit_bias=((9, 100.0),))),
        asked("once", Reweighting(repetition_penalty=10.0, logit_bias=never_end)),
        asked("likeliest", Reweighting(min_p=1.0, logit_bias=never_end), 1.0),
        asked("untouched", Reweighting()),
    ]
    together = written(requests)
    for request in requests:
        assert written([request])[request.id] == together[request.id]
    assert together["forced"] == ["w9"] * 16
    assert len(set(together["once"])) > len(set(together["plain"]))
    assert together["likeliest"] == together["plain"]
    assert together["untouched"] == together["plain"][: len(together["untouched"])]
