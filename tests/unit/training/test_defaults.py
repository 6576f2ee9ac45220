"""What "auto" becomes: rates by method and width, batches by data, warm-up by steps."""

from typing import Any

import pytest

from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings
from kamerton.adapters.full import FullSettings
from kamerton.adapters.ia3 import Ia3Settings
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.training.defaults import (
    MOST_TOKENS,
    auto_learning_rate,
    auto_tokens_per_step,
    auto_warmup,
    resolve,
)
from kamerton.training.settings import TrainSettings

RATE = (1.3e-3, "for lora")


LORA = LoraSettings()


@pytest.mark.parametrize(
    ("adapter", "objective", "width", "family", "rate"),
    [
        # tinker-cookbook's rule by hand: 5e-4 * (2000 / width) ^ exponent.
        (LORA, "sft", 256, "llama", 2.5e-3),
        (LORA, "sft", 576, "llama", 1.3e-3),
        (LORA, "sft", 4096, "llama", 2.9e-4),
        (LORA, "sft", 1024, "qwen3", 5.3e-4),
        (LORA, "sft", 64, "llama", 4.2e-3),
        (LORA, "dpo", 4096, "llama", 5.7e-6),
        (LORA, "grpo", 256, "llama", 9.8e-4),
        (FullSettings(), "sft", 4096, "llama", 4.9e-5),
        (FullSettings(), "sft", 256, "llama", 7.8e-4),
        (FullSettings(parts=("norms-and-biases",)), "sft", 4096, "llama", 1e-2),
        (FullSettings(parts=("norms-and-biases", "head")), "sft", 4096, "llama", 4.9e-5),
        (PrefixSettings(), "sft", 576, "llama", 0.1),
        (PrefixSettings(), "sft", 4096, "qwen3", 0.1),
        (PrefixSettings(network=128), "sft", 4096, "qwen3", 3e-3),
        (Ia3Settings(), "sft", 576, "llama", 0.1),
        (BottleneckSettings(), "sft", 2000, "llama", 2e-3),
    ],
)
def test_rates(adapter: Any, objective: str, width: int, family: str, rate: float) -> None:
    found, source = auto_learning_rate(adapter, objective, width, family)
    assert found == rate
    assert adapter.kind in source
    assert (objective in source) == (objective != "sft")


@pytest.mark.parametrize(
    ("form", "factor"),
    [
        ({"rank": 64}, 1.0),
        ({"rank": 16, "rank_stabilised": True}, 0.5),
        ({"rank": 256, "rank_stabilised": True}, 0.25),
        ({"alpha": 8.0}, 2.0),
        ({"lora_plus_ratio": 16.0}, 0.25),
        ({"dora": True}, 1.0),
    ],
)
def test_stronger_forms_of_lora_take_smaller_rates(form: dict[str, Any], factor: float) -> None:
    found, _ = auto_learning_rate(LoraSettings(**form), "sft", 2000, "llama")
    assert found == pytest.approx(5e-4 * factor, rel=0.05)


def test_small_data_get_small_batches() -> None:
    assert auto_tokens_per_step([60] * 1000, 3) == 1800
    assert auto_tokens_per_step([60] * 20, 3) == 240
    assert auto_tokens_per_step([600] * 10_000, 3) == MOST_TOKENS


@pytest.mark.parametrize(
    ("steps", "share"), [(1000, 0.03), (100, 0.1), (50, 0.2), (10, 0.2), (0, 0.2)]
)
def test_warm_up_is_ten_steps_where_these_are_few(steps: int, share: float) -> None:
    assert auto_warmup(steps) == pytest.approx(share)


def test_numbers_stand_where_auto_was() -> None:
    chosen = resolve(TrainSettings(), [60] * 1000, RATE, online=False)
    assert chosen.settings.peak_rate == 1.3e-3
    assert chosen.settings.batch_tokens == 1800
    assert 0.09 < chosen.settings.warmup_share < 0.11
    assert [reason.split(" = ")[0] for reason in chosen.reasons] == [
        "train.learning_rate", "train.tokens_per_step", "train.warmup",
    ]  # fmt: skip
    assert chosen.better_batch == 0


def test_what_the_recipe_says_stays() -> None:
    own = TrainSettings(learning_rate=1e-4, tokens_per_step=500, warmup=0.0)
    chosen = resolve(own, [60] * 1000, RATE, online=False)
    assert chosen.settings == own
    assert chosen.reasons == ()


def test_a_batch_that_gives_few_steps_is_told_a_better_one() -> None:
    large = TrainSettings(tokens_per_step=8192)
    assert resolve(large, [60] * 1000, RATE, online=False).better_batch == 1800
    short = TrainSettings(tokens_per_step=8192, max_steps=5)
    assert resolve(short, [60] * 1000, RATE, online=False).better_batch == 0


def test_own_answers_come_in_large_batches() -> None:
    chosen = resolve(TrainSettings(), [60] * 20, RATE, online=True)
    assert chosen.settings.batch_tokens == MOST_TOKENS
    # What was chosen here is not advised against.
    assert chosen.better_batch == 0
