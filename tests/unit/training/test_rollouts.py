"""Rollouts: what is remembered of answers that a model writes, and what is left untouched."""

import gc
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import AdapterSettings, attach
from kamerton.adapters.full import FullSettings
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.switcher import AdapterSwitcher
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.adapters.with_score_head import with_head
from kamerton.core.errors import TrainingError
from kamerton.core.protocols import Generation, Sample
from kamerton.data.examples import SourceLocation
from kamerton.data.rendering.tokenized import TokenizedExample, TokenizedPrompt
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.rows.row import make_rows
from kamerton.objectives.drpo import Drpo, DrpoSettings
from kamerton.objectives.objective import Experience, Reads, Takes, Unit, Written
from kamerton.objectives.online import OnlineSettings
from kamerton.objectives.ppo import Ppo, PpoSettings, PpoValue
from kamerton.objectives.preference_model import preference
from kamerton.objectives.rloo import Rloo, RlooSettings
from kamerton.training.rollouts import (
    AnsweredPrompt,
    Critic,
    RewardFunction,
    RolloutBatch,
    Rollouts,
    at_start,
)
from kamerton.training.scoring import read, scored_of
from tests.shapes import VOCABULARY, tiny_base, tiny_renderer

END = 2
RULE: Any = ({"kind": "check", "check": {"kind": "json"}},)
"""Never asked here: rewards are functions of the tests."""
LORA = LoraSettings(rank=4)


class Keeps:
    """An objective that keeps what was written, and finds nothing in it."""

    takes: Takes = "prompts"
    reads: Reads = "logprobs"
    unit: Unit = "token"
    needs_reference = False
    whole_batch = False

    def __init__(self, **settings: Any) -> None:
        self.settings = OnlineSettings(
            kind="keeps", rewards=RULE, **{"num_generations": 3, "max_tokens": 12, **settings}
        )
        self.written: list[Written] = []

    def learn_from(self, written: Sequence[Written]) -> list[Experience]:
        self.written = list(written)
        return [
            Experience(one.old_logprobs, one.reference, torch.zeros_like(one.old_logprobs))
            for one in written
        ]

    def loss(self, scored: Any, num_units: int) -> Any:
        raise NotImplementedError


def prompts(count: int = 3, num_given: int = 0) -> list[TokenizedPrompt]:
    """Prompts of different lengths, each with its own number in its messages."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        ids = random.integers(3, VOCABULARY, 4 + 3 * (number % 3)).astype(np.int32)
        given = []
        for _ in range(num_given):
            answer = np.append(random.integers(3, VOCABULARY, 4), END).astype(np.int32)
            row = np.concatenate([ids, answer])
            given.append(TokenizedExample(row, np.arange(len(row)) >= len(ids)))
        messages = ({"role": "user", "content": f"question {number}"},)
        texts = tuple(f"given {number}.{n}" for n in range(num_given))
        location = SourceLocation("data.jsonl", number)
        made.append(
            TokenizedPrompt(
                ids, messages, {"n": number}, location, f"right {number}", tuple(given), texts
            )
        )
    return made


def nothing(answered: Sequence[AnsweredPrompt]) -> Tensor:
    return torch.zeros(sum(len(one.texts) for one in answered), 1)


def changed(adapter: Adapter, scale: float = 0.2) -> Adapter:
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter += torch.randn(parameter.shape, generator=random) * scale
    return adapter


def rollouts_of(
    base: Base, adapter: Adapter, objective: Any, reward: RewardFunction = nothing, **more: Any
) -> Rollouts:
    engine = EmbeddedEngine(base, tiny_renderer(base))
    more = {"reference": adapter.disabled, **more}
    return Rollouts(base=base, engine=engine, objective=objective, reward=reward, **more)


@torch.no_grad()
def by_transformers(base: Base, row: TokenizedExample, num_prompt: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of a row's answer, and the hidden states that they come from."""
    ids = torch.from_numpy(row.ids).long()
    hidden = base.plain_hidden(ids, Layout.of_lengths([len(ids)]))[num_prompt - 1 : -1]
    logprobs = base.head.logits(hidden).log_softmax(-1)
    return logprobs.gather(1, ids[num_prompt:, None])[:, 0], hidden


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize(
    "settings", [LORA, PrefixSettings(num_virtual_tokens=3, init="random"), FullSettings()]
)
def test_what_is_remembered_is_what_training_sees(shape: str, settings: AdapterSettings) -> None:
    base = tiny_base(shape)
    adapter = changed(attach(base, settings, 1), 0.05)
    objective = Keeps()
    rollouts = rollouts_of(base, adapter, objective)
    found = rollouts.collect(prompts(5), 7)
    assert found.metrics["rollout_gap"] < 1e-4
    for number, (group, written) in enumerate(zip(found.groups, objective.written, strict=True)):
        assert group.num_prompt == prompts(5)[number].num_prompt
        told = torch.cat([by_transformers(base, row, group.num_prompt)[0] for row in group.answers])
        assert_close(written.old_logprobs, told)
        with adapter.disabled():
            rows = [by_transformers(base, row, group.num_prompt)[0] for row in group.answers]
        assert_close(written.reference, torch.cat(rows))
        assert (written.old_logprobs - written.reference).abs().max() > 1e-3
        counts = [len(row.ids) - group.num_prompt for row in group.answers]
        assert written.answers.tolist() == [
            n for n, count in enumerate(counts) for _ in range(count)
        ]
    # The ratio of the first update is exactly 1, with a gradient; a head that learns rounds.
    slack = 2e-6 if isinstance(settings, FullSettings) else 0.0
    rows = make_rows(found.groups, 60, base.device)
    assert len(rows) > 1
    for row in rows:
        logprobs = read(base, row, "logprobs")
        batch = scored_of(logprobs, row, found.groups, experiences=found.experiences)
        assert logprobs.requires_grad
        assert batch.experience is not None
        change = batch.logprobs.detach() - batch.experience.old_logprobs
        assert change.abs().max() <= slack


