"""Bottlenecks, IA3 and parts of the base: from a recipe to a variant, answers and exports."""

import json
from pathlib import Path

import pytest
from transformers import GenerationMixin

from kamerton.core.errors import VariantError
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.variants import Variant, read_variant
from kamerton.variants.export import export_variant
from kamerton.variants.verify import verify_variant
from tests.e2e.project import make_project

METHODS = {
    "bottleneck": 'adapter={ kind = "bottleneck", placement = "houlsby", reduction = 8 }',
    "ia3": 'adapter={ kind = "ia3" }',
    "full": 'adapter={ kind = "full", parts = ["last-1", "norms-and-biases"] }',
}


@pytest.fixture(scope="module")
def variants(tmp_path_factory) -> dict[str, Variant]:
    folder = tmp_path_factory.mktemp("light")
    path = make_project(folder, num_rows=24)
    made = {}
    for name, adapter in METHODS.items():
        rate = {"ia3": 3e-2, "full": 3e-3}.get(name, 1e-2)
        options = (adapter, f"name={name}.one", "train.max_steps=12", "base.dtype=float32")
        recipe = Recipe.read(path, (*options, f"train.learning_rate={rate}"))
        one = make_variant(recipe, folder, Workspace(folder), lambda event: None)
        made[name] = read_variant(one.variant.folder)
    return made


HEADS = ('{ kind = "lora", targets = ["head"] }', '{ kind = "full", parts = ["head"] }')


@pytest.mark.parametrize("adapter", HEADS)
def test_the_head_alone_can_learn(tmp_path: Path, adapter: str) -> None:
    """Hidden states stay as they are then; the answers do not."""
    path = make_project(tmp_path, num_rows=12)
    options = (f"adapter={adapter}", "train.max_steps=4", "train.learning_rate=1e-2")
    made = make_variant(Recipe.read(path, options), tmp_path, Workspace(tmp_path), lambda _: None)
    metrics = made.variant.manifest.metrics
    assert metrics["holdout_loss"] < metrics["holdout_loss_base"]


@pytest.mark.parametrize("method", list(METHODS))
def test_it_learns_and_answers(variants: dict[str, Variant], method: str) -> None:
    manifest = variants[method].manifest
    assert manifest.method == method
    assert manifest.metrics["holdout_loss"] < 0.97 * manifest.metrics["holdout_loss_base"]
    assert verify_variant(variants[method]) > 0.05


def test_bottlenecks_are_exported_for_adapterhub_only(
    variants: dict[str, Variant], tmp_path: Path
) -> None:
    written = export_variant(variants["bottleneck"], tmp_path / "hub", "adapterhub")
    assert (written.dtype, written.largest, written.same_top) == ("float32", 0.0, 1.0)
    described = json.loads((tmp_path / "hub/adapter_config.json").read_text())
    assert described["name"] == "bottleneck-one"
    assert described["config"]["mh_adapter"] is True
    half = export_variant(variants["bottleneck"], tmp_path / "half", "adapterhub", "bfloat16")
    assert half.dtype == "bfloat16"
    assert 0 < half.largest < 0.1 * half.moved
    for format in ("peft", "merged"):
        with pytest.raises(VariantError, match="bottleneck") as caught:
            export_variant(variants["bottleneck"], tmp_path / format, format)
        assert "--format adapterhub" in str(caught.value.hint)
        assert not (tmp_path / format).exists()
    with pytest.raises(VariantError, match="hold bottlenecks") as caught:
        export_variant(variants["ia3"], tmp_path / "ia3", "adapterhub")
    assert caught.value.hint == "export it with --format peft or merged or gguf"
    with pytest.raises(VariantError, match="only LoRA"):
        export_variant(variants["ia3"], tmp_path / "ia3", "gguf-base")


def test_scales_and_parts_are_exported(variants: dict[str, Variant], tmp_path: Path) -> None:
    written = export_variant(variants["ia3"], tmp_path / "peft", "peft")
    assert (written.largest, written.same_top) == (0.0, 1.0)
    for name in ("ia3", "full"):
        merged = export_variant(variants[name], tmp_path / name, "merged")
        assert merged.largest < 1e-3 * merged.moved
    with pytest.raises(VariantError, match="PEFT has no format"):
        export_variant(variants["full"], tmp_path / "other", "peft")


def test_a_written_model_must_generate(
    variants: dict[str, Variant], tmp_path: Path, monkeypatch
) -> None:
    """As in another program: through its own forward pass, cache and generation settings."""

    def fails(*_, **__):
        raise ValueError("temperature must be positive")

    monkeypatch.setattr(GenerationMixin, "generate", fails)
    with pytest.raises(VariantError, match="does not generate: temperature must be positive"):
        export_variant(variants["ia3"], tmp_path / "merged", "merged")
    assert not (tmp_path / "merged").exists()
