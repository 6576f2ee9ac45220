"""Combining LoRA updates: what each way means, and what it refuses."""

import json
from collections.abc import Mapping
from functools import partial

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import Tensor

from kamerton.adapters.catalogue import load
from kamerton.adapters.combine import CombineSettings
from kamerton.adapters.lora.combine import _ties, _truncate, combine_loras
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.errors import AdapterError, SettingsError
from tests.contract.test_adapters import logits, trained
from tests.shapes import tiny_base

FORMS = [
    LoraSettings(rank=4, alpha=12),
    LoraSettings(rank=6, alpha=6, rank_stabilised=True, rank_pattern={"down_proj": 3}),
    LoraSettings(rank=2, targets=("q_proj", "up_proj"), layers="1-2"),
]


def stored(settings: LoraSettings, seed: int, shape: str = "llama") -> dict[str, bytes]:
    lora = attach_lora(tiny_base(shape), settings, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in lora.parameters().values():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return dict(lora.files())


def deltas(files: Mapping[str, bytes], shape: str = "llama") -> dict[str, Tensor]:
    """The updates as the base sees them: what merging changes."""
    base = tiny_base(shape)
    before = {name: p.clone() for name, p in base.model.named_parameters()}
    lora = load(base, "lora", files)
    lora.merge()
    with lora.as_plain_model():
        after = dict(base.model.named_parameters())
        return {name: after[name].detach() - before[name] for name in before}


def close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=2e-6)


def test_cat_is_the_weighted_sum() -> None:
    parents = [stored(settings, seed) for seed, settings in enumerate(FORMS)]
    weights = (1.0, -0.5, 2.0)
    made = combine_loras(parents, CombineSettings(how="cat", weights=weights))
    each = [deltas(files) for files in parents]
    close(
        deltas(made.files),
        {n: sum(w * d[n] for w, d in zip(weights, each, strict=True)) for n in each[0]},
    )
    assert made.error == 0
    assert made.rank == 4 + 6 + 2


def test_gpt2_keeps_its_orientation() -> None:
    parents = [stored(LoraSettings(rank=3), seed, "gpt2") for seed in range(2)]
    made = combine_loras(parents, CombineSettings())
    one, two = (deltas(files, "gpt2") for files in parents)
    close(deltas(made.files, "gpt2"), {name: one[name] + two[name] for name in one})


def test_sum_is_the_nearest_of_its_rank() -> None:
    parents = [stored(LoraSettings(rank=4), seed) for seed in range(2)]
    whole = combine_loras(parents, CombineSettings(how="sum", rank=8))
    assert whole.error < 1e-5
    close(deltas(whole.files), deltas(combine_loras(parents, CombineSettings()).files))
    made = combine_loras(parents, CombineSettings(how="sum"))
    assert made.rank == 4
    wanted, found = deltas(whole.files), deltas(made.files)
    lost = sum(float((wanted[n] - found[n]).square().sum()) for n in wanted)
    total = sum(float(wanted[n].square().sum()) for n in wanted)
    assert made.error == pytest.approx((lost / total) ** 0.5, rel=1e-3)
    assert 0.2 < made.error < 0.9
    tail = sum(
        float(torch.linalg.svdvals(wanted[n])[4:].square().sum()) for n in wanted
        if wanted[n].ndim == 2
    )  # fmt: skip
    assert lost == pytest.approx(tail, rel=1e-3)


def test_an_average_with_itself_changes_nothing() -> None:
    files = stored(LoraSettings(rank=4), 0)
    made = combine_loras([files, files], CombineSettings(how="average", weights=(3, 1)))
    assert made.error < 1e-5
    assert made.cosine == pytest.approx(1)
    assert made.conflicts == 0
    close(deltas(made.files), deltas(files))


def test_ties_equals_the_paper_word_by_word() -> None:
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(7, 5, generator=generator) for _ in range(3)]
    found = _ties([(1.0, matrix) for matrix in given], 0.4)
    kept = []
    for matrix in given:
        least = sorted(matrix.abs().flatten().tolist(), reverse=True)[13]
        kept.append([v if abs(v) >= least else 0.0 for v in matrix.flatten().tolist()])
        assert sum(v != 0 for v in kept[-1]) == 14
    for at, value in enumerate(found.flatten().tolist()):
        column = [row[at] for row in kept]
        sign = 1 if sum(column) > 0 else -1
        agreeing = [v for v in column if v * sign > 0]
        wanted = sum(agreeing) / len(agreeing) if agreeing else 0.0
        assert value == pytest.approx(wanted, abs=1e-6)
    assert (found != 0).any()


