"""LoRA: low-rank updates of frozen linear layers (arXiv 2106.09685; rank-stabilised 2312.03732)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kamerton.adapters.adapter import Capabilities
from kamerton.adapters.formats.peft_lora import (
    PEFT_PREFIX,
    LoraFile,
    factor_names,
    row_name,
    write_lora,
)
from kamerton.adapters.lora.embedding import LoraEmbedding
from kamerton.adapters.lora.layer import LoraLayer, LoraLinear
from kamerton.adapters.lora.loftq import check_quantised, rounding_parts
from kamerton.adapters.lora.pissa import principal, stretch
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.parts import Parts
from kamerton.adapters.switches import switched_off
from kamerton.adapters.targets import check_patterns, target_paths, token_paths
from kamerton.adapters.token_rows import TokenRows, attach_rows
from kamerton.core.errors import AdapterError
from kamerton.core.seeds import derive_seed
from kamerton.models.base import Base
from kamerton.models.heads import UpdatedHead
from kamerton.models.linear import dense, frozen_weight, is_linear, is_transposed, linear_size

__all__ = ["Lora", "LoraSettings", "attach_lora", "wrap_layers"]

_Value = TypeVar("_Value", int, float)


class Lora:
    """An attached LoRA."""

    def __init__(
        self,
        base: Base,
        settings: LoraSettings,
        layers: Mapping[str, LoraLayer],
        rows: TokenRows | None = None,
    ) -> None:
        self._base = base
        self.layers = dict(layers)
        self.rows = rows
        self._untied = False
        self._originals: dict[str, Tensor] = {}
        self.settings = settings
        self.capabilities = Capabilities(
            mergeable=True,
            # The logits of trained tokens are a product of their own, which rounds otherwise.
            identity_at_start=settings.init != "loftq" and rows is None,
            exact_gradient=not settings.dora,
            formats=frozenset({"peft", "gguf-lora"}),
        )

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the trainable tensors under PEFT's names.

        Returns:
            Two fp32 tensors per layer, three with `dora`.
        """
        named: dict[str, nn.Parameter] = {}
        for path, layer in self.layers.items():
            a, b = factor_names(path, embedding=isinstance(layer, LoraEmbedding))
            named[a], named[b] = layer.a, layer.b
            if layer.magnitude is not None:
                named[f"{PEFT_PREFIX}{path}.lora_magnitude_vector"] = layer.magnitude
        return named | self._row_parameters()

    def _row_parameters(self) -> dict[str, nn.Parameter]:
        """Trained rows by PEFT's names; one tensor where embedding and head share it."""
        if self.rows is None:
            return {}
        embedding, head = token_paths(self._base)
        named = {row_name(embedding): self.rows.rows}
        if self.rows.head_rows is not self.rows.rows:
            named[row_name(head)] = self.rows.head_rows
        return named

    def rate_factor(self, name: str) -> float:
        """Let B learn faster than A by a constant ratio (LoRA+, arXiv 2402.12354, section 4).

        Args:
            name: The name of a tensor of `parameters`.

        Returns:
            `lora_plus_ratio` for B, 1 for A and for DoRA's lengths, which the paper does not name.
        """
        return self.settings.lora_plus_ratio if name.endswith(".lora_B.weight") else 1.0

    def files(self) -> dict[str, bytes]:
        """Write the adapter in PEFT's format; with PiSSA a plain LoRA of doubled rank.

        Returns:
            `adapter_config.json` and `adapter_model.safetensors`; with PiSSA and LoftQ also the
            start: with it PiSSA is again what it was, and LoftQ fits the unrounded base too.
        """
        settings = self.settings
        times = 2 if settings.init in ("pissa", "pissa-fast") else 1
        tensors, start, rounding = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
        for path, layer in self.layers.items():
            a, b = (factor.detach().cpu() for factor in layer.factors())
            names = factor_names(path, embedding=isinstance(layer, LoraEmbedding))
            tensors |= dict(zip(names, (a, b), strict=True))
            if layer.magnitude is not None:
                tensors[f"{PEFT_PREFIX}{path}.lora_magnitude_vector"] = (
                    layer.magnitude.detach().cpu()
                )
            if layer.start is not None:
                start[path] = layer.start[0].cpu()
            if layer.rounding is not None:
                rounding[f"{path}.lora_A.weight"] = layer.rounding[0].cpu()
                rounding[f"{path}.lora_B.weight"] = layer.rounding[1].cpu()

        rows = {name: p.detach().cpu() for name, p in self._row_parameters().items()}
        leaves = [name.split(".token_adapter")[0].rsplit(".", 1)[-1] for name in rows]

        def alpha_at(path: str) -> float:
            return stretch(settings.alpha_at(path), times, settings.rank_stabilised)

        rank, alpha = settings.rank * times, alpha_at("")
        return write_lora(
            LoraFile(
                tensors=tensors | rows,
                token_ids={leaf: self.rows.ids for leaf in leaves if self.rows},
                rank=rank,
                alpha=alpha,
                rank_pattern=self._differing(lambda path: settings.rank_at(path) * times, rank),
                alpha_pattern=self._differing(alpha_at, alpha),
                rank_stabilised=settings.rank_stabilised,
                dora=settings.dora,
                dropout=settings.dropout,
                base=self._base.identity.id,
                transposed=any(is_transposed(layer.layer) for layer in self.layers.values()),
                start=start,
                rounding=rounding,
                targets=self._peft_targets(),
            )
        )

    def _differing(self, value_at: Callable[[str], _Value], default: _Value) -> dict[str, _Value]:
        """The values by full paths, so that PEFT's patterns (regular expressions) mean the same."""
        return {p: value_at(p) for p in sorted(self.layers) if value_at(p) != default}

    def _peft_targets(self) -> tuple[str, ...]:
        """Leaf names when they mean exactly our layers in PEFT, else full paths.

        Servers such as vLLM know leaf names only.
        """
        leaves = {path.rsplit(".", 1)[-1] for path in self.layers}
        meant = {
            name
            for name, module in self._base.model.named_modules()
            if name.rsplit(".", 1)[-1] in leaves
            and (isinstance(module, LoraLayer | nn.Embedding) or is_linear(module))
        }
        return tuple(sorted(leaves if meant == self.layers.keys() else self.layers))

    def train(self, mode: bool = True) -> None:
        """Switch dropout of the updates on or off; the base stays in evaluation mode.

        Args:
            mode: True while training.
        """
        for layer in self.layers.values():
            layer.training = mode

    def disabled(self) -> AbstractContextManager[None]:
        """Answer as the base alone for a while.

        Returns:
            A context.
        """
        parts: list[LoraLayer | TokenRows] = [*self.layers.values()]
        return switched_off([*parts, self.rows] if self.rows is not None else parts)

    @contextmanager
    def as_plain_model(self) -> Iterator[None]:
        """Put the frozen layers back for a while, with merged weights if merged.

        Yields:
            Nothing.
        """
        model = self._base.model
        self._put_back()
        try:
            yield
        finally:
            for path, layer in self.layers.items():
                model.set_submodule(path, layer)
            if self.rows is not None:
                self.rows.put(model)

    def detach(self) -> None:
        """Put the frozen layers back; a merged adapter is unmerged first."""
        self.unmerge()
        self._put_back()
        self.layers, self.rows = {}, None

    def release(self) -> Parts:
        """Put the frozen layers back and give the updates away.

        Returns:
            Updates of linear layers, and the parts for the embedding and the head.
        """
        self._put_back()
        head_path = token_paths(self._base)[1]
        linears = {p: layer for p, layer in self.layers.items() if isinstance(layer, LoraLinear)}
        head: UpdatedHead | None = linears.pop(head_path, None)
        ends = [layer for layer in self.layers.values() if isinstance(layer, LoraEmbedding)]
        if self.rows is not None:
            return Parts(linears, embedding=self.rows, head=self.rows.head)
        return Parts(linears, embedding=ends[0] if ends else None, head=head)

    def _put_back(self) -> None:
        for path, layer in self.layers.items():
            self._base.model.set_submodule(path, layer.layer)
        if self.rows is not None:
            self.rows.take_off(self._base.model)

    @torch.no_grad()
    def merge(self) -> None:
        """Fold the updates into the weights, rounding once to the base's dtype.

        The original weights are kept, so that `unmerge` restores them exactly.

        Raises:
            AdapterError: If the base is quantised: merging into few bits loses the update.
        """
        assert not self._originals, "already merged"
        for layer in self.layers.values():
            # Raises where one is quantised, before anything is changed.
            _ = layer.weight
        self._untie()
        for path, layer in self.layers.items():
            self._originals[path] = layer.weight.clone()
            layer.weight.copy_(layer.updated_weight().to(layer.weight.dtype))
            layer.enabled = False
        if self.rows is not None:
            self.rows.merge(self._base.model)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Restore the weights as they were before `merge`; without it, do nothing."""
        for path, original in self._originals.items():
            self.layers[path].weight.copy_(original)
            self.layers[path].enabled = True
        self._originals = {}
        self._tie_again()
        if self.rows is not None:
            self.rows.unmerge(self._base.model)

    def _untie(self) -> None:
        """Give a head that shares the embeddings' weight its own: only one of both is updated."""
        ends = self._ends()
        changed = any(isinstance(module, LoraLayer) for module in ends)
        embedding, head = (getattr(module, "layer", module) for module in ends)
        if not changed or head.weight is not embedding.weight:
            return
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        self._base.model.config.get_text_config().tie_word_embeddings = False
        self._untied = True

    def _tie_again(self) -> None:
        if self._untied:
            embedding, head = (getattr(module, "layer", module) for module in self._ends())
            head.weight = embedding.weight
            self._base.model.config.get_text_config().tie_word_embeddings = True
            self._untied = False

    def _ends(self) -> tuple[Any, Any]:
        model = self._base.model
        return model.get_input_embeddings(), model.get_output_embeddings()


