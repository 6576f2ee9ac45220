"""Writing a variant for other programs: PEFT, AdapterHub, Transformers, llama.cpp; then comparing.

What was written is read back and must answer as the variant does, through the model's own forward
pass as in another program; whole models must also generate. A variant of a quantised base is
merged into the original weights in 16 or 32 bits, never into few bits: the update would be lost in
the rounding (arXiv 2305.14314 trains over the rounded weights, so logits differ a little there).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import Tensor

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.adapter_files import metadata_of
from kamerton.adapters.bottleneck.bottleneck import Bottleneck
from kamerton.adapters.catalogue import load
from kamerton.adapters.formats import adapterhub
from kamerton.adapters.formats.gguf_lora import read_gguf_lora, write_gguf_lora
from kamerton.adapters.formats.peft_lora import WEIGHTS_FILE
from kamerton.adapters.lora.lora import Lora
from kamerton.core.errors import VariantError
from kamerton.core.files import atomic_folder
from kamerton.core.wording import first_line
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.standalone import name_ends, name_generation, self_describing_tokenizer
from kamerton.models.base import Base
from kamerton.models.dtype import DTYPES, DType, dtype_name
from kamerton.models.gguf.file import GgufDType, read_gguf_model, write_gguf_model
from kamerton.models.gguf.tokenizer import splits_otherwise
from kamerton.models.load import load_base, prepare_model
from kamerton.store.variants import Variant
from kamerton.variants.load import Opening, load_base_for, reopened
from kamerton.variants.opening import (
    ensure_writes,
    generation_of,
    make_ready,
    render_of,
    renderer_for,
)
from kamerton.variants.probe import largest_change, own_probe_logits, probe_ids
from kamerton.variants.rendering import renderer_of
from kamerton.variants.rounding import rounding_change

__all__ = ["Exported", "Format", "export_variant"]

Format = Literal["merged", "peft", "adapterhub", "gguf", "gguf-lora", "gguf-base"]

_GGUF_DTYPES: dict[torch.dtype, GgufDType] = {
    torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16",
}  # fmt: skip
_FEW_TOKENS = 4
_NO_STOPS = "the texts of generation.stop are not written: tell the other program to stop there"
_REFUSED: dict[Format, str] = {
    "peft": "which PEFT has no format for",
    "merged": "which cannot be merged",
    "gguf": "which cannot be merged",
    "gguf-lora": "and llama.cpp puts only LoRA on a model",
    "gguf-base": "and llama.cpp puts only LoRA on a model",
    "adapterhub": "and AdapterHub's files hold bottlenecks",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """The written files, compared with the variant on a probe.

    Attributes:
        format: The format of the files.
        dtype: The dtype of the written weights.
        largest: Largest difference of a logit.
        moved: Largest change of a logit that the adapter makes, to compare `largest` with.
        same_top: Share of positions with the same likeliest token.
        note: A note on what the other program will do otherwise; empty for nothing.
        rounding: Change of a logit that rounding the written weights makes by itself; None where
            no weights of the base were written.
        rounded_to: The dtype they were rounded to when they were read back: the written one, or
            that of the variant where it has fewer bits.
    """

    format: Format
    dtype: str
    largest: float
    moved: float
    same_top: float
    note: str = ""
    rounding: float | None = None
    rounded_to: str = ""


@torch.no_grad()
def export_variant(
    variant: Variant,
    folder: Path,
    format: Format,
    dtype: DType = "auto",
    opening: Opening | None = None,
) -> Exported:
    """Write a variant for other programs and compare what was written with it.

    Args:
        variant: The variant.
        folder: The folder to write; must not exist.
        format: `merged` is a Transformers model of its own; `peft` and `adapterhub` the adapter
            in the format of that library; for llama.cpp `gguf` is the merged model, `gguf-base`
            the base alone and `gguf-lora` what is put on it.
        dtype: The dtype of the written weights; `auto` is the base's for whole models, else fp32.
        opening: The base's place and device; None takes them from its manifest.

    Returns:
        The comparison of both.

    Raises:
        VariantError: If the method cannot be written so, the folder exists, or what was written
            does not answer.
    """
    if folder.exists():
        raise VariantError(f"{folder} exists already", hint="name a folder that does not exist")
    ensure_writes(variant, "exported")
    if not variant.manifest.files:
        raise VariantError(f"{variant.name} is a prompt only: it has no weights to export")
    opening = opening or Opening()
    variant = reopened(variant, opening)
    base = load_base_for(variant, Opening(sink=opening.sink))
    ready = make_ready(variant, base)
    assert ready.adapter is not None
    _ensure_can(variant, ready.adapter, format)
    wanted = own_probe_logits(ready.renderer, base)
    with ready.adapter.disabled():
        plain = own_probe_logits(ready.renderer, base)
    moved = largest_change(wanted, plain)
    if format == "gguf-base":
        wanted = plain
    note, rounding, read = "", None, ""
    if format in ("merged", "gguf") and variant.manifest.base.quantise != "none":
        note = (
            "merged into the original weights, not into the rounded ones that the variant learned "
            "over: evaluate the merged model before you use it"
        )
    if format != "gguf-base" and generation_of(variant).stop:
        note = "; ".join(filter(None, (note, _NO_STOPS)))
    with atomic_folder(folder) as temporary:
        if format == "merged":
            _write_merged(variant, temporary, dtype)
            found, name, rounding, read = _merged_logits(
                variant, temporary, ready.renderer, base.dtype
            )
        elif format == "peft":
            found, name = _write_peft(variant, temporary, dtype)
        elif format == "gguf-lora":
            found, name = _write_gguf_lora(variant, temporary, dtype)
        elif format.startswith("gguf"):
            found, name, other, rounding, read = _write_gguf(
                variant, temporary, dtype, base.dtype, merged=format == "gguf"
            )
            note = "; ".join(filter(None, (note, other)))
        else:
            found, name = _write_adapterhub(variant, temporary, dtype)
        if not torch.isfinite(found).all():
            raise VariantError(f"{variant.name} has no finite logits in {name}")
    same = (wanted.argmax(-1) == found.argmax(-1)).float().mean()
    largest = largest_change(wanted, found)
    return Exported(format, name, largest, moved, float(same), note, rounding, read)


def _ensure_can(variant: Variant, adapter: Adapter, format: Format) -> None:
    """Refuse a format that does not hold such an adapter, and say which ones do."""
    mergeable, own = adapter.capabilities.mergeable, adapter.capabilities.formats
    can: dict[Format, bool] = {
        "peft": "peft" in own,
        "merged": mergeable,
        "gguf": mergeable,
        "gguf-lora": "gguf-lora" in own,
        # The base that a LoRA is put on.
        "gguf-base": "gguf-lora" in own,
        "adapterhub": "adapterhub" in own,
    }
    if not can[format]:
        others = [name for name in can if can[name]]
        raise VariantError(
            f"{variant.name} is '{variant.manifest.method}', {_REFUSED[format]}",
            hint=f"export it with --format {' or '.join(others)}"
            if others
            else "no other program's format holds it",
        )


def _write_merged(variant: Variant, folder: Path, dtype: DType) -> None:
    base = _dense_base(variant, dtype)
    renderer = renderer_for(variant, base)
    with _merged(variant, base):
        name_ends(base.model, renderer)
        name_generation(base.model, generation_of(variant))
        try:
            base.model.save_pretrained(folder)
        except SafetensorError as error:
            # A full disk does not reach us as an OSError here.
            raise VariantError(f"the merged model cannot be written: {error}") from None
    self_describing_tokenizer(renderer).save_pretrained(folder)


def _dense_base(variant: Variant, dtype: DType) -> Base:
    """Load the original weights in the written dtype."""
    own = None if dtype == "auto" else dtype
    return load_base_for(variant, dtype=own, quantise="none")


@contextmanager
def _merged(variant: Variant, base: Base) -> Iterator[None]:
    """Merge into the original weights, rounding once to their dtype."""
    adapter = make_ready(variant, base).adapter
    assert adapter is not None
    adapter.merge()
    with adapter.as_plain_model():
        yield


def _fewer_bits(written: torch.dtype, own: torch.dtype) -> torch.dtype:
    """Choose what a written model computes in to be compared with its variant.

    A variant in bf16 is not to be compared with a model that computes in fp32: the sums alone
    differ by more than the rounding of weights.
    """
    return own if torch.finfo(own).eps > torch.finfo(written).eps else written


def _merged_logits(
    variant: Variant, folder: Path, renderer: Renderer, computed: torch.dtype
) -> tuple[Tensor, str, float, str]:
    """Read the merged model back, as another program would."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    dtype = settings.get("dtype") or settings.get("torch_dtype")
    read: DType = _GGUF_DTYPES[_fewer_bits(DTYPES[dtype], computed)]
    base = load_base(str(folder), dtype=read, device=variant.manifest.base.device)
    own = renderer_of(base, render_of(variant))
    found, wanted = probe_ids(own), probe_ids(renderer)
    if found != wanted:
        raise VariantError(f"{variant.name}: the written tokenizer reads texts in another way")
    _ensure_generates(variant, base, found)
    logits = own_probe_logits(own, base)
    return logits, dtype, rounding_change(own, base, logits, base.dtype), read


