"""`variant export` for llama.cpp: merged, base alone, LoRA alone; each answers as the variant."""

from pathlib import Path

import pytest

from kamerton.core.errors import AdapterError, VariantError
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.variants import Variant, read_variant
from kamerton.variants.export import export_variant
from kamerton.variants.load import Opening
from kamerton.variants.rounding import verdict
from tests.e2e.project import make_project

METHODS = {
    "lora": 'adapter={ kind = "lora", rank = 4, rank_pattern = { down_proj = 6 } }',
    "pissa": 'adapter={ kind = "lora", rank = 4, init = "pissa" }',
    "dora": 'adapter={ kind = "lora", rank = 4, dora = true }',
    "bottleneck": 'adapter={ kind = "bottleneck" }',
}


@pytest.fixture(scope="module")
def variants(tmp_path_factory) -> dict[str, Variant]:
    folder = tmp_path_factory.mktemp("gguf")
    path = make_project(folder, num_rows=24)
    made = {}
    for name, adapter in METHODS.items():
        options = (adapter, f"name={name}", "train.max_steps=6", "base.dtype=float32")
        recipe = Recipe.read(path, (*options, "train.learning_rate=1e-2"))
        one = make_variant(recipe, folder, Workspace(folder), lambda event: None)
        made[name] = read_variant(one.variant.folder)
    return made


@pytest.mark.parametrize("name", ["lora", "pissa"])
@pytest.mark.parametrize("format", ["gguf", "gguf-lora", "gguf-base"])
def test_it_answers_as_the_variant(
    variants: dict[str, Variant],
    tmp_path: Path,
    name: str,
    format: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    written = export_variant(variants[name], tmp_path / "out", format)
    assert "GGUF" not in capfd.readouterr().err
    assert written.dtype == "float32"
    assert written.moved > 0.1
    assert written.largest < 1e-3 * written.moved
    (file,) = (tmp_path / "out").iterdir()
    ending = {"gguf": "", "gguf-lora": "-lora", "gguf-base": "-base"}[format]
    assert file.name == f"{name}{ending}.gguf"
    assert ("splits texts" in written.note) == (format != "gguf-lora")


def test_fewer_bits_differ_a_little(variants: dict[str, Variant], tmp_path: Path) -> None:
    for dtype in ("bfloat16", "float16"):
        written = export_variant(variants["lora"], tmp_path / dtype, "gguf", dtype)
        assert written.dtype == dtype
        assert 0 < written.largest < 0.2 * written.moved
    lora = export_variant(variants["lora"], tmp_path / "lora", "gguf-lora", "float16")
    assert 0 < lora.largest < 0.01 * lora.moved


@pytest.mark.parametrize("format", ["gguf", "gguf-base", "merged"])
def test_sums_in_few_bits_are_not_taken_for_rounding_of_weights(
    variants: dict[str, Variant], tmp_path: Path, format: str
) -> None:
    # A variant in bf16 was compared with what was written as it computes in fp32.
    opening = Opening(dtype="bfloat16")
    written = export_variant(variants["lora"], tmp_path / "out", format, "float32", opening)
    assert (written.dtype, written.rounded_to) == ("float32", "bfloat16")
    assert written.rounding is not None
    fine, why = verdict(written.largest, written.moved, written.rounding, written.rounded_to)
    assert fine, why
    if format == "gguf-base":
        # The very weights, in the very arithmetic.
        assert written.largest == 0


def test_what_llama_cpp_lacks_is_said(variants: dict[str, Variant], tmp_path: Path) -> None:
    assert export_variant(variants["dora"], tmp_path / "merged", "gguf").largest < 1e-3
    with pytest.raises(AdapterError, match="no DoRA"):
        export_variant(variants["dora"], tmp_path / "dora", "gguf-lora")
    with pytest.raises(VariantError, match="only LoRA"):
        export_variant(variants["bottleneck"], tmp_path / "x", "gguf-lora")
    with pytest.raises(VariantError, match="cannot be merged"):
        export_variant(variants["bottleneck"], tmp_path / "x", "gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged"]