def test_ties_lets_the_stronger_sign_win() -> None:
    matrix = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert torch.equal(_ties([(1.0, matrix), (1.0, -matrix / 2)], 1.0), matrix)
    # Weights count in the vote and in the mean, and scale nothing.
    torch.testing.assert_close(_ties([(1.0, matrix), (3.0, -matrix / 2)], 1.0), -matrix / 2)
    torch.testing.assert_close(_ties([(2.0, matrix), (2.0, matrix)], 1.0), matrix)


def test_ties_and_dare_of_everything() -> None:
    parents = [stored(LoraSettings(rank=3), seed) for seed in range(2)]
    summed = deltas(combine_loras(parents, CombineSettings()).files)
    dare = combine_loras(parents, CombineSettings(how="dare", density=1, weights=(1, 1)))
    close(deltas(dare.files), summed)
    ties = combine_loras([parents[0], parents[0]], CombineSettings(how="ties", density=1))
    close(deltas(ties.files), deltas(parents[0]))


def test_dare_keeps_the_sum_in_the_mean_and_follows_its_seed() -> None:
    parents = [stored(LoraSettings(rank=2, targets=("q_proj",)), seed) for seed in range(2)]
    wanted = deltas(combine_loras(parents, CombineSettings()).files)
    name = "model.layers.0.self_attn.q_proj.weight"

    def dare(seed: int) -> Tensor:
        settings = CombineSettings(how="dare", density=0.5, rank=64, seed=seed)
        return deltas(combine_loras(parents, settings).files)[name]

    assert torch.equal(dare(1), dare(1))
    mean = torch.stack([dare(seed) for seed in range(24)]).mean(0)
    single = (dare(0) - wanted[name]).norm() / wanted[name].norm()
    assert 0.7 < single < 1.4
    assert (mean - wanted[name]).norm() / wanted[name].norm() < 0.4


def test_large_matrices_are_approximated() -> None:
    generator = torch.Generator().manual_seed(0)
    wide = [torch.randn(1100, 6, generator=generator), torch.randn(6, 1300, generator=generator)]
    matrix = wide[0] @ wide[1]
    before = torch.get_rng_state()
    found = _truncate(matrix, 6).matrix()
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(found, matrix, rtol=1e-3, atol=1e-3)


def test_the_result_answers_on_the_base() -> None:
    parents = [stored(settings, seed) for seed, settings in enumerate(FORMS)]
    base = tiny_base("llama")
    start = logits(base)
    adapter = load(base, "lora", combine_loras(parents, CombineSettings(how="ties")).files)
    assert not torch.equal(logits(base), start)
    adapter.detach()
    assert torch.equal(logits(base), start)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": (1.0,)}, "2 finite numbers"),
        ({"weights": (1.0, 0.0)}, "other than 0"),
        ({"how": "average", "weights": (1.0, -1.0)}, "add up to 0"),
        ({"how": "sum", "weights": (1.0, -1.0)}, "cancel"),
    ],
)
def test_weights_that_mean_nothing(settings: dict, said: str) -> None:
    files = stored(LoraSettings(rank=2), 0)
    with pytest.raises(AdapterError, match=said):
        combine_loras([files, files], CombineSettings(**settings))


@pytest.mark.parametrize(
    "values",
    [
        {"how": "sum", "density": 0.5},
        {"how": "ties", "density": 0},
        {"how": "sum", "rank": 0},
        {"how": "cat", "rank": 4},
        {"how": "mean"},
        {"weights": [1.0, float("nan")]},
    ],
)
def test_no_setting_is_ignored(values: dict) -> None:
    with pytest.raises(SettingsError):
        CombineSettings.parse(values)


def narrower(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same as if the layers had one input less."""
    name = "adapter_model.safetensors"
    tensors = {
        n: t[:, :-1].contiguous() if "lora_A" in n else t
        for n, t in load_tensors(files[name]).items()
    }
    return {**files, name: save(tensors)}


def test_what_cannot_be_added_is_refused() -> None:
    plain = stored(LoraSettings(rank=2), 0)
    with pytest.raises(AdapterError, match="DoRA"):
        combine_loras([plain, stored(LoraSettings(rank=2, dora=True), 0)], CombineSettings())
    rounded = trained(partial(LoraSettings, init="loftq"), "llama:nf4").adapter.files()
    with pytest.raises(AdapterError, match="LoftQ counts from a start of its own"):
        combine_loras([plain, rounded], CombineSettings())
    config = json.loads(plain["adapter_config.json"]) | {"init_lora_weights": "pissa"}
    other = {**plain, "adapter_config.json": json.dumps(config).encode()}
    with pytest.raises(AdapterError, match="PiSSA that is not converted"):
        combine_loras([plain, other], CombineSettings())
    with pytest.raises(AdapterError, match="other sizes"):
        combine_loras([plain, narrower(plain)], CombineSettings())
    large = stored(LoraSettings(rank=600, targets=("q_proj",)), 0)
    with pytest.raises(AdapterError, match="1200"):
        combine_loras([large, large], CombineSettings())
