"""Several adapters over one base: one is on at any time, and the base stays as it was."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
import torch
from torch import Tensor

from kamerton.adapters.adapter import Adapter, rate_groups
from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings
from kamerton.adapters.catalogue import AdapterSettings, attach
from kamerton.adapters.full import FullSettings
from kamerton.adapters.ia3 import Ia3Settings
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.switcher import ActorCritic, AdapterSwitcher
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.adapters.virtual.prompt import PromptTuningSettings
from kamerton.adapters.with_score_head import with_head
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from tests.shapes import tiny_base

IDS = torch.tensor([5, 9, 13, 80, 3, 44])
KINDS: dict[str, AdapterSettings] = {
    "lora": LoraSettings(rank=4),
    "dora": LoraSettings(rank=2, dora=True, targets=("q_proj", "down_proj")),
    "ends": LoraSettings(rank=3, targets=("embeddings", "head", "all-linear")),
    "rows": LoraSettings(rank=3, new_tokens=("w7", "w44")),
    "prefix": PrefixSettings(num_virtual_tokens=3, init="random"),
    "prompt": PromptTuningSettings(num_virtual_tokens=2, init="vocabulary"),
    "bottleneck": BottleneckSettings(reduction=8),
    "ia3": Ia3Settings(),
    "full": FullSettings(),
}
PAIRS = (
    ("lora", "lora"),
    ("lora", "lora+head"),
    ("lora+head", "lora+head"),
    ("lora", "prefix"),
    ("lora", "full+head"),
    ("dora", "ends"),
    ("ends", "lora+head"),
    ("rows", "lora+head"),
    ("full", "lora+head"),
    ("full", "full"),
    ("full", "prefix"),
    ("prefix", "prompt"),
    ("prefix", "lora+head"),
    ("bottleneck", "ia3+head"),
    ("ia3", "bottleneck"),
)
"""Who is at home, and who comes along."""


def make(base: Base, kind: str, seed: int) -> Adapter:
    """Attach an adapter that changes a lot."""
    name, _, head = kind.partition("+")
    adapter = attach(base, KINDS[name], seed)
    if head:
        adapter = with_head(base, adapter, 2, seed)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter += torch.randn(parameter.shape, generator=random) * 0.1
    return adapter


@torch.no_grad()
def answers(base: Base) -> list[Tensor]:
    """Hidden states and logits; what a score head says, where there is one."""
    hidden = base.hidden(IDS, Layout.of_lengths([4, 2]))
    scores = [] if base.score_head is None else [base.score_head.scores(hidden)]
    return [hidden, base.head.logits(hidden), *scores]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def alone(kind: str, seed: int, shape: str = "llama", quantise: str = "none") -> list[Tensor]:
    base = tiny_base(shape, quantise=quantise)
    if kind:
        make(base, kind, seed)
    return answers(base)


def content(base: Base) -> dict[str, tuple[int, str]]:
    """Where every tensor of a model is, and its bytes."""
    tensors = [*base.model.named_parameters(), *base.model.named_buffers()]
    return {
        name: (
            tensor.data_ptr(),
            sha256(tensor.detach().flatten().view(torch.uint8).numpy().tobytes()).hexdigest(),
        )
        for name, tensor in tensors
        if tensor.numel()
    }


def housed(base: Base, home: str, *others: str) -> tuple[AdapterSwitcher, Adapter, list[Adapter]]:
    policy = make(base, home, 1)
    residents = AdapterSwitcher(policy)
    return (
        residents,
        policy,
        [
            residents.admit(lambda kind=kind, seed=seed: make(base, kind, seed))
            for seed, kind in enumerate(others, 2)
        ],
    )


@pytest.mark.parametrize(("home", "other"), PAIRS)
def test_exactly_one_is_on_and_the_base_stays_as_it_was(home: str, other: str) -> None:
    base = tiny_base("llama")
    before = content(base)
    residents, policy, (guest,) = housed(base, home, other)
    at_home, away, bare = alone(home, 1), alone(other, 2), alone("", 0)
    assert not same(at_home, bare)
    assert not same(away, bare)
    for _ in range(2):
        assert same(answers(base), at_home)
        with residents.using(guest):
            assert same(answers(base), away)
        assert same(answers(base), at_home)
        with residents.bare():
            assert same(answers(base), bare)
    assert same(answers(base), at_home)
    policy.detach()
    assert same(answers(base), bare)
    assert content(base) == before


@pytest.mark.parametrize(
    ("shape", "quantise"), [("gpt2", "none"), ("gemma3", "none"), ("llama", "nf4")]
)
def test_so_over_other_bases(shape: str, quantise: str) -> None:
    base = tiny_base(shape, quantise=quantise)
    before = content(base)
    residents, policy, (guest,) = housed(base, "lora", "lora+head")
    with residents.using(guest):
        assert same(answers(base), alone("lora+head", 2, shape, quantise))
    assert same(answers(base), alone("lora", 1, shape, quantise))
    with residents.bare():
        assert same(answers(base), alone("", 0, shape, quantise))
    policy.detach()
    assert content(base) == before


def test_several_guests_come_one_after_another() -> None:
    base = tiny_base("llama")
    kinds = ("lora+head", "prefix", "full", "lora")
    residents, _, guests = housed(base, "lora", *kinds)
    for seed, (guest, kind) in enumerate(zip(guests, kinds, strict=True), 2):
        with residents.using(guest):
            assert same(answers(base), alone(kind, seed))
        assert same(answers(base), alone("lora", 1))


@pytest.mark.parametrize(("home", "other"), [("lora", "lora+head"), ("full", "prefix")])
def test_whoever_was_on_comes_back_whatever_happens(home: str, other: str) -> None:
    base = tiny_base("llama")
    residents, _, (guest,) = housed(base, home, other)
    for visit in (lambda: residents.using(guest), residents.bare):
        with pytest.raises(RuntimeError, match="out of memory"), visit():
            raise RuntimeError("out of memory")
        assert same(answers(base), alone(home, 1))
        with residents.using(guest):
            assert same(answers(base), alone(other, 2))


@pytest.mark.parametrize("home", ["lora", "full", "prefix"])
def test_visits_may_stand_inside_each_other(home: str) -> None:
    base = tiny_base("llama")
    residents, _, (first, second) = housed(base, home, "lora+head", "prefix")
    with residents.using(first):
        with residents.using(second):
            assert same(answers(base), alone("prefix", 3))
        assert same(answers(base), alone("lora+head", 2))
        with residents.bare():
            assert same(answers(base), alone("", 0))
        assert same(answers(base), alone("lora+head", 2))
        with pytest.raises(AssertionError, match="only come when it is away"):
            residents.using(first).__enter__()
    assert same(answers(base), alone(home, 1))


def test_who_cannot_be_made_leaves_the_home_on() -> None:
    base = tiny_base("llama")
    residents = AdapterSwitcher(make(base, "lora", 1))

    def fail() -> Adapter:
        assert same(answers(base), alone("", 0))
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        residents.admit(fail)
    assert same(answers(base), alone("lora", 1))


def test_a_guest_is_trained_where_it_is() -> None:
    """What learns while it is on is there when it is on again, and nothing else moves."""
    base = tiny_base("llama")
    residents, policy, (guest,) = housed(base, "lora", "lora+head")
    with residents.using(guest):
        before = answers(base)
        with torch.no_grad():
            guest.parameters()["score_head.weight"].add_(1)
    assert same(answers(base), alone("lora", 1))
    with residents.using(guest):
        after = answers(base)
        assert same(after[:2], before[:2])
        assert not torch.equal(after[2], before[2])
    assert not policy.parameters().keys() & {"score_head.weight"}


class TestActorCritic:
    @pytest.fixture
    def base(self) -> Base:
        return tiny_base("llama")

    @staticmethod
    def of(
        base: Base, actor: AdapterSettings, critic: LoraSettings
    ) -> tuple[AdapterSwitcher, Adapter, Adapter, ActorCritic]:
        policy = attach(base, actor, 1)
        residents = AdapterSwitcher(policy)
        value = residents.admit(lambda: with_head(base, attach(base, critic, 2), 1, 2))
        return residents, policy, value, ActorCritic(policy, value)

    @pytest.mark.parametrize("actor", [LoraSettings(rank=4), FullSettings()])
    def test_both_learn_and_each_from_its_own_loss(
        self, base: Base, actor: AdapterSettings
    ) -> None:
        residents, policy, value, both = self.of(base, actor, LoraSettings(rank=3))
        with torch.no_grad():
            for parameter in both.parameters().values():
                parameter += 0.01
        parameters = both.parameters()
        own, others = policy.parameters(), value.parameters()
        assert len(parameters) == len(own) + len(others)
        assert all(parameters[name] is tensor for name, tensor in own.items())
        assert all(parameters[f"critic.{name}"] is tensor for name, tensor in others.items())

        def loss() -> Tensor:
            hidden = base.hidden(IDS, Layout.of_lengths([len(IDS)]))
            head = base.score_head
            return (
                (base.head.logits(hidden) if head is None else head.scores(hidden)).square().sum()
            )

        loss().backward()
        assert all(tensor.grad is not None for tensor in own.values())
        assert all(tensor.grad is None for tensor in others.values())
        before = {name: tensor.detach().clone() for name, tensor in parameters.items()}
        grads = {
            name: tensor.grad.clone() for name, tensor in own.items() if tensor.grad is not None
        }
        with residents.using(value):
            loss().backward()
        assert all(tensor.grad is not None for tensor in others.values())
        assert all(torch.equal(tensor.grad, grads[name]) for name, tensor in own.items())
        groups = [{"params": tensors, "lr": 1e-3 * f} for f, tensors in rate_groups(both)]
        torch.optim.AdamW(groups).step()
        moved = [
            name for name, tensor in parameters.items() if not torch.equal(tensor, before[name])
        ]
        assert moved == list(parameters)

    def test_rates_are_those_of_each(self, base: Base) -> None:
        actor, critic = (
            LoraSettings(rank=4, lora_plus_ratio=4.0),
            LoraSettings(rank=3, lora_plus_ratio=8.0),
        )
        _, policy, value, both = self.of(base, actor, critic)
        rates = {name: both.rate_factor(name) for name in both.parameters()}
        assert {rates[name] for name in policy.parameters() if "lora_B" in name} == {4.0}
        assert {rates[f"critic.{n}"] for n in value.parameters() if "lora_B" in n} == {8.0}
        plain = {rate for name, rate in rates.items() if "lora_B" not in name}
        assert plain == {1.0}
        *_, whole = self.of(tiny_base("llama"), FullSettings(), critic)
        assert {whole.rate_factor(name) for name in policy.parameters()} == {1.0}

    def test_files_are_the_policys_only(self, base: Base) -> None:
        residents, policy, value, both = self.of(base, LoraSettings(rank=4), LoraSettings(rank=3))
        assert both.files() == policy.files()
        assert both.capabilities is policy.capabilities
        with residents.using(value):
            assert both.files() == policy.files()

    def test_dropout_is_switched_for_both(self, base: Base) -> None:
        settings = LoraSettings(rank=4, dropout=0.5)
        residents, *_, value, both = self.of(base, settings, settings)
        with torch.no_grad():
            for parameter in both.parameters().values():
                parameter += 0.1
        for training in (True, False):
            both.train(training)
            assert same(answers(base), answers(base)) == (not training)
            with residents.using(value):
                assert same(answers(base), answers(base)) == (not training)

    def test_off_it_is_the_base(self, base: Base) -> None:
        bare = answers(base)
        *_, both = self.of(base, LoraSettings(rank=4), LoraSettings(rank=3))
        with torch.no_grad():
            for parameter in both.parameters().values():
                parameter += 0.1
        adapted = answers(base)
        with both.disabled():
            assert same(answers(base), bare)
        assert same(answers(base), adapted)
        both.merge()
        with both.as_plain_model():
            torch.testing.assert_close(answers(base)[1], adapted[1], atol=1e-4, rtol=1e-4)
        both.detach()
        assert same(answers(base), bare)
