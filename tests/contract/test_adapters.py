"""One suite that every adapter method passes; the methods come from the catalogue."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load as load_tensor_file
from safetensors.torch import save
from torch import Tensor

from kamerton.adapters import catalogue
from kamerton.adapters.adapter import Adapter
from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.bottleneck.bottleneck import (
    Bottleneck,
    BottleneckSettings,
    attach_bottleneck,
)
from kamerton.adapters.bottleneck.fusion import FusionSettings
from kamerton.adapters.catalogue import attach, load
from kamerton.adapters.combine import CombineSettings, How
from kamerton.adapters.full import FullSettings
from kamerton.adapters.lora.lora import Lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.core.errors import AdapterError
from kamerton.flows.recipe import Recipe
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.heads import token_logprobs
from tests.shapes import VOCABULARY, tiny_base

KINDS: list[type] = [method.settings for method in catalogue.METHODS]
FORMS: dict[type, tuple[dict[str, Any], ...]] = {
    LoraSettings: (
        {"dora": True},
        {"init": "pissa"},
        {"targets": ("all-linear", "embeddings", "head")},
        {"new_tokens": ("w5", "w60")},
    ),
    FullSettings: ({"parts": ("last-1",)}, {"parts": ("norms-and-biases", "head")}),
    BottleneckSettings: (
        {"placement": "houlsby", "activation": "silu"},
        # Kinks, and the default scale of 4, would ask for smaller steps than fp32 can show.
        {"placement": "parallel", "activation": "gelu", "scale": 1.0},
    ),
    PrefixSettings: ({"network": 24}, {"init": "random"}),
}
"""Forms of a method that compute something else than its defaults."""
METHODS: list[partial] = [
    partial(kind, **form) for kind in KINDS for form in ({}, *FORMS.get(kind, ()))
]
RECIPE = {"name": "x", "data": {"train": "x"}}
LAYOUT = Layout.of_lengths([11, 3, 20, 11])
OPENING = range(5, 16)
"""What training texts begin with, as ids."""
SHAPES = ("llama", "qwen3", "gemma3", "gpt2")

pytestmark = pytest.mark.parametrize(
    "method", METHODS, ids=lambda m: "-".join([m().kind, *m.keywords])
)


def ids() -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.randint(3, VOCABULARY, (LAYOUT.num_tokens,), generator=generator)


def loss_of(base: Base) -> Tensor:
    """Mean negative log-likelihood of every token that has one before it in its segment."""
    starts = {segment.start for segment in LAYOUT.segments}
    at = torch.tensor([t - 1 for t in range(LAYOUT.num_tokens) if t not in starts])
    hidden = base.hidden(ids(), LAYOUT)
    return -token_logprobs(hidden[at], ids()[at + 1], base.head).mean()


@torch.no_grad()
def logits(base: Base) -> Tensor:
    return base.head.logits(base.hidden(ids(), LAYOUT))


def snapshot(base: Base) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in base.model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@dataclass(frozen=True)
class Attached:
    """A method on a fresh base, what the base said before, and its state."""

    base: Base
    adapter: Adapter
    start: Tensor
    state: dict[str, Tensor]


def base_of(shape: str, dtype: torch.dtype = torch.float32) -> Base:
    """Make a base; "llama:nf4" holds its linear layers in 4 bits."""
    name, _, quantise = shape.partition(":")
    return tiny_base(name, dtype=dtype, quantise=quantise or "none")


def attach_to(base: Base, settings: Any) -> Adapter:
    """Attach a method; one that is made of others gets two bottlenecks."""
    members = filled_bottlenecks(base) if isinstance(settings, FusionSettings) else ()
    return attach(base, settings, seed=3, opening=OPENING, members=members)


def filled_bottlenecks(base: Base) -> list[dict[str, bytes]]:
    """Files of two bottlenecks that do something; the base is left as it was."""
    # Large beside the states that they change, so that the gates matter; Gemma norms its states.
    size = {"Gemma3ForCausalLM": 0.3, "GPT2LMHeadModel": 2.0}.get(base.identity.architecture, 3.0)
    made = []
    for number, reduction in enumerate((16.0, 8.0)):
        settings = BottleneckSettings(reduction=reduction, activation="gelu")
        adapter = attach_bottleneck(base, settings, seed=number)
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in adapter.parameters().values():
                if parameter.ndim > 1:
                    parameter += size * torch.randn(parameter.shape, generator=generator)
        made.append(adapter.files())
        adapter.detach()
    return made


def attached(method: partial, shape: str = "llama") -> Attached:
    base = base_of(shape)
    start, state = logits(base), snapshot(base)
    return Attached(base, attach_to(base, method()), start, state)


def trained(method: partial, shape: str = "llama", steps: int = 2) -> Attached:
    """The same after a few steps of plain gradient descent."""
    made = attached(method, shape)
    parameters = list(made.adapter.parameters().values())
    for _ in range(steps):
        grads = torch.autograd.grad(loss_of(made.base), parameters)
        with torch.no_grad():
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter -= 0.5 * grad
    assert not torch.equal(logits(made.base), made.start)
    return made


@pytest.mark.parametrize("shape", SHAPES)
def test_it_starts_as_its_capabilities_say(method: partial, shape: str) -> None:
    made = attached(method, shape)
    promised = made.adapter.capabilities.identity_at_start
    # Without the promise it may be the same: rows for new tokens only change how a machine rounds.
    assert torch.equal(logits(made.base), made.start) or not promised


@pytest.mark.parametrize("shape", SHAPES)
def test_only_its_own_tensors_learn(method: partial, shape: str) -> None:
    made = attached(method, shape)
    own = {id(parameter) for parameter in made.adapter.parameters().values()}
    assert own
    assert all(p.dtype == torch.float32 for p in made.adapter.parameters().values())
    learning = {id(p) for p in made.base.model.parameters() if p.requires_grad}
    assert learning <= own
    assert all(p.requires_grad for p in made.adapter.parameters().values())
    before = {name: p.detach().clone() for name, p in made.base.model.named_parameters()}
    loss_of(made.base).backward()
    optimiser = torch.optim.AdamW(made.adapter.parameters().values(), lr=1e-2)
    optimiser.step()
    for name, parameter in made.base.model.named_parameters():
        if id(parameter) not in own:
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_lowers_the_loss(method: partial, shape: str) -> None:
    made = attached(method, shape)
    optimiser = torch.optim.SGD(made.adapter.parameters().values(), lr=1e-2)
    before = loss_of(made.base)
    before.backward()
    optimiser.step()
    with torch.no_grad():
        assert loss_of(made.base) < before


def test_it_trains_the_base_only_if_it_says_so(method: partial) -> None:
    base = base_of("llama")
    # A trained weight of the base is called as the base calls it.
    names = {name for name, _ in base.model.named_parameters()}
    adapter = attach_to(base, method())
    assert (adapter.parameters().keys() <= names) == adapter.capabilities.trains_base


def test_it_is_in_the_formats_that_it_names(method: partial) -> None:
    adapter = attached(method).adapter
    files, formats = adapter.files(), adapter.capabilities.formats
    assert (b'"peft_type"' in files.get("adapter_config.json", b"")) == ("peft" in formats)
    assert ("gguf-lora" in formats) == isinstance(adapter, Lora)
    assert ("adapterhub" in formats) == isinstance(adapter, Bottleneck)


def test_it_is_combined_in_the_ways_that_it_names(method: partial) -> None:
    made, kind = trained(method), method().kind
    files = dict(made.adapter.files())
    made.adapter.detach()
    ways = catalogue.ways_to_combine(kind)
    for how in get_args(How):
        settings = CombineSettings(how=how)
        if how not in ways:
            with pytest.raises(AdapterError, match="combined"):
                catalogue.combine(kind, [files, files], settings)
        # Some forms have starts or tensors of their own that do not add up.
        elif not method.keywords:
            combined = catalogue.combine(kind, [files, files], settings)
            adapter = load(made.base, kind, combined.files)
            assert logits(made.base).isfinite().all()
            assert not torch.equal(logits(made.base), made.start)
            adapter.detach()


def test_the_same_seed_gives_the_same_values(method: partial) -> None:
    one, two = (dict(attached(method).adapter.parameters()) for _ in range(2))
    assert same(one, two)


@pytest.mark.parametrize("shape", SHAPES)
def test_save_detach_load_round_trip(method: partial, shape: str) -> None:
    made = trained(method, shape)
    adapted, files = logits(made.base), dict(made.adapter.files())
    kept = {name: p.detach().clone() for name, p in made.adapter.parameters().items()}
    made.adapter.detach()
    assert same(snapshot(made.base), made.state)
    assert torch.equal(logits(made.base), made.start)
    assert not any(p.requires_grad for p in made.base.model.parameters())
    again = load(made.base, method().kind, files)
    assert same(dict(again.parameters()), kept)
    assert dict(again.files()) == files
    assert torch.equal(logits(made.base), adapted)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_shares_a_row_with_the_base(method: partial, shape: str) -> None:
    made = trained(method, shape)
    adapted, files = logits(made.base), dict(made.adapter.files())
    made.adapter.detach()
    adapters = AdapterSet(made.base)

    def load_again() -> Adapter:
        return load(made.base, method().kind, files)

    if made.adapter.capabilities.trains_base:
        with pytest.raises(AdapterError, match="cannot share a row"):
            adapters.add(load_again)
        assert torch.equal(logits(made.base), made.start)
        return
    number = adapters.add(load_again)
    torch.testing.assert_close(logits(made.base), made.start, rtol=0, atol=0)
    mixed = mixed_logits(made.base, number)
    for mine, segment in enumerate(LAYOUT.segments):
        at = slice(segment.start, segment.stop)
        wanted = made.start if mine % 2 else adapted
        torch.testing.assert_close(mixed[at], wanted[at], rtol=1e-4, atol=1e-4)
    adapters.remove(number)
    assert same(snapshot(made.base), made.state)


@torch.no_grad()
def mixed_logits(base: Base, number: int) -> Tensor:
    """Every second segment is the base's, the others are an adapter's."""
    of_segments = [-1 if index % 2 else number for index in range(len(LAYOUT.segments))]
    segments = [
        replace(segment, adapter=adapter)
        for segment, adapter in zip(LAYOUT.segments, of_segments, strict=True)
    ]
    hidden = base.hidden(ids(), Layout(tuple(segments)))
    found = torch.empty(len(hidden), VOCABULARY)
    owners = [segment.adapter for segment in segments for _ in range(segment.length)]
    for head, places in base.heads_of(owners):
        found[places] = head.logits(hidden[places])
    return found


def test_disabled_answers_as_the_base(method: partial) -> None:
    made = trained(method)
    adapted = logits(made.base)
    with made.adapter.disabled():
        assert torch.equal(logits(made.base), made.start)
    assert torch.equal(logits(made.base), adapted)
    with pytest.raises(ZeroDivisionError), made.adapter.disabled():
        raise ZeroDivisionError
    assert torch.equal(logits(made.base), adapted)


@pytest.mark.parametrize("shape", SHAPES)
def test_merged_equals_unmerged(method: partial, shape: str) -> None:
    made = trained(method, shape)
    adapted = logits(made.base)
    if not made.adapter.capabilities.mergeable:
        with pytest.raises(AdapterError, match="cannot be (merged|folded)"):
            made.adapter.merge()
        assert torch.equal(logits(made.base), adapted)
        return
    if made.base.identity.quantise != "none":
        with pytest.raises(AdapterError, match="never merged into a quantised base"):
            made.adapter.merge()
        assert torch.equal(logits(made.base), adapted)
        return
    made.adapter.merge()
    torch.testing.assert_close(logits(made.base), adapted, rtol=1e-4, atol=1e-4)
    with made.adapter.as_plain_model():
        assert made.base.model.state_dict().keys() == made.state.keys()
        torch.testing.assert_close(logits(made.base), adapted, rtol=1e-4, atol=1e-4)
    made.adapter.detach()
    assert same(snapshot(made.base), made.state)


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_rows_equal_padded_rows(method: partial, shape: str) -> None:
    made = trained(method, shape)
    parameters = list(made.adapter.parameters().values())
    packed = loss_of(made.base)
    made.base.ragged = False
    padded = loss_of(made.base)
    assert float(packed.detach()) == pytest.approx(float(padded.detach()), rel=1e-5)
    for a, b in zip(
        torch.autograd.grad(packed, parameters), torch.autograd.grad(padded, parameters),
        strict=True,
    ):  # fmt: skip
        scale = b.abs().max().clamp_min(1e-6)
        torch.testing.assert_close(a / scale, b / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_finite_differences(method: partial, shape: str) -> None:
    """Every large tensor along its own gradient, all together along random halves of theirs."""
    made = trained(method, shape)
    if not made.adapter.capabilities.exact_gradient:
        return
    # In fp32: norms, the head and the packed rows' backward pass compute in it whatever the base
    # is in, so fp64 weights would gain nothing.
    parameters = list(made.adapter.parameters().values())
    grads = torch.autograd.grad(loss_of(made.base), parameters)
    torch.manual_seed(8)
    directions = [[g * torch.randint_like(g, 2) for g in grads] for _ in range(3)]
    norms = torch.stack([g.norm() for g in grads])
    # A tensor with hardly any gradient would have to be moved too far to see it in fp32.
    for number in (norms > 0.05 * norms.norm()).nonzero().flatten().tolist():
        directions.append([g if at == number else g * 0 for at, g in enumerate(grads)])
    assert len(directions) > 3
    for direction in directions:
        length = float(torch.stack([d.norm() for d in direction]).norm())
        pairs = zip(grads, direction, strict=True)
        slope = float(torch.stack([(g * d).sum() for g, d in pairs]).sum()) / length
        assert slope > 0
        # The loss changes by 2e-3, a thousand times its rounding, unless that would be so far that
        # the gates of a fusion bend on the way.
        step = min(1e-3 / slope, 0.15)
        coarse, fine = (
            moved_loss(made.base, parameters, direction, by / length)
            - moved_loss(made.base, parameters, direction, -by / length)
            for by in (step, step / 2)
        )
        # Richardson: from two steps, without their common error of third order.
        assert (8 * fine - coarse) / 3 == pytest.approx(2 * step * slope, rel=0.02)


@torch.no_grad()
def moved_loss(base: Base, parameters: list, direction: list[Tensor], by: float) -> float:
    """The loss with the parameters moved along a direction and back."""
    kept = [parameter.clone() for parameter in parameters]
    for parameter, change in zip(parameters, direction, strict=True):
        parameter.add_(change, alpha=by)
    loss = float(loss_of(base))
    for parameter, value in zip(parameters, kept, strict=True):
        parameter.copy_(value)
    return loss


def gradient(base: Base, adapter: Adapter) -> Tensor:
    """The whole gradient as one vector, in the order of the names."""
    named = dict(sorted(adapter.parameters().items()))
    grads = torch.autograd.grad(loss_of(base), list(named.values()))
    return torch.cat([grad.flatten() for grad in grads])


@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_agrees_with_fp32(method: partial, shape: str) -> None:
    """The same adapter on the same base in fewer bits: its answers, its gradient, its way back."""
    made = trained(method, shape)
    base = base_of(shape, dtype=torch.bfloat16)
    start, state = logits(base), snapshot(base)
    fresh = attach_to(base, method())
    # Rounding to bf16 may hide what begins as almost nothing.
    assert torch.equal(logits(base), start) or not fresh.capabilities.identity_at_start
    fresh.detach()
    adapter = load(base, method().kind, made.adapter.files())
    assert all(p.dtype == torch.float32 for p in adapter.parameters().values())
    moved = (logits(made.base) - made.start).norm()
    slack = 0.02 * made.start.norm()
    if base.identity.quantise != "none":
        # Of a weight between two levels, rounding to bf16 first may change which one is nearer.
        slack = 1.5 * (start - made.start).norm()
        assert slack < 0.15 * made.start.norm()
    assert (logits(base) - logits(made.base)).norm() < 0.1 * moved + slack
    ours, theirs = gradient(base, adapter), gradient(made.base, made.adapter)
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.99
    adapter.detach()
    assert same(snapshot(base), state)


def first_tensor_file(files: dict[str, bytes]) -> str:
    return next(name for name in sorted(files) if name.endswith(".safetensors"))


def change_tensors(files: dict[str, bytes], change: Callable[[dict[str, Tensor]], object]) -> dict:
    name = first_tensor_file(files)
    tensors = load_tensor_file(files[name])
    change(tensors)
    return {**files, name: save(tensors)}


def damages(files: dict[str, bytes]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Ways in which stored files can be wrong."""

    def cut(tensors: dict[str, Tensor]) -> None:
        name = max(tensors, key=lambda n: tensors[n].ndim)
        tensors[name] = tensors[name][..., :-1].contiguous()

    for name, content in files.items():
        yield f"no {name}", {n: c for n, c in files.items() if n != name}
        yield f"half of {name}", {**files, name: content[: len(content) // 2]}
        yield f"empty {name}", {**files, name: b""}
        if name.endswith(".json"):
            for text in (b"[]", b"1", b"{}", b"\xff\xfe"):
                yield f"{text!r} as {name}", {**files, name: text}
    yield "wrong shape", change_tensors(files, cut)
    yield "a tensor missing", change_tensors(files, lambda t: t.pop(sorted(t)[0]))
    yield (
        "a tensor of no module",
        change_tensors(files, lambda t: t.update({"no.such.module.weight": torch.zeros(1)})),
    )


def test_damaged_files_are_typed_errors_and_leave_the_base_alone(method: partial) -> None:
    made = trained(method)
    files = dict(made.adapter.files())
    made.adapter.detach()
    for what, damaged in damages(files):
        with pytest.raises(AdapterError):
            load(made.base, method().kind, damaged)
            pytest.fail(f"{what}: loaded")
        assert same(snapshot(made.base), made.state), what
        assert not any(p.requires_grad for p in made.base.model.parameters()), what
    load(made.base, method().kind, files)


@pytest.mark.parametrize("shape", ["gpt2", "phi3"])
def test_another_base_is_a_typed_error(method: partial, shape: str) -> None:
    files = trained(method).adapter.files()
    base = tiny_base(shape)
    before = snapshot(base)
    with pytest.raises(AdapterError):
        load(base, method().kind, files)
    assert same(snapshot(base), before)


def test_the_catalogue_knows_its_kind(method: partial) -> None:
    settings = method()
    assert type(settings).model_fields["kind"].default == settings.kind
    assert [one.kind for one in catalogue.METHODS].count(settings.kind) == 1
    assert catalogue.method_of(settings.kind).settings is type(settings)
    assert Recipe.parse({**RECIPE, "adapter": settings.model_dump()}).adapter == settings
    with pytest.raises(AdapterError, match="not known"):
        load(tiny_base("llama"), settings.kind + "x", {})
    with pytest.raises(AdapterError, match="'none' has nothing to train"):
        attach(tiny_base("llama"), catalogue.NoAdapterSettings(), seed=0)