def _ensure_generates(variant: Variant, base: Base, prompt: list[int]) -> None:
    """Let a written model go on from a prompt with its own generation settings."""
    ids = torch.tensor(prompt, device=base.device)[None]
    with base.untouched(), torch.random.fork_rng():
        try:
            answer = base.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=_FEW_TOKENS
            )
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise VariantError(
                f"{variant.name}: the written model does not generate: {first_line(error)}",
                hint="look into the generation_config.json of the base",
            ) from error
    if answer.shape[1] <= len(prompt):
        raise VariantError(f"{variant.name}: the written model generates nothing")


def _write_peft(variant: Variant, folder: Path, dtype: DType) -> tuple[Tensor, str]:
    """Write PEFT's files and attach them to the variant's base."""
    files = _peft_files(variant, dtype)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    base = load_base_for(variant)
    tokenizer = self_describing_tokenizer(renderer_for(variant, base))
    if tokenizer is not base.tokenizer:
        tokenizer.save_pretrained(folder)
    load(base, variant.manifest.method, files)
    return own_probe_logits(renderer_for(variant, base), base), _dtypes(files[WEIGHTS_FILE])


def _write_gguf(
    variant: Variant, folder: Path, dtype: DType, computed: torch.dtype, *, merged: bool
) -> tuple[Tensor, str, str, float, str]:
    """Write the whole model for llama.cpp and read it back with Transformers' own reader."""
    base = _dense_base(variant, dtype)
    name = f"{variant.name}{'' if merged else '-base'}.gguf"
    kind = _GGUF_DTYPES[base.dtype]
    renderer = renderer_for(variant, base)
    with _merged(variant, base) if merged else nullcontext():
        tokenizer = renderer.tokenizer if merged else base.tokenizer
        end = renderer.facts.end
        write_gguf_model(base.model, tokenizer, folder / name, variant.name, kind, end=end)
    read = _fewer_bits(DTYPES[kind], computed)
    # Where the variant computes in fp32, sums in the written dtype would only blur the comparison.
    summed = torch.float32 if computed == torch.float32 else read
    model = read_gguf_model(folder / name, base.model.config, summed)
    prepare_model(model)
    found = replace(base, model=model)
    note = ""
    if splits_otherwise(base.tokenizer):
        note = (
            "llama.cpp splits texts in another way than this tokenizer, and then reads some of "
            "them as other tokens: compare answers there before you rely on it"
        )
    renderer = renderer_for(variant, found)
    _ensure_generates(variant, found, probe_ids(renderer))
    logits = own_probe_logits(renderer, found)
    return logits, kind, note, rounding_change(renderer, found, logits, read), _GGUF_DTYPES[read]