def attach_lora(base: Base, settings: LoraSettings, seed: int) -> Lora:
    """Attach a fresh LoRA that changes nothing yet.

    A is random and B zero; or the principal part of the weight, counted from itself (PiSSA). With
    LoftQ it changes what a quantised base answers, towards what the unrounded one would.

    Args:
        base: The base; its weights are not touched.
        settings: Method settings.
        seed: The seed of A; each layer draws from its own stream.

    Returns:
        The adapter.

    Raises:
        AdapterError: If a target matches no linear layer, or a pattern none of those.
        ModelError: If LoftQ finds no original weights.
    """
    if settings.init == "loftq":
        check_quantised(base)
    paths = target_paths(base, settings.targets, settings.layers, ends=True)
    check_patterns(base, "rank_pattern", settings.rank_pattern, paths)
    check_patterns(base, "alpha_pattern", settings.alpha_pattern, paths)
    lora = wrap_layers(base, settings, paths)
    try:
        if settings.new_tokens:
            lora = Lora(base, settings, lora.layers, attach_rows(base, settings.new_tokens))
        _begin(base, lora, seed)
    except BaseException:
        lora.detach()
        raise
    return lora


def _begin(base: Base, lora: Lora, seed: int) -> None:
    """Give a fresh LoRA the values that it begins with."""
    settings = lora.settings
    for path, layer in lora.layers.items():
        own_seed = derive_seed(seed, "lora", path)
        if isinstance(layer, LoraEmbedding):
            # PEFT's choice: A stays zero, B standard normal.
            generator = torch.Generator().manual_seed(own_seed)
            layer.b.data.copy_(torch.randn(layer.b.shape, generator=generator))
        elif settings.init == "random":
            generator = torch.Generator().manual_seed(own_seed)
            # PEFT's choice, kaiming_uniform_ with a = sqrt(5): uniform within 1/sqrt(in).
            bound = layer.a.shape[1] ** -0.5
            values = torch.empty(layer.a.shape).uniform_(-bound, bound, generator=generator)
            layer.a.data.copy_(values)
        elif settings.init != "loftq":
            layer.start = principal(
                dense(frozen_weight(layer.layer), torch.float32),
                settings.rank_at(path),
                settings.scaling_at(path),
                own_seed if settings.init == "pissa-fast" else None,
            )
    if settings.init == "loftq":
        for layer, start in rounding_parts(base, lora.layers, seed):
            layer.a.data.copy_(start[0])
            layer.b.data.copy_(start[1])
            layer.rounding = start