def test_the_gap_shows_an_engine_that_computes_otherwise() -> None:
    base, other = tiny_base("llama"), tiny_base("llama", seed=1)
    adapter = attach(base, LORA, 1)
    strange = EmbeddedEngine(other, tiny_renderer(other))
    rollouts = Rollouts(base, strange, Keeps(), nothing, adapter.disabled)
    assert rollouts.collect(prompts(), 7).metrics["rollout_gap"] > 0.01
    assert rollouts.measure(prompts())[1]["rollout_gap"] > 0.01


def test_answers_are_drawn_from_the_very_probabilities_that_are_learned() -> None:
    base = tiny_base("llama")
    asked: list[Generation] = []

    class Listening(EmbeddedEngine):
        def sample(self, prompts: Sequence[Sequence[int]], generation: Generation) -> list[Sample]:
            asked.append(generation)
            return super().sample(prompts, generation)

    engine = Listening(base, tiny_renderer(base))
    adapter = attach(base, LORA, 1)
    rollouts = Rollouts(base, engine, Keeps(max_tokens=9), nothing, adapter.disabled)
    rollouts.collect(prompts(), 7)
    rollouts.measure(prompts())
    for generation in asked:
        plain = Generation(max_tokens=9, temperature=1.0, seed=generation.seed)
        assert generation == plain
    assert len({generation.seed for generation in asked}) == 2


def test_each_answer_goes_to_its_judge_with_its_own_prompt() -> None:
    base = tiny_base("llama")
    seen: list[AnsweredPrompt] = []

    def number(answered: Sequence[AnsweredPrompt]) -> Tensor:
        seen.extend(answered)
        return torch.arange(float(sum(len(one.texts) for one in answered)))[:, None]

    objective = Keeps(missing_eos_penalty=0.0)
    asked = prompts(4, num_given=2)
    rollouts = rollouts_of(base, attach(base, LORA, 1), objective, number)
    found = rollouts.collect(asked, 7)
    rewards = torch.cat([one.rewards for one in objective.written])
    assert rewards.flatten().tolist() == list(range(4 * 5))
    for prompt, one, group in zip(asked, seen, found.groups, strict=True):
        assert (one.messages, one.extra) == (prompt.messages, prompt.extra)
        assert one.reference == prompt.reference
        assert one.texts[:2] == prompt.texts
        assert group.answers[:2] == prompt.given
        for row, text in zip(group.answers[2:], one.texts[2:], strict=True):
            assert row.ids[: prompt.num_prompt].tolist() == prompt.ids.tolist()
            words = [f"w{t}" for t in row.ids[prompt.num_prompt :] if t not in (0, END)]
            assert text.replace(" ", "") == "".join(words)
        assert len({tuple(row.ids) for row in group.answers[2:]}) == 3


