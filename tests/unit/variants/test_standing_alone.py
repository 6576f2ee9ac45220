"""A variant needs its folder and its base alone: whatever its recipe says, or if it is gone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from kamerton.adapters.combine import CombineSettings
from kamerton.core.protocols import Generation, TokenEvent
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.flows.chat import Conversation
from kamerton.flows.evaluate import evaluate_variants
from kamerton.flows.recipe import Recipe, recipe_of
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.variants import Variant, find_variant
from kamerton.testing import FakeEngine
from kamerton.variants.combine import combined
from kamerton.variants.export import export_variant
from kamerton.variants.load import Opening, load_base_for
from kamerton.variants.opening import make_ready
from kamerton.variants.probe import probe_logits
from kamerton.variants.verify import verify_variant
from tests.e2e.project import make_project

GARBLED: dict[str, dict[str, Any]] = {
    "empty": {},
    "garbled": {
        "base": {"id": "no/such-base", "dtype": "int8", "quantise": "nf4"},
        "render": "?",
        "adapter": {"kind": "lora", "new_tokens": ["other"]},
        "from_the_future": True,
    },
}


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> list[Variant]:
    """One with a word of its own, and two without, whose updates add up."""
    folder = tmp_path_factory.mktemp("alone")
    path = make_project(folder, num_rows=12)
    options = (
        "train.max_steps=1", "train.learning_rate=1e-2", 'prompt.system="Be brief."',
        "base.dtype=bfloat16", "generation.temperature=0.8", "generation.top_p=0.9",
    )  # fmt: skip
    for name, *own in (
        ("words", 'adapter.new_tokens=["Kolibri-7"]', "generation.top_k=7"),
        ("a", "train.seed=1", 'generation.stop=["#"]'),
        ("b", "train.seed=2", "generation.max_new_tokens=5"),
    ):
        recipe = Recipe.read(path, (*options, f"name={name}", *own))
        make_variant(recipe, folder, Workspace(folder), lambda event: None)
    return [find_variant(name, Workspace(folder).variants) for name in ("words", "a", "b")]


def without_recipe(variant: Variant, recipe: dict[str, Any]) -> Variant:
    return replace(variant, manifest=variant.manifest.model_copy(update={"recipe": recipe}))


@pytest.mark.parametrize("what", GARBLED)
def test_it_answers_and_is_exported_as_before(
    variants: list[Variant], what: str, tmp_path: Path
) -> None:
    logits = []
    for one in (variants[0], without_recipe(variants[0], GARBLED[what])):
        base = load_base_for(one)
        assert base.dtype == torch.bfloat16
        ready = make_ready(one, base)
        assert ready.prompt.system == "Be brief."
        assert ready.renderer.tokenizer.tokenize("Kolibri-7") == ["Kolibri-7"]
        logits.append(probe_logits(ready.renderer, base))
    assert torch.equal(*logits)
    alone = without_recipe(variants[0], GARBLED[what])
    assert verify_variant(alone) == verify_variant(variants[0])
    assert export_variant(alone, tmp_path / "peft", "peft").largest == 0
    assert export_variant(alone, tmp_path / "merged", "merged").dtype == "bfloat16"
    answers = GenerationConfig.from_pretrained(tmp_path / "merged")
    assert answers.do_sample
    assert (answers.temperature, answers.top_p, answers.top_k) == (0.8, 0.9, 7)
    assert answers.max_new_tokens == 12


def test_a_chat_is_as_each_variant_says_and_else_as_it_is_asked(variants: list[Variant]) -> None:
    workspace = Workspace(variants[0].folder.parents[1])
    names = ["a", "b"]
    talk = Conversation.open(names, workspace, seed=3)
    drawn = Generation(max_tokens=12, temperature=0.8, top_p=0.9, seed=3)
    assert talk.own == {
        "a": replace(drawn, stop=("#",)),
        "b": replace(drawn, max_tokens=5),
    }
    assert talk.samples
    asked = Conversation.open(names, workspace, temperature=0.0, max_tokens=2)
    assert {(one.temperature, one.max_tokens) for one in asked.own.values()} == {(0.0, 2)}
    assert not asked.samples
    # A base answers like the variant beside it, without a variant greedily.
    beside = Conversation.open(["builtin:nano", "b"], workspace)
    assert beside.own["builtin:nano"] == beside.own["b"]
    assert not Conversation.open(["builtin:nano"], workspace).samples


def test_a_comparison_is_greedy_and_as_long_as_each_variant_answers(
    variants: list[Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Generation] = []

    class Listens(FakeEngine):
        def stream(
            self, chats: Any, generation: Generation, tools: Any = ()
        ) -> Iterator[TokenEvent]:
            asked.append(generation)
            return super().stream(chats, generation, tools)

    monkeypatch.setattr(
        "kamerton.flows.candidates.engine_of", lambda *_: Listens(lambda chat: "Box 1 is red.")
    )
    workspace = Workspace(variants[0].folder.parents[1])
    recipe = {"shots": 0, "resamples": 100}
    evaluate_variants(
        variants[1:], workspace, lambda event: None, settings=EvaluationSettings.parse(recipe)
    )
    # The prompt alone may answer as long as any variant.
    prompt, a, b = asked
    assert prompt == a == Generation(max_tokens=12, stop=("#",))
    assert b == Generation(max_tokens=5)


def test_an_older_recipe_says_where_its_length_stands_now(variants: list[Variant]) -> None:
    plain = {
        key: value for key, value in variants[1].manifest.recipe.items() if key != "generation"
    }
    plain["evaluate"] = {**plain["evaluate"], "max_tokens": 40}
    recipe = recipe_of(without_recipe(variants[1], plain))
    assert (recipe.generation.max_new_tokens, recipe.evaluate.max_new_tokens) == (40, None)


def test_stop_texts_that_an_export_cannot_hold_are_named(
    variants: list[Variant], tmp_path: Path
) -> None:
    assert "generation.stop" in export_variant(variants[1], tmp_path / "out", "peft").note


def test_it_is_opened_in_another_way(variants: list[Variant]) -> None:
    alone = without_recipe(variants[0], {})
    base = load_base_for(alone, Opening(dtype="float32", device="cpu"))
    assert (base.dtype, base.device.type) == (torch.float32, "cpu")


def test_it_is_combined(variants: list[Variant], tmp_path: Path) -> None:
    parents = [without_recipe(one, {}) for one in variants[1:]]
    made = combined(parents, "both", tmp_path, CombineSettings(how="cat"))
    found = find_variant("both", tmp_path).manifest
    assert made.manifest == found
    first = variants[1].manifest
    for key in ("render", "new_tokens", "generation", "prompt"):
        assert getattr(found, key) == getattr(first, key), key
    assert found.base.dtype == "bfloat16"


def test_every_setting_of_the_rendering_is_seen_by_the_model_or_about_learning() -> None:
    about_learning = {"train_on", "max_tokens", "overlong"}
    seen = RenderSettings().seen_by_the_model().keys()
    assert seen | about_learning == RenderSettings.model_fields.keys()
    assert not seen & about_learning
