"""A variant trained over a base in 4 or 8 bits: learning, memory, answers, merging, comparing."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from kamerton.adapters.formats.peft_lora import read_lora
from kamerton.core.errors import AdapterError, EvaluationError, VariantError
from kamerton.core.events import Event, HoldoutMeasured, Notice, RunStarted
from kamerton.core.protocols import Generation
from kamerton.flows.evaluate import evaluate_variants
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import Made, make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models.load import load_base
from kamerton.store.variants import read_variant
from kamerton.variants.export import export_variant
from kamerton.variants.load import load_base_for
from kamerton.variants.opening import make_ready
from kamerton.variants.probe import probe_ids, probe_logits
from kamerton.variants.verify import verify_variant
from tests.e2e.project import make_project


class Project:
    """A folder with a recipe that makes variants over bases held in some way."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder, Workspace(folder)
        self.events: list[Event] = []
        self.recipe = make_project(folder, num_rows=32)

    def make(self, quantise: str, *overrides: str) -> Made:
        options = (f"base.quantise={quantise}", f"name={quantise}", *overrides)
        self.events = []
        recipe = Recipe.read(self.recipe, options)
        return make_variant(recipe, self.folder, self.workspace, self.events.append)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("quantised"))


@pytest.fixture(scope="module")
def nf4(project: Project) -> Made:
    return project.make("nf4", "train.gradient_checkpointing=all")


def test_it_learns_and_says_what_it_stands_on(project: Project, nf4: Made) -> None:
    metrics = nf4.variant.manifest.metrics
    assert metrics["holdout_loss"] < 0.7 * metrics["holdout_loss_base"]
    losses = [event.loss for event in project.of(HoldoutMeasured)]
    assert losses == sorted(losses, reverse=True)
    (started,) = project.of(RunStarted)
    # The packed path agrees with Transformers' own over the packed weights.
    assert 0 < started.facts["self_check"] < 2e-3
    warnings = [event.message for event in project.of(Notice) if event.level == "warning"]
    assert all("say little" in w or "optimiser steps" in w for w in warnings)
    assert "say little" in warnings[0]
    assert nf4.variant.manifest.base.quantise == "nf4"
    assert "held in nf4" in (nf4.variant.folder / "CARD.md").read_text()
    assert read_variant(nf4.variant.folder).manifest.base.quantise == "nf4"


def test_it_is_gone_on_from_over_the_same_rounding_only(project: Project, nf4: Made) -> None:
    overrides = ("name=on", "start_from=nf4", "train.max_steps=1")
    project.make("nf4", *overrides)
    for other in ("int8", "none"):
        with pytest.raises(VariantError, match='base.quantise = "nf4", the recipe has') as caught:
            project.make(other, *overrides)
        assert caught.value.hint == 'set base.quantise = "nf4"'


def test_an_exported_loftq_keeps_its_start(project: Project, tmp_path: Path) -> None:
    made = project.make("nf4", "name=loftq", "adapter.init=loftq", "train.max_steps=2")
    export_variant(made.variant, tmp_path / "half", "peft", "bfloat16")
    files = {path.name: path.read_bytes() for path in (tmp_path / "half").iterdir()}
    del files["loftq_start.safetensors"]
    with pytest.raises(AdapterError, match="loftq_start.safetensors is missing"):
        read_lora(files)


def test_how_the_base_is_held_is_part_of_what_a_variant_is(nf4: Made) -> None:
    manifest = nf4.variant.manifest
    other = manifest.base.model_copy(update={"quantise": "int8"})
    assert manifest.model_copy(update={"base": other}).identity() != manifest.content_hash


def test_it_answers_over_the_same_base(nf4: Made) -> None:
    assert verify_variant(nf4.variant) > 0.1
    base = load_base_for(nf4.variant)
    assert base.identity.quantise == "nf4"
    engine = make_ready(nf4.variant, base).engine
    question = [{"role": "user", "content": "Which colour has box 6?"}]
    generation = Generation(max_tokens=8)
    assert "".join(e.text for e in engine.stream([question], generation)).startswith("Box")


def test_variants_of_bases_held_otherwise_are_not_compared(project: Project, nf4: Made) -> None:
    other = project.make("int8", "train.max_steps=2").variant
    assert other.manifest.base.quantise == "int8"
    with pytest.raises(EvaluationError, match="held alike"):
        evaluate_variants([nf4.variant, other], project.workspace, project.events.append)


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_it_merges_into_the_original_weights(nf4: Made, tmp_path: Path, dtype: str) -> None:
    written = export_variant(nf4.variant, tmp_path / "merged", "merged", dtype)
    assert written.dtype == ("float32" if dtype == "auto" else dtype)
    # The base it was trained over was rounded; what it learned is still there.
    assert 0 < written.largest < 0.5 * written.moved
    assert written.same_top > 0.8
    merged = load_file(tmp_path / "merged/model.safetensors")
    original = load_base("builtin:nano", dtype="float32").model.state_dict()
    assert {str(t.dtype) for t in merged.values()} == {f"torch.{written.dtype}"}
    assert set(merged) <= set(original)
    name = next(name for name in merged if name.endswith("q_proj.weight"))
    change = merged[name].float() - original[name]
    # A rank-16 update of the original weight, and nothing of the rounding to 4 bits.
    values = torch.linalg.svdvals(change)
    assert values[16:].max() < (1e-4 if dtype == "auto" else 0.1) * values[0]
    AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert "quantization_config" not in json.loads((tmp_path / "merged/config.json").read_text())


def test_the_adapter_is_exported_for_peft(nf4: Made, tmp_path: Path) -> None:
    from peft import PeftModel

    written = export_variant(nf4.variant, tmp_path / "peft", "peft")
    assert (written.dtype, written.largest, written.same_top) == ("float32", 0.0, 1.0)
    half = export_variant(nf4.variant, tmp_path / "half", "peft", "bfloat16")
    assert half.dtype == "bfloat16"
    assert 0 < half.largest < 0.05 * half.moved
    dense = load_base_for(nf4.variant, quantise="none")
    ready = make_ready(nf4.variant, dense)
    wanted = probe_logits(ready.renderer, dense)
    assert ready.adapter is not None
    ready.adapter.detach()
    dense.model.set_attn_implementation("sdpa")
    ids = torch.tensor(probe_ids(ready.renderer))[None]
    with torch.no_grad():
        found = PeftModel.from_pretrained(dense.model, tmp_path / "peft")(input_ids=ids).logits[0]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_an_existing_folder_and_a_prompt_are_refused(project: Project, nf4: Made) -> None:
    with pytest.raises(VariantError, match="exists already"):
        export_variant(nf4.variant, project.folder, "merged")
    prompt = project.make("none", "adapter.kind=none").variant
    with pytest.raises(VariantError, match="prompt only"):
        export_variant(prompt, project.folder / "x", "peft")
    assert not (project.folder / "x").exists()