@pytest.mark.parametrize("num_given", [0, 2])
def test_a_missing_end_costs_own_answers_only(num_given: int) -> None:
    base = tiny_base("llama")
    kept = torch.full((6 * (3 + num_given), 1), 0.5)
    objective = Keeps(missing_eos_penalty=0.75, max_tokens=40)
    rollouts = rollouts_of(base, attach(base, LORA, 1), objective, lambda answered: kept)
    asked = prompts(6, num_given)
    if num_given:
        # Not even a given answer without an end is punished.
        asked[0].given[0].ids[-1] = 5
    found = rollouts.collect(asked, 7)
    ends = []
    for group, written in zip(found.groups, objective.written, strict=True):
        ended = [row.ids[-1] == END for row in group.answers[num_given:]]
        expected = [0.5] * num_given + [0.5 if end else -0.25 for end in ended]
        assert written.rewards[:, 0].tolist() == expected
        ends += ended
    assert 0 < sum(ends) < len(ends)
    assert found.metrics["ended"] == pytest.approx(sum(ends) / len(ends))
    assert found.metrics["reward"] == pytest.approx(0.5 - 0.75 * (1 - sum(ends) / len(ends)))
    # A judge may keep its numbers: they are not written into.
    assert kept.unique().tolist() == [0.5]


def test_the_numbers_for_the_log() -> None:
    base = tiny_base("llama")
    objective = Keeps(missing_eos_penalty=0.0, max_tokens=30)

    def length(answered: Sequence[AnsweredPrompt]) -> Tensor:
        return torch.tensor([[float(len(text))] for one in answered for text in one.texts])

    adapter = changed(attach(base, LORA, 1))
    found = rollouts_of(base, adapter, objective, length).collect(prompts(4, num_given=1), 7)
    own = [row.ids[group.num_prompt :] for group in found.groups for row in group.answers[1:]]
    assert found.metrics["length"] == pytest.approx(sum(map(len, own)) / 12)
    rewards = [one.rewards[1:] for one in objective.written]
    assert found.metrics["reward"] == pytest.approx(float(torch.cat(rewards).mean()))
    distance = sum(
        float((one.old_logprobs - one.reference)[one.answers > 0].sum())
        for one in objective.written
    )
    assert found.metrics["kl"] == pytest.approx(distance / 12, rel=1e-4)
    assert abs(distance) > 0.1
    assert found.metrics["reward_spread"] == pytest.approx(
        float(torch.stack(rewards).std(1, correction=0).mean())
    )


def test_one_answer_alone_has_no_spread() -> None:
    base = tiny_base("llama")
    rollouts = rollouts_of(
        base, attach(base, LORA, 1), Keeps(num_generations=1, missing_eos_penalty=0)
    )
    assert "reward_spread" not in rollouts.collect(prompts(1), 7).metrics
    assert rollouts.collect(prompts(2), 7).metrics["reward_spread"] == 0


def test_under_a_general_model_the_reward_is_how_often_the_given_are_beaten() -> None:
    base = tiny_base("llama")
    torch.manual_seed(0)
    judged = torch.randn(3 * 5, 4)
    objective = Keeps(missing_eos_penalty=9.0)
    found = rollouts_of(base, attach(base, LORA, 1), objective, lambda a: judged.clone()).collect(
        prompts(3, num_given=2), 7
    )
    wins = [
        float(preference(numbers[own], numbers[given]))
        for numbers in judged.split(5)
        for own in (2, 3, 4)
        for given in (0, 1)
    ]
    assert found.metrics["reward"] == pytest.approx(sum(wins) / len(wins))
    # There is no scale that a penalty could be on.
    assert torch.equal(torch.cat([one.rewards for one in objective.written]), judged)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_number_stops_the_run(value: float) -> None:
    base = tiny_base("llama")

    def strange(answered: Sequence[AnsweredPrompt]) -> Tensor:
        rewards = nothing(answered)
        rewards[2] = value
        return rewards

    rollouts = rollouts_of(base, attach(base, LORA, 1), Keeps(), strange)
    with pytest.raises(TrainingError, match="reward of an answer is not a finite number"):
        rollouts.collect(prompts(), 7)
    with pytest.raises(TrainingError, match="reward of an answer is not a finite number"):
        rollouts.measure(prompts())