def _write_gguf_lora(variant: Variant, folder: Path, dtype: DType) -> tuple[Tensor, str]:
    """Write a LoRA for llama.cpp and attach what was written to the original weights."""
    base = _dense_base(variant, "auto")
    adapter = make_ready(variant, base).adapter
    assert isinstance(adapter, Lora)
    path = folder / f"{variant.name}-lora.gguf"
    kind = _GGUF_DTYPES[DTYPES.get(dtype, torch.float32)]
    write_gguf_lora(base, adapter, path, variant.name, kind)
    adapter.detach()
    read_gguf_lora(base, path)
    return own_probe_logits(renderer_for(variant, base), base), kind


def _write_adapterhub(variant: Variant, folder: Path, dtype: DType) -> tuple[Tensor, str]:
    """Write AdapterHub's files and attach them to the variant's base."""
    base = load_base_for(variant)
    adapter = make_ready(variant, base).adapter
    assert isinstance(adapter, Bottleneck)
    files = adapterhub.write_adapterhub(base, adapter, variant.name.replace(".", "-"))
    weights = adapterhub.WEIGHTS_FILE
    files[weights] = _cast(files[weights], dtype)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    adapter.detach()
    adapterhub.read_adapterhub(base, files)
    return own_probe_logits(renderer_for(variant, base), base), _dtypes(files[weights])


def _cast(content: bytes, dtype: DType) -> bytes:
    """Give a safetensors file's tensors another dtype if asked for."""
    if dtype == "auto":
        return content
    tensors = load_tensors(content)
    cast = {name: tensor.to(DTYPES[dtype]) for name, tensor in tensors.items()}
    return save(cast, {"format": "pt", **metadata_of(content)})


def _dtypes(content: bytes) -> str:
    """Name the dtypes of a safetensors file."""
    return ", ".join(sorted({dtype_name(one.dtype) for one in load_tensors(content).values()}))


def _peft_files(variant: Variant, dtype: DType) -> dict[str, bytes]:
    """Take the files PEFT knows, with tensors in another dtype if asked for."""
    files = variant.files()
    files[WEIGHTS_FILE] = _cast(files[WEIGHTS_FILE], dtype)
    return files
