"""Ranks and strengths by layer: which counts, how many parameters, what is refused."""

import json

import pytest
import torch

from kamerton.adapters.formats.peft_lora import resolve
from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.errors import AdapterError, SettingsError
from tests.shapes import tiny_base
from tests.unit.adapters.lora.test_lora import perturb, states

PATTERNS = LoraSettings(
    rank=3,
    alpha=6,
    targets=("q_proj", "down_proj"),
    rank_pattern={"down_proj": 5, "layers.1.mlp.down_proj": 7},
    alpha_pattern={"layers.2.self_attn.q_proj": 1.5},
)


def test_the_longest_name_counts() -> None:
    path = "model.layers.{}.mlp.down_proj"
    assert [PATTERNS.rank_at(path.format(n)) for n in (0, 1, 11)] == [5, 7, 5]
    assert PATTERNS.rank_at("model.layers.0.self_attn.q_proj") == 3
    assert PATTERNS.rank_at("model.layers.0.mlp.updown_proj") == 3
    assert PATTERNS.scaling_at("model.layers.2.self_attn.q_proj") == 0.5
    assert PATTERNS.scaling_at("model.layers.1.mlp.down_proj") == 6 / 7
    stable = PATTERNS.model_copy(update={"rank_stabilised": True})
    assert stable.scaling_at("model.layers.1.mlp.down_proj") == 6 / 7**0.5


def test_parameter_count_equals_the_formula() -> None:
    lora = attach_lora(tiny_base("llama"), PATTERNS, seed=0)
    count = sum(p.numel() for p in lora.parameters().values())
    assert count == 3 * 3 * (64 + 64) + (5 + 7 + 5) * (96 + 64)


def test_the_files_round_trip() -> None:
    base = tiny_base("llama")
    lora = attach_lora(base, PATTERNS, seed=0)
    perturb(lora)
    adapted, files = states(base), lora.files()
    lora.detach()
    again = load_lora(base, files)
    assert torch.equal(states(base), adapted)
    assert again.files() == files
    config = json.loads(files["adapter_config.json"])
    assert config["rank_pattern"] == {
        "model.layers.0.mlp.down_proj": 5,
        "model.layers.1.mlp.down_proj": 7,
        "model.layers.2.mlp.down_proj": 5,
    }
    assert config["alpha_pattern"] == {"model.layers.2.self_attn.q_proj": 1.5}


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_that_means_nothing_is_an_error(field: str) -> None:
    settings = LoraSettings(targets=("q_proj",), **{field: {"down_proj": 4}})
    with pytest.raises(AdapterError, match=f"adapter.{field}: 'down_proj' matches none"):
        attach_lora(tiny_base("llama"), settings, seed=0)


def test_values_out_of_range_are_errors() -> None:
    with pytest.raises(SettingsError) as caught:
        LoraSettings.parse({"rank_pattern": {"q_proj": 0}, "alpha_pattern": {"q_proj": -1}})
    assert len(caught.value.problems) == 2


def test_of_pefts_expressions_the_first_counts() -> None:
    paths = ["model.layers.0.mlp.down_proj", "model.layers.10.mlp.down_proj", "lm_head"]
    pattern = {r"layers\.\d\..*": 1, "down_proj": 2, "proj": 3}
    assert resolve(pattern, paths) == {paths[0]: 1, paths[1]: 2}
    with pytest.raises(AdapterError, match="a pattern that is none"):
        resolve({"(": 1}, paths)


@pytest.mark.parametrize(
    "change", [{"rank_pattern": {"q_proj": 0}}, {"alpha_pattern": {"q_proj": "x"}},
               {"rank_pattern": [1]}, {"rank_pattern": {"q_proj": 2}}],
    ids=str,
)  # fmt: skip
def test_damaged_patterns_are_refused(change: dict) -> None:
    files = attach_lora(tiny_base("llama"), PATTERNS, seed=0).files()
    config = json.loads(files["adapter_config.json"]) | change
    with pytest.raises(AdapterError, match="adapter|must be"):
        load_lora(tiny_base("llama"), files | {"adapter_config.json": json.dumps(config).encode()})
