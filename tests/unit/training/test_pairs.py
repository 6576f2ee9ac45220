"""Pairs and feedback: the shared prompt, the reference, losses over the whole batch, resume."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from kamerton.adapters.full import attach_full
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.errors import InterruptedRun, TrainingError
from kamerton.core.events import Event, HoldoutMeasured, StepDone
from kamerton.data.examples import SourceLocation
from kamerton.data.rendering.tokenized import (
    TokenizedExample,
    TokenizedFeedback,
    TokenizedPair,
    TrainingExample,
    num_tokens,
)
from kamerton.models.base import Base
from kamerton.models.rows.reading import logprobs_of
from kamerton.models.rows.row import make_row, num_labelled
from kamerton.objectives.catalogue import ObjectiveSettings, make_objective
from kamerton.objectives.dpo import DpoSettings
from kamerton.objectives.kto import KtoSettings
from kamerton.objectives.orpo import OrpoSettings
from kamerton.objectives.simpo import SimpoSettings
from kamerton.training.loop import train
from kamerton.training.memory import recompute_blocks
from kamerton.training.scoring import add_gradient, measure, reference_sums
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Task
from tests.shapes import CONFIGS, VOCABULARY, tiny_base

ALL: tuple[ObjectiveSettings, ...] = (
    DpoSettings(), DpoSettings(robustness="dr-dpo"), SimpoSettings(), OrpoSettings(),
    OrpoSettings(nll_over="everything"), KtoSettings(),
)  # fmt: skip
SMALL = TrainSettings(
    epochs=4, tokens_per_step=96, learning_rate=1e-2, threads=1, checkpoint_every_s=0
)


def answered(
    random: np.random.Generator, prompt: np.ndarray, location: SourceLocation
) -> TokenizedExample:
    answer = random.integers(3, VOCABULARY, int(random.integers(1, 9)))
    ids = np.concatenate([prompt, answer]).astype(np.int32)
    return TokenizedExample(ids, np.arange(len(ids)) >= len(prompt), location)


def pairs(count: int, seed: int = 0) -> list[TrainingExample]:
    random, made = np.random.default_rng(seed), []
    for number in range(count):
        prompt = random.integers(3, VOCABULARY, int(random.integers(2, 12)))
        location = SourceLocation("pairs.jsonl", number + 1)
        rows = [answered(random, prompt, location) for _ in range(2)]
        made.append(TokenizedPair(len(prompt), *rows))
    return made


def feedback(count: int) -> list[TrainingExample]:
    found = []
    for number, pair in enumerate(pairs(count)):
        assert isinstance(pair, TokenizedPair)
        found.append(
            TokenizedFeedback(pair.num_prompt, *pair.answers, is_desirable=number % 2 == 0)
        )
    return found


def name(settings: ObjectiveSettings) -> str:
    plain = settings.model_dump(exclude_defaults=True, exclude={"kind"})
    return "-".join([settings.kind, *map(str, plain.values())])


def examples(settings: ObjectiveSettings, count: int = 12) -> list[TrainingExample]:
    return feedback(count) if settings.kind == "kto" else pairs(count)


def same_texts(texts: list[TrainingExample]) -> list[tuple[int, ...]]:
    return [tuple(row.ids.tolist()) for text in texts for row in text.answers]


@pytest.mark.parametrize("shape", CONFIGS)
def test_a_shared_prompt_changes_nothing_but_the_cost(shape: str) -> None:
    """Log-probabilities and gradients equal those of answers with a prompt of their own."""
    base = tiny_base(shape)
    lora = attach_lora(base, LoraSettings(rank=4), seed=0)
    for number, parameter in enumerate(lora.parameters().values()):
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(number))
    some = pairs(5)
    found, slopes = [], []
    for shared in (True, False):
        row = make_row(some, base.device, shared=shared)
        logprobs = logprobs_of(base, row)
        logprobs.square().sum().backward()
        found.append(logprobs.detach())
        slopes.append([p.grad.clone() for p in lora.parameters().values()])  # type: ignore[union-attr]
        for parameter in lora.parameters().values():
            parameter.grad = None
        assert len(row.ids) == (
            sum(map(num_tokens, some)) if shared else len(sum(same_texts(some), ()))
        )
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
    for one, other in zip(*slopes, strict=True):
        assert float((one - other).norm()) <= 1e-4 * float(one.norm())


def test_labelled_tokens_are_the_answers() -> None:
    some = pairs(4)
    row = make_row(some, torch.device("cpu"))
    expected = [t for pair in some for r in pair.answers for t in r.ids[pair.num_prompt :].tolist()]
    assert row.targets.tolist() == expected
    assert num_labelled(some) == len(expected)
    assert row.num_answers == 8
    for position, target, owner in zip(row.at, row.targets, row.answers, strict=True):
        segment = next(s for s in row.layout.segments if s.start <= int(position) < s.stop)
        # Within an answer the next token follows; at its beginning the prompt's end predicts it.
        if segment.parent >= 0:
            assert row.ids[position + 1] == target
        else:
            assert int(position) == segment.stop - 1
        assert 0 <= int(owner) < 8


@pytest.mark.parametrize("settings", ALL, ids=name)
def test_small_rows_lead_to_the_same_gradient(settings: ObjectiveSettings) -> None:
    """Also where the loss weighs the examples of the whole batch against each other."""
    base = tiny_base("llama")
    lora = attach_lora(base, LoraSettings(rank=4), seed=0)
    some, objective = examples(settings), make_objective(settings)
    references = reference_sums(base, some) if objective.needs_reference else None
    for number, parameter in enumerate(lora.parameters().values()):
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(number))
    losses, slopes = [], []
    for tokens_per_row in (10_000, 30):
        loss, _ = add_gradient(objective, base, some, references, tokens_per_row, lambda row: None)
        losses.append(loss)
        slopes.append([p.grad.clone() for p in lora.parameters().values()])  # type: ignore[union-attr]
        for parameter in lora.parameters().values():
            parameter.grad = None
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert any(slope.abs().max() > 1e-4 for slope in slopes[0])
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def turns(seed: int = 9) -> TokenizedPair:
    """A pair whose better answer asks back and goes on after another turn."""
    (pair,) = pairs(1, seed)
    assert isinstance(pair, TokenizedPair)
    answer = np.arange(3, 12, dtype=np.int32)
    ids = np.concatenate([pair.prompt_ids, answer])
    loss_mask = np.arange(len(ids)) >= pair.num_prompt
    loss_mask[pair.num_prompt + 3 : pair.num_prompt + 6] = False
    return TokenizedPair(pair.num_prompt, TokenizedExample(ids, loss_mask), pair.rejected)


def test_everything_is_labelled_apart_and_only_when_asked() -> None:
    some = [*pairs(3), turns(), *pairs(1, 5)]
    device = torch.device("cpu")
    plain = make_row(some, device)
    assert plain.context is None
    for shared in (True, False):
        row = make_row(some, device, shared=shared, everything=True)
        assert row.context is not None
        assert torch.equal(row.targets, plain.targets)
        assert torch.equal(row.answers, plain.answers)
        expected = [(pair.answers[0].ids[1:], pair.answers[0].loss_mask[1:]) for pair in some]
        assert row.context.targets.tolist() == [
            token for ids, mask in expected for token in ids[~mask].tolist()
        ]
        owners = [2 * n for n, (_, mask) in enumerate(expected) for _ in range((~mask).sum())]
        assert row.context.answers.tolist() == owners
        for position, target in zip(row.context.at, row.context.targets, strict=True):
            assert row.ids[position + 1] == target


def plain_orpo(base: Base, some: list[TrainingExample], weight: float) -> torch.Tensor:
    """ORPO over everything, one whole conversation after another through the model's own head."""
    total = torch.zeros(())
    with base.attention("sdpa"):
        for pair in some:
            odds, nll = [], []
            for row in pair.answers:
                ids = torch.from_numpy(row.ids).long()
                said = base.model(input_ids=ids[None], use_cache=False).logits[0, :-1]
                logprobs = said.log_softmax(-1).gather(1, ids[1:, None]).squeeze(1)
                mean = logprobs[torch.from_numpy(row.loss_mask[1:])].mean()
                odds.append(mean - torch.log(-torch.expm1(mean)))
                nll.append(-logprobs.mean())
            total = total + nll[0] - weight * logsigmoid(odds[0] - odds[1])
    return total / len(some)


