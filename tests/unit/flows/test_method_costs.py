"""What methods cost: counted by shapes, measured by steps, scaled from one to another."""

from pathlib import Path

import pytest

from kamerton.advisor.methods import Situation, advise
from kamerton.core.errors import AdapterError
from kamerton.core.events import Event, Notice, Sink
from kamerton.flows.forecast import Measured
from kamerton.flows.method_costs import costs_of, trained_numbers
from kamerton.flows.recipe import Recipe

RANKED = advise(Situation("classes", 5_000, has_gpu=False, is_small=True))
RECIPE = Recipe.parse({"name": "x", "base": "builtin:nano", "data": {"train": "rows.jsonl"}})


def taken(seen: list[str]):
    def take(recipe: Recipe, _folder: Path, _sink: Sink) -> Measured:
        seen.append(recipe.adapter.kind)
        parts = {"start": 5.0, "steps": 100.0, "end": 1.0}
        return Measured(106.0, 1 << 30, 50, 4, parts)

    return take


def quiet(_: Event) -> None:
    pass


def test_what_learns_is_counted_by_shapes() -> None:
    numbers = trained_numbers("builtin:nano")
    assert numbers["full"][1] == pytest.approx(1.0)
    assert numbers["none"] == (0, 0.0)
    assert numbers["lora"][0] == 430_080
    # 32 tokens; keys and values of every block.
    assert numbers["prefix"][0] == 49_152
    assert numbers["lora"][1] == pytest.approx(430_080 / numbers["full"][0])
    assert trained_numbers("Qwen/Qwen3-0.6B") == {}


def test_one_method_is_measured_and_the_others_are_scaled() -> None:
    seen: list[str] = []
    costs = costs_of(RANKED, RECIPE, Path(), quiet, "first", taken(seen))
    assert seen == ["lora"]
    lora, full = costs["LoRA"], costs["all weights"]
    assert (lora.how, lora.seconds, lora.peak_bytes) == ("measured", 106.0, 1 << 30)
    # One and a half times the multiplications of a step, what is around the steps as it was.
    assert (full.how, full.seconds) == ("scaled", 156.0)
    assert full.peak_bytes == (1 << 30) + 20 * full.trained - 16 * lora.trained
    assert costs["few-shot prompt"].seconds is None
    assert costs["DPO + LoRA"].seconds is None


def test_all_are_measured_on_demand_and_none_without_leave() -> None:
    seen: list[str] = []
    costs = costs_of(RANKED, RECIPE, Path(), quiet, "all", taken(seen))
    assert seen == ["lora", "prefix", "bottleneck", "full", "lora"]
    assert costs["prefix"].how == "measured"
    assert costs_of(RANKED, RECIPE, Path(), quiet, "none", taken(seen))["LoRA"].seconds is None
    assert len(seen) == 5


def test_what_cannot_be_measured_is_said_and_the_next_is_measured() -> None:
    told: list[Event] = []

    def take(recipe: Recipe, folder: Path, sink: Sink) -> Measured:
        if recipe.adapter.kind == "lora":
            raise AdapterError("no layer to adapt")
        return taken([])(recipe, folder, sink)

    costs = costs_of(RANKED, RECIPE, Path(), told.append, "first", take)
    assert costs["prefix"].how == "measured"
    assert costs["LoRA"].seconds is None
    assert [event.message for event in told if isinstance(event, Notice)] == [
        "LoRA was not measured: no layer to adapt"
    ]