def by_text(answered: Sequence[AnsweredPrompt]) -> Tensor:
    return torch.tensor([[float("w7" in t) + len(t) / 99] for one in answered for t in one.texts])


def test_measuring_is_repeatable_and_touches_nothing() -> None:
    base = tiny_base("llama")
    adapter = changed(attach(base, LoraSettings(rank=4, dropout=0.5), 1))
    objective = Keeps(beta=0.3, missing_eos_penalty=0.0)
    rollouts = rollouts_of(base, adapter, objective, by_text, reference=at_start(adapter))
    changed(adapter, 0.3)
    values = {name: p.detach().clone() for name, p in adapter.parameters().items()}
    modes = [(m.training, getattr(m, "enabled", None)) for m in base.model.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    loss, metrics = rollouts.measure(prompts(4))
    collected = [rollouts.collect(prompts(4), seed) for seed in (1, 1, 2)]
    assert rollouts.measure(prompts(4)) == (loss, metrics)
    assert torch.equal(torch.get_rng_state(), state)
    assert [(m.training, getattr(m, "enabled", None)) for m in base.model.modules()] == modes
    assert all(torch.equal(p, values[name]) for name, p in adapter.parameters().items())
    assert all(p.grad is None and p.requires_grad for p in adapter.parameters().values())
    assert loss == pytest.approx(0.3 * metrics["kl"] - metrics["reward"])
    assert metrics["kl"] != 0
    assert objective.written[0].old_logprobs.requires_grad is False

    def ids(one: RolloutBatch) -> list[list[int]]:
        return [row.ids.tolist() for group in one.groups for row in group.answers]

    assert ids(collected[0]) == ids(collected[1]) != ids(collected[2])
    assert collected[0].metrics == collected[1].metrics
    # One answer each is enough to measure.
    assert len(ids(collected[0])) == 12
    assert metrics["ended"] * 4 == int(metrics["ended"] * 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "settings", [LORA, FullSettings(), PrefixSettings(num_virtual_tokens=3, init="random")]
)
def test_the_start_is_back_bit_for_bit_and_leaves_again(
    settings: AdapterSettings, dtype: torch.dtype
) -> None:
    base = tiny_base("llama", dtype=dtype)
    adapter = changed(attach(base, settings, 1), 0.05)
    parameters = dict(adapter.parameters())

    @torch.no_grad()
    def state() -> list[Tensor]:
        hidden = base.hidden(torch.arange(3, 20), Layout.of_lengths([17]))
        return [
            hidden,
            base.head.logits(hidden),
            *(p.detach().clone() for p in parameters.values()),
        ]

    def same(one: list[Tensor], other: list[Tensor]) -> bool:
        return all(map(torch.equal, one, other))

    start = state()
    context = at_start(adapter)
    changed(adapter, 0.05)
    now = state()
    assert not any(map(torch.equal, start, now))
    for _ in range(2):
        with context():
            assert same(state(), start)
            with context():
                assert same(state(), start)
            assert same(state(), start)
        assert same(state(), now)
    with pytest.raises(RuntimeError, match="out of memory"), context():
        raise RuntimeError("out of memory")
    assert same(state(), now)
    # The optimiser holds these very tensors.
    assert all(adapter.parameters()[name] is p for name, p in parameters.items())


def test_at_the_start_there_is_no_distance() -> None:
    base = tiny_base("llama")
    adapter = changed(attach(base, LORA, 1))
    rollouts = rollouts_of(base, adapter, Keeps(), reference=at_start(adapter))
    found = rollouts.collect(prompts(), 7)
    assert found.metrics["kl"] == 0
    assert all(torch.equal(one.old_logprobs, one.reference) for one in found.experiences)


def with_critic(base: Base, settings: PpoSettings) -> tuple[Rollouts, Adapter]:
    policy = changed(attach(base, LoraSettings(rank=2), 1))
    residents = AdapterSwitcher(policy)
    value = residents.admit(
        lambda: changed(with_head(base, attach(base, LoraSettings(rank=2), 2), 1, 2))
    )
    critic = Critic(PpoValue(settings), partial(residents.using, value))
    context = at_start(policy)
    return rollouts_of(base, policy, Ppo(settings), reference=context, critic=critic), value


def test_a_critic_values_every_token_before_it_is_said() -> None:
    base = tiny_base("llama")
    settings = PpoSettings(rewards=RULE, num_generations=2, max_tokens=10)
    rollouts, value = with_critic(base, settings)
    found = rollouts.collect(prompts(4), 7)
    assert base.score_head is None
    assert rollouts.critic is not None
    for group, experience in zip(found.groups, found.experiences, strict=True):
        assert experience.values is not None
        assert experience.returns is not None
        count = sum(len(row.ids) - group.num_prompt for row in group.answers)
        assert experience.values.shape == experience.returns.shape == (count,)
        assert experience.advantages.shape == experience.old_logprobs.shape == (count,)
        with rollouts.critic.on(), torch.no_grad():
            assert base.score_head is not None
            hidden = [by_transformers(base, row, group.num_prompt)[1] for row in group.answers]
            expected = base.score_head.scores(torch.cat(hidden))[:, 0]
        torch.testing.assert_close(experience.values, expected, atol=3e-4, rtol=1e-4)
        # What the policy remembers is its own, not the critic's.
        told = [by_transformers(base, row, group.num_prompt)[0] for row in group.answers]
        assert_close(experience.old_logprobs, torch.cat(told))
    assert all(p.grad is None for p in value.parameters().values())


def live_bytes() -> int:
    """Memory of all tensors that somebody holds."""
    gc.collect()
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in (one for one in gc.get_objects() if type(one) in (Tensor, torch.nn.Parameter))
    }
    return sum(storages.values())