@pytest.mark.parametrize("way", ["shared", "rows", "padded", "recomputed", "padded and recomputed"])
@pytest.mark.parametrize("learns", ["lora", "full"])
def test_orpo_over_everything_equals_the_plain_computation(way: str, learns: str) -> None:
    base = tiny_base("llama")
    adapter = attach_lora(base, LoraSettings(rank=4), 0) if learns == "lora" else attach_full(base)
    parameters = list(adapter.parameters().values())
    for number, parameter in enumerate(parameters):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        parameter.data += 0.05 * noise
    some: list[TrainingExample] = [*pairs(5), turns()]
    expected = plain_orpo(base, some, 0.5)
    slopes = torch.autograd.grad(expected, parameters)
    base.ragged = "padded" not in way
    if "recomputed" in way:
        recompute_blocks(base, base.num_layers)
    objective = make_objective(OrpoSettings(weight=0.5, nll_over="everything"))
    tokens_per_row = 40 if way == "rows" else 10_000
    loss, _ = add_gradient(objective, base, some, None, tokens_per_row, lambda row: None)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for parameter, slope in zip(parameters, slopes, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, slope, rtol=1e-3, atol=1e-6)
    again, _ = measure(objective, base, some, None, tokens_per_row)
    assert again == pytest.approx(loss, rel=1e-5)


