"""PiSSA: the principal part, the gradients, the base's bytes, files, limits."""

import json

import pytest
import torch
from safetensors.torch import load

from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.adapters.lora.pissa import changes, paired, principal, stretch
from kamerton.core.errors import AdapterError
from tests.shapes import CONFIGS, tiny_base
from tests.unit.adapters.lora.test_lora import perturb, states, weights


def matrix(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(12, 7), (7, 12)])
def test_it_is_the_best_approximation(shape: tuple[int, int]) -> None:
    weight = matrix(*shape)
    a, b = principal(weight, 3, 2.0)
    assert (a.shape, b.shape) == ((3, shape[1]), (shape[0], 3))
    values = torch.linalg.svdvals(weight)
    rest = torch.linalg.svdvals(weight - 2 * b @ a)
    # Eckart-Young: what remains has the other singular values, and nothing else.
    torch.testing.assert_close(rest[:4], values[3:], rtol=1e-4, atol=1e-5)
    assert (rest[4:] < 1e-5).all()
    # Equations 2 and 3: both factors carry the square root of the singular values.
    torch.testing.assert_close(a.norm(dim=1), (values[:3] / 2).sqrt())
    torch.testing.assert_close(b.norm(dim=0), (values[:3] / 2).sqrt())


def test_the_signs_do_not_depend_on_the_decomposition() -> None:
    weight = matrix(12, 7)
    a, _ = principal(weight, 5, 1.0)
    assert (a.gather(1, a.abs().argmax(1, keepdim=True)) > 0).all()


def test_the_fast_one_comes_close_and_leaves_the_random_numbers_alone() -> None:
    weight = matrix(96, 64)
    state = torch.get_rng_state()
    fast, again = (principal(weight, 8, 1.0, fast_seed=4) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, y) for x, y in zip(fast, again, strict=True))
    exact = principal(weight, 8, 1.0)
    left, best = ((weight - b @ a).norm() for a, b in (fast, exact))
    assert best <= left < 1.01 * best


def test_the_gradients_are_those_of_the_factors() -> None:
    a_start, b_start = matrix(2, 5), matrix(4, 2)
    a, b = (0.1 * matrix(2, 5)).requires_grad_(), (0.1 * matrix(4, 2)).requires_grad_()
    one, two = paired(a, b, a_start, b_start)
    full_a, full_b = (a_start + a).detach(), (b_start + b).detach()
    full_a.requires_grad_(), full_b.requires_grad_()
    difference = full_b @ full_a - b_start @ a_start
    torch.testing.assert_close(two @ one, difference)
    ours = torch.autograd.grad((two @ one).sin().sum(), (a, b))
    theirs = torch.autograd.grad(difference.sin().sum(), (full_a, full_b))
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference)


def test_trained_factors_of_other_signs_count_from_the_same_start() -> None:
    a_start, b_start = matrix(3, 5), matrix(4, 3)
    signs = torch.tensor([1.0, -1.0, -1.0])
    a, b = (a_start * signs[:, None]) + 0.01, (b_start * signs) - 0.01
    (a_change, b_change), start = changes(a, b, a_start, b_start)
    assert a_change.abs().max() < 0.011
    one, two = paired(a_change, b_change, *start)
    torch.testing.assert_close(two @ one, b @ a - b_start @ a_start)


@pytest.mark.parametrize("shape", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_the_base_keeps_its_bytes(shape: str, dtype: torch.dtype) -> None:
    base = tiny_base(shape, dtype=dtype)
    before, start = weights(base), states(base)
    lora = attach_lora(base, LoraSettings(rank=4, init="pissa"), seed=0)
    assert torch.equal(states(base), start)
    perturb(lora, std=0.05)
    adapted = states(base)
    assert not torch.equal(adapted, start)
    lora.merge()
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    assert (states(base) - adapted).norm() < tolerance * adapted.norm()
    lora.detach()
    after = weights(base)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_parameter_count_equals_the_formula() -> None:
    settings = LoraSettings(rank=3, init="pissa", targets=("q_proj", "down_proj"))
    lora = attach_lora(tiny_base("llama"), settings, seed=0)
    count = sum(p.numel() for p in lora.parameters().values())
    assert count == 3 * 3 * ((64 + 64) + (96 + 64))
    files = lora.files()
    stored = load(files["adapter_model.safetensors"])
    assert sum(t.numel() for t in stored.values()) == 2 * count
    # A0 besides, so that training can go on.
    assert sum(t.numel() for t in load(files["pissa_start.safetensors"]).values()) == 3 * 3 * 160


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_other_ranks_and_strengths_round_trip(rank_stabilised: bool) -> None:
    base = tiny_base("llama")
    settings = LoraSettings(
        rank=3, alpha=7, init="pissa", rank_stabilised=rank_stabilised, dora=True,
        rank_pattern={"down_proj": 5}, alpha_pattern={"v_proj": 1.3},
    )  # fmt: skip
    lora = attach_lora(base, settings, seed=0)
    perturb(lora, std=0.05)
    adapted, files = states(base), lora.files()
    kept = {name: p.detach().clone() for name, p in lora.parameters().items()}
    lora.detach()
    again = load_lora(base, files)
    assert torch.equal(states(base), adapted)
    assert all(torch.equal(p, kept[name]) for name, p in again.parameters().items())
    assert again.files() == files


def test_without_its_start_it_is_a_plain_lora_of_doubled_rank() -> None:
    base = tiny_base("llama")
    lora = attach_lora(base, LoraSettings(rank=4, init="pissa"), seed=0)
    perturb(lora, std=0.05)
    adapted, files = states(base), lora.files()
    lora.detach()
    del files["pissa_start.safetensors"]
    with pytest.raises(AdapterError, match=r"pissa_start.safetensors is missing"):
        load_lora(base, files)
    files["adapter_model.safetensors"] = files["adapter_model.safetensors"].replace(
        b"pissa_start", b"xxxxx_xxxxx"
    )
    plain = load_lora(base, files)
    assert plain.settings.init == "random"
    assert plain.settings.rank == 8
    torch.testing.assert_close(states(base), adapted, rtol=1e-5, atol=1e-5)


def test_there_and_back_is_exact() -> None:
    for alpha in (1, 1.3, 16, 32, 0.1, 1e-3, 123456.789):
        for stable in (False, True):
            assert stretch(stretch(alpha, 2, stable), 0.5, stable) == alpha


@pytest.mark.parametrize("init", ["pissa", "pissa-fast"])
def test_more_rank_than_the_weight_has_is_an_error(init: str) -> None:
    base = tiny_base("llama")
    before = list(base.model.state_dict())
    settings = LoraSettings(rank=33, init=init, targets=("q_proj", "k_proj"))
    with pytest.raises(AdapterError, match=r"at most 32 for model\.layers\.0\.self_attn\.k_proj"):
        attach_lora(base, settings, seed=0)
    assert list(base.model.state_dict()) == before


@pytest.mark.parametrize("init", ["olora", "corda", "loftq", "pissa_niter_4", "lora_ga"])
def test_files_that_need_a_changed_base_are_refused(init: str) -> None:
    files = attach_lora(tiny_base("llama"), LoraSettings(rank=4), seed=0).files()
    config = json.loads(files["adapter_config.json"]) | {"init_lora_weights": init}
    files["adapter_config.json"] = json.dumps(config).encode()
    with pytest.raises(AdapterError, match="which changes the base"):
        load_lora(tiny_base("llama"), files)
