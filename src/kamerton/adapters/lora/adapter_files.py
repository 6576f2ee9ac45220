"""Attaching a stored LoRA, written by us or by PEFT."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kamerton.adapters.formats.peft_lora import (
    PEFT_PREFIX,
    LoraFile,
    factor_names,
    read_lora,
    resolve,
    row_name,
)
from kamerton.adapters.lora.embedding import LoraEmbedding
from kamerton.adapters.lora.lora import Lora, wrap_layers
from kamerton.adapters.lora.pissa import changes, principal, stretch
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.targets import ends_with, module_at, token_paths
from kamerton.adapters.token_rows import rows_at
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from kamerton.models.linear import dense, frozen_weight, is_linear, linear_size

__all__ = ["load_lora"]


def load_lora(base: Base, files: Mapping[str, bytes]) -> Lora:
    """Attach a LoRA from PEFT's files, written by us or by PEFT.

    Args:
        base: The base it was made for.
        files: `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
        The adapter.

    Raises:
        AdapterError: If a tensor matches no module, has the wrong shape, or the file asks for
            what is not supported.
    """
    stored = read_lora(files)
    settings = _settings(stored, rounded=base.identity.quantise != "none")
    _check_modules(base, settings)
    _check_complete(base, stored, settings)
    _check_shapes(base, stored, settings)
    _check_frozen(base, stored)
    rows = _rows_of(base, stored)
    lora = wrap_layers(base, settings, settings.targets)
    try:
        if rows is not None:
            lora = Lora(base, settings, lora.layers, rows_at(base, *rows))
        _fill(lora, stored)
    except BaseException:
        lora.detach()
        raise
    return lora


def _fill(lora: Lora, stored: LoraFile) -> None:
    """Give layers the values of a file."""
    settings = lora.settings
    for path, layer in lora.layers.items():
        names = factor_names(path, embedding=isinstance(layer, LoraEmbedding))
        a, b = (stored.tensors[name] for name in names)
        if stored.start:
            # This undoes `paired`.
            rank = settings.rank_at(path)
            layer.start = _on(layer.a, stored.start[path], b[:, rank:])
            a, b = a[rank:], b[:, :rank]
        elif stored.principal:
            weight = dense(frozen_weight(layer.layer), torch.float32)
            scaling = settings.scaling_at(path)
            start = principal(weight, settings.rank_at(path), scaling)
            (a, b), layer.start = changes(*_on(layer.a, a, b), *start)
        elif stored.rounding:
            a_start, b_start = (stored.rounding[f"{path}.lora_{x}.weight"] for x in "AB")
            start = _on(layer.a, a_start, b_start)
            if settings.init == "loftq":
                layer.rounding = start
            else:
                layer.start = start
                a, b = a - a_start, b - b_start
        layer.a.data.copy_(a)
        layer.b.data.copy_(b)
        if layer.magnitude is not None:
            layer.magnitude.data.copy_(stored.tensors[f"{PEFT_PREFIX}{path}.lora_magnitude_vector"])


def _rows_of(base: Base, stored: LoraFile) -> tuple[Sequence[int], Tensor, Tensor] | None:
    """Find the trained rows of single tokens: ids, of the embedding, of the head."""
    if not stored.token_ids:
        return None
    ids, *others = set(stored.token_ids.values())
    embedding, head = token_paths(base)
    weight = base.model.get_input_embeddings().weight
    shared = base.model.get_output_embeddings().weight is weight
    rows = stored.tensors.get(row_name(embedding))
    if others or rows is None or min(ids) > len(weight):
        raise AdapterError(
            "adapter: trained tokens must have rows in the embeddings, and the same ones in the "
            "head if there are any",
            hint="the adapter was made for another base",
        )
    rows = rows.to(weight.device)
    if shared:
        return ids, rows, rows
    own = stored.tensors.get(row_name(head))
    if own is None:
        if max(ids) >= len(weight):
            raise AdapterError("adapter: new tokens have rows in the embeddings, none in the head")
        # PEFT may train those of the embeddings alone.
        own = base.model.get_output_embeddings().weight[list(ids)].float()
    return ids, rows, own.to(weight.device)


def _check_frozen(base: Base, stored: LoraFile) -> None:
    """Refuse a file that was saved with other weights of the base than these."""
    for path, tensor in stored.frozen.items():
        own = getattr(module_at(base, path), "weight", None)
        if (
            not isinstance(own, Tensor)
            or own.shape != tensor.shape
            or not torch.equal(own.float().cpu(), tensor.to(own.dtype).float())
        ):
            raise AdapterError(
                f"adapter: the file holds a weight of {path} that is not the base's",
                hint="embeddings that were trained or extended besides LoRA cannot be loaded",
            )


def _on(like: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a.to(like.device).contiguous(), b.to(like.device).contiguous()


def _settings(stored: LoraFile, rounded: bool) -> LoraSettings:
    """Say what the file holds; PiSSA is stored with doubled rank.

    Over an unrounded base LoftQ has nothing to make up for: it is then what training changed since
    its start, as with PiSSA.
    """
    paths = {
        name.removeprefix(PEFT_PREFIX).rsplit(".lora_", 1)[0]
        for name in stored.tensors
        if ".lora_" in name
    }
    targets = tuple(sorted(paths))
    times = 2 if stored.start else 1
    ranks, alphas = resolve(stored.rank_pattern, targets), resolve(stored.alpha_pattern, targets)

    def alpha(value: float) -> float:
        return stretch(value, 1 / times, stored.rank_stabilised)

    init: Literal["random", "pissa", "loftq"] = "random"
    if stored.start or stored.principal or (stored.rounding and not rounded):
        init = "pissa"
    elif stored.rounding:
        init = "loftq"
    return LoraSettings(
        rank=stored.rank // times,
        alpha=alpha(stored.alpha),
        rank_stabilised=stored.rank_stabilised,
        init=init,
        dora=stored.dora,
        dropout=stored.dropout,
        targets=targets,
        rank_pattern={path: rank // times for path, rank in ranks.items()},
        alpha_pattern={path: alpha(value) for path, value in alphas.items()},
    )


def _check_modules(base: Base, settings: LoraSettings) -> None:
    unknown = [path for path in settings.targets if not _can_be_updated(module_at(base, path))]
    if unknown:
        raise AdapterError(
            f"adapter: {len(unknown)} of {len(settings.targets)} modules are not linear layers of "
            f"{base.identity.architecture}, the first is {unknown[0]}",
            hint="the adapter was made for another base",
        )


def _check_complete(base: Base, stored: LoraFile, settings: LoraSettings) -> None:
    """Refuse a file that lacks modules which its settings name."""
    lacking = [
        path
        for path, module in base.model.named_modules()
        if _can_be_updated(module)
        and path not in settings.targets
        and any(ends_with(path, target) for target in stored.targets)
    ]
    if lacking:
        raise AdapterError(
            f"adapter: target_modules name {lacking[0]}, which has no tensors in the file",
            hint="tensors are missing, or the adapter was made for another base",
        )


def _can_be_updated(module: nn.Module | None) -> bool:
    return is_linear(module) or isinstance(module, nn.Embedding)


def _check_shapes(base: Base, stored: LoraFile, settings: LoraSettings) -> None:
    want: dict[str, tuple[int, ...]] = {}
    found = {name: tuple(tensor.shape) for name, tensor in stored.tensors.items()}
    for path in settings.targets:
        rank = settings.rank_at(path) * (2 if stored.start else 1)
        layer = base.model.get_submodule(path)
        is_embedding = isinstance(layer, nn.Embedding)
        out, inner = layer.weight.shape[::-1] if is_embedding else linear_size(layer)
        a, b = factor_names(path, embedding=is_embedding)
        want |= {a: (rank, inner), b: (out, rank)}
        if stored.dora:
            want[f"{PEFT_PREFIX}{path}.lora_magnitude_vector"] = (out,)
        if stored.start:
            want[f"start of {path}"] = (rank // 2, inner)
        if stored.rounding:
            want[f"start of {path}.lora_A.weight"] = (rank, inner)
            want[f"start of {path}.lora_B.weight"] = (out, rank)
    for path, unnamed in zip(token_paths(base), ("", "-"), strict=True):
        # PEFT names the module, or lists ids alone, which are of the embeddings.
        leaf = path.rsplit(".", 1)[-1]
        ids = stored.token_ids.get(leaf) or stored.token_ids.get(unnamed)
        if ids:
            want[row_name(path)] = (len(ids), base.model.get_submodule(path).weight.shape[1])
    starts = {**stored.start, **stored.rounding}
    found |= {f"start of {path}": tuple(t.shape) for path, t in starts.items()}
    wrong = [
        f"adapter: {name} must be {want.get(name, 'absent')}, is {found.get(name, 'missing')}"
        for name in sorted(want | found)
        if want.get(name) != found.get(name)
    ]
    if wrong:
        raise AdapterError("\n".join(wrong), hint="the adapter was made for another base")