class Run:
    """Trains on pairs, each time from a fresh base."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.weights: dict[str, torch.Tensor] = {}

    def __call__(
        self, settings: ObjectiveSettings, train_settings: TrainSettings = SMALL,
        should_stop=lambda: False, wrong: float = 0.0,
    ) -> None:  # fmt: skip
        self.events = []
        base = tiny_base("llama")
        lora = attach_lora(base, LoraSettings(rank=4), seed=0)
        objective = make_objective(settings)
        some, held = examples(settings), examples(settings, 6)
        references = None
        if objective.needs_reference:
            known = [tuple(v + wrong for v in sums) for sums in reference_sums(base, some)]
            references = (known, reference_sums(base, held))
        task = Task(
            name="run", base=base, adapter=lora, objective=objective, train=some, holdout=held,
            settings=train_settings, folder=self.folder, identity="same", references=references,
        )  # fmt: skip
        train(task, self.events.append, should_stop)
        self.weights = {name: p.detach().clone() for name, p in lora.parameters().items()}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.mark.parametrize("settings", ALL, ids=name)
def test_the_better_answers_are_learned(run: Run, settings: ObjectiveSettings) -> None:
    longer = SMALL.model_copy(update={"epochs": 25, "checkpoint_every_s": 99})
    run(settings, longer)
    steps = [event for event in run.events if isinstance(event, StepDone)]
    assert np.mean([s.metrics["reward_accuracy"] for s in steps[-4:]]) > 0.9
    assert steps[-1].loss < steps[0].loss
    measured = [event for event in run.events if isinstance(event, HoldoutMeasured)]
    assert measured[-1].metrics["reward_accuracy"] == pytest.approx(1.0, abs=0.2)


def test_dpo_begins_at_ln_2_with_no_margin(run: Run) -> None:
    run(DpoSettings(), SMALL.model_copy(update={"max_steps": 1}))
    (step,) = (event for event in run.events if isinstance(event, StepDone))
    assert step.loss == pytest.approx(math.log(2), abs=1e-5)
    assert step.metrics["margin"] == pytest.approx(0, abs=1e-4)
    assert step.metrics["chosen_change"] == pytest.approx(0, abs=1e-3)


def test_a_wrong_reference_stops_before_the_first_step(run: Run) -> None:
    with pytest.raises(TrainingError, match="must equal its reference"):
        run(DpoSettings(), wrong=0.5)
    assert not [event for event in run.events if isinstance(event, StepDone)]


@pytest.mark.parametrize("settings", [DpoSettings(), KtoSettings()], ids=lambda s: s.kind)
def test_resume_is_exact(run: Run, settings: ObjectiveSettings) -> None:
    run(settings, SMALL.model_copy(update={"tokens_per_row": 40}))
    whole = run.weights
    (run.folder / "checkpoint.safetensors").unlink()
    calls = iter([False, False, True])
    with pytest.raises(InterruptedRun):
        run(settings, SMALL.model_copy(update={"tokens_per_row": 40}), lambda: next(calls))
    run(settings, SMALL.model_copy(update={"tokens_per_row": 40}))
    assert all(torch.equal(run.weights[name], weight) for name, weight in whole.items())