def wrap_layers(base: Base, settings: LoraSettings, paths: Sequence[str]) -> Lora:
    """Put layers with updates of zero in the place of linear layers and embeddings.

    Args:
        base: The base.
        settings: Method settings.
        paths: The layers' paths.

    Returns:
        The adapter, with A and B zero.

    Raises:
        AdapterError: If a layer has an update already, or the rank is above its smaller side.
    """
    layers: dict[str, LoraLayer] = {}
    for path in paths:
        layer = base.model.get_submodule(path)
        if isinstance(layer, LoraLayer):
            raise AdapterError(f"adapter: {path} has an adapter already")
        _check_end(base, settings, layer)
        if settings.init != "random" and settings.rank_at(path) > min(linear_size(layer)):
            raise AdapterError(
                f"adapter.rank: init = '{settings.init}' needs a rank of at most "
                f"{min(linear_size(layer))} for {path}, got {settings.rank_at(path)}"
            )
    for path in paths:
        layer = base.model.get_submodule(path)
        rank, scaling = settings.rank_at(path), settings.scaling_at(path)
        if isinstance(layer, nn.Embedding):
            layers[path] = LoraEmbedding(layer, rank, scaling)
        else:
            layers[path] = LoraLinear(layer, rank, scaling, settings.dropout, settings.dora)
        base.model.set_submodule(path, layers[path])
    return Lora(base, settings, layers)


def _check_end(base: Base, settings: LoraSettings, layer: nn.Module) -> None:
    """Refuse what the embeddings and the head cannot have."""
    is_embedding = isinstance(layer, nn.Embedding)
    if not is_embedding and layer is not base.model.get_output_embeddings():
        return
    name = "embeddings" if is_embedding else "head"
    if settings.dora or (is_embedding and settings.init != "random") or (settings.init == "loftq"):
        asked = "dora" if settings.dora else f'init = "{settings.init}"'
        raise AdapterError(
            f"adapter.{asked} is for the layers of the decoder blocks, the targets name the {name}",
            hint=f"leave the {name} out of adapter.targets, or use a plain LoRA",
        )