def test_the_weights_exist_once() -> None:
    base = tiny_base("llama")
    places = {name: p.data_ptr() for name, p in base.model.named_parameters()}
    size = sum(p.numel() * p.element_size() for p in base.model.parameters())
    before = live_bytes()
    settings = PpoSettings(rewards=RULE, num_generations=2, max_tokens=10)
    rollouts, _ = with_critic(base, settings)
    rollouts.collect(prompts(4), 7)
    assert rollouts.critic is not None
    grown = [live_bytes() - before]
    for context in (rollouts.reference, rollouts.critic.on):
        with context():
            grown.append(live_bytes() - before)
    assert before >= size
    assert max(grown) < 0.4 * size
    weights = {
        name.replace(".layer.", "."): p.data_ptr()
        for name, p in base.model.named_parameters()
        if not name.endswith((".a", ".b"))
    }
    assert weights == places


@pytest.mark.parametrize("num_given", [0, 2])
def test_a_prompt_may_become_so_many_tokens(num_given: int) -> None:
    base = tiny_base("llama")
    rollouts = rollouts_of(base, attach(base, LORA, 1), Keeps(num_generations=4, max_tokens=9))
    (prompt,) = prompts(1, num_given)
    assert rollouts.num_tokens(prompt) == 4 + 5 * num_given + 4 * 9


@pytest.mark.parametrize(
    "objective",
    [
        Rloo(RlooSettings(rewards=RULE, num_generations=3, max_tokens=8, missing_eos_penalty=0)),
        Drpo(DrpoSettings(rewards=RULE, num_generations=3, max_tokens=8, missing_eos_penalty=0)),
    ],
)
def test_a_better_answer_is_learned_from(objective: Any) -> None:
    """Advantages stand at the tokens of the answers that earned them."""
    base = tiny_base("llama")
    num_given = 2 if isinstance(objective, Drpo) else 0

    def second_best(answered: Sequence[AnsweredPrompt]) -> Tensor:
        return torch.tensor(
            [[float(n == num_given + 1)] for one in answered for n in range(len(one.texts))]
        )

    found = rollouts_of(base, attach(base, LORA, 1), objective, second_best).collect(
        prompts(3, num_given), 7
    )
    for group, experience in zip(found.groups, found.experiences, strict=True):
        counts = [len(row.ids) - group.num_prompt for row in group.answers]
        own = experience.advantages.split(counts)[num_given:]
        assert [bool((part > 0).all()) for part in own] == [False, True, False]
        assert all(part.unique().numel() == 1 for part in own)
