"""A base: a frozen model with its tokenizer, run on packed rows.

The rest of Kamerton sees a Transformers model only through `Base.hidden` and `Base.head`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from kamerton.models.attention.cache import KVCache
from kamerton.models.attention.layout import Layout
from kamerton.models.attention.prefix import PrefixSource, as_past
from kamerton.models.attention.ragged import ATTENTION_NAME, register_ragged_attention
from kamerton.models.fused import original_modules
from kamerton.models.head_form import HeadForm, backbone_name, recognise_head
from kamerton.models.heads import Head, UpdatedHead
from kamerton.models.score_head import ScoreHead

__all__ = [
    "Base",
    "BaseIdentity",
    "supports_ragged",
    "use_ragged",
]

_LINEAR_ATTENTION = ("linear_attention", "mamba", "recurrent", "conv", "hybrid")


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """What tells one base from another.

    Attributes:
        id: As the recipe named it.
        folder: Where its files are.
        weight_hash: Over the bytes of its weight files.
        tokenizer_hash: Over its tokenizer files without the chat template.
        template_hash: Over its chat template, or of the one supplied for it.
        architecture: Transformers class name.
        num_parameters: Count, tied weights once.
        vocab_size: Rows of the embedding.
        quantise: How the linear layers of its blocks are held: `none`, `nf4` or `int8`.
        commit: Of the Hub, where it came from there.
    """

    id: str
    folder: Path
    weight_hash: str
    tokenizer_hash: str
    template_hash: str
    architecture: str
    num_parameters: int
    vocab_size: int
    quantise: str = "none"
    commit: str = ""


@dataclass(eq=False)
class Base:
    """A model that answers for packed rows.

    Attributes:
        model: A Transformers causal language model, in evaluation mode, nothing trainable.
        tokenizer: Its tokenizer.
        identity: What it is.
        ragged: Whether rows go through ragged attention, else through padded rows.
        notice: Why not, when `ragged` is False.
        prefix: What an adapter lets stand before every family of every row.
        before_head: What an adapter does before the head's weight is read; the backbone has hooks.
        score_head: What an adapter judges with; the model itself has none.
        head_form: How the model turns hidden states into logits.
    """

    model: Any
    tokenizer: Any
    identity: BaseIdentity
    ragged: bool
    notice: str | None = None
    prefix: PrefixSource | None = None
    before_head: Callable[[], None] | None = None
    score_head: ScoreHead | None = None
    head_form: HeadForm = field(init=False)

    def __post_init__(self) -> None:
        # Before any adapter changes the head.
        self.head_form = recognise_head(self.model)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights, and so the computation, are in."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def backbone(self) -> nn.Module:
        """The model without its head."""
        backbone: nn.Module = self.model.get_submodule(backbone_name(self.model))
        return backbone

    @property
    def head(self) -> Head:
        """The head as a function of hidden states."""
        if self.before_head is not None:
            self.before_head()
        layer: Any = self.model.get_output_embeddings()
        form = self.head_form
        if form.own is not None:
            weight = getattr(layer, "weight", None)
            if weight is None:
                weight = self.model.get_input_embeddings().weight
            return Head(weight, own=form.own)
        update = rows = None
        if isinstance(layer, UpdatedHead):
            update, rows, layer = layer.low_rank(), layer.own_rows(), layer.layer
        bias = getattr(layer, "bias", None)
        return Head(layer.weight, bias, form.scale, form.softcap, update, rows)

    @property
    def num_layers(self) -> int:
        """Number of decoder blocks."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end what the base generates, as its generation configuration lists them."""
        config = getattr(self.model, "generation_config", None) or self.model.config
        found = getattr(config, "eos_token_id", None)
        if found is None:
            return ()
        return tuple(map(int, found)) if isinstance(found, list | tuple) else (int(found),)

    @property
    def num_virtual(self) -> int:
        """Positions that the prefix takes; 0 without one."""
        return 0 if self.prefix is None else self.prefix.num_tokens

    @torch.no_grad()
    def new_cache(self, num_slots: int) -> KVCache:
        """Make a cache whose slots begin with the prefix.

        Args:
            num_slots: Number of sequences.

        Returns:
            The cache; every slot has a past of `num_virtual` tokens.
        """
        cache = KVCache(num_slots)
        if self.prefix is not None:
            cache.seed(self.prefix.compute(), self.dtype)
        return cache

    def hidden(self, ids: Tensor, layout: Layout) -> Tensor:
        """Run the model without its head on one packed row.

        Args:
            ids: [T] token ids.
            layout: The row's segments.

        Returns:
            [T, E] last hidden states, after the final norm.
        """
        if not self.ragged:
            return self.plain_hidden(ids, layout)
        if self.prefix is not None and layout.cache is None:
            layout = replace(layout, prefix=self.prefix.compute())
        positions = torch.tensor(layout.positions, device=ids.device)
        output = self.backbone(
            input_ids=ids[None], position_ids=positions[None], use_cache=False, layout=layout
        )
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def plain_hidden(self, ids: Tensor, layout: Layout) -> Tensor:
        """Compute what `hidden` computes the way Transformers does, on padded rows.

        Args:
            ids: [T] token ids.
            layout: The row's segments; without a cache.

        Returns:
            [T, E] last hidden states.
        """
        past = self.plain_past(len(layout.segments))
        with self.plain_attention():
            return self._padded_hidden(ids, layout, past)

    def plain_past(self, num_rows: int) -> DynamicCache | None:
        """Give the prefix the way Transformers takes it.

        Args:
            num_rows: Rows that it stands before.

        Returns:
            For one forward pass; None without a prefix.

        Raises:
            ModelError: If blocks are recomputed, which would drop it.
        """
        if self.prefix is None:
            return None
        return as_past(self.prefix, num_rows, self.model)

    @torch.no_grad()
    def own_logits(self, ids: Tensor) -> Tensor:
        """Run the model's own forward pass on one text, with whatever adapter is attached.

        Nothing of ours computes but that adapter: what `hidden` and `head` give is compared
        with this.

        Args:
            ids: [T] token ids.

        Returns:
            [T, V] logits in fp32.
        """
        # The prefix of a trained prompt is read by packed rows.
        past = self.plain_past(1)
        given = {} if past is None else {"past_key_values": past}
        with self.untouched():
            output = self.model(input_ids=ids[None], **given, use_cache=False)
        logits: Tensor = output.logits[0].float()
        return logits

    @contextmanager
    def plain_attention(self) -> Iterator[None]:
        """Use Transformers' own attention for a while.

        Yields:
            Nothing.
        """
        with self.attention("sdpa" if self.model._supports_sdpa else "eager"):
            yield

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Let the model compute as Transformers made it for a while: its own modules and attention.

        Yields:
            Nothing.
        """
        with self.plain_attention(), original_modules(self.model):
            yield

    @contextmanager
    def attention(self, name: str) -> Iterator[None]:
        """Use another attention function for a while.

        Args:
            name: As registered with Transformers.

        Yields:
            Nothing.
        """
        # Parts of a model may hold copies of its configuration.
        held = [self.model.config, self.model.config.get_text_config()]
        held += [part.config for part in self.model.modules() if hasattr(part, "config")]
        held = [config for config in held if hasattr(config, "_attn_implementation")]
        configs = list({id(config): config for config in held}.values())
        before = [config._attn_implementation for config in configs]
        for config in configs:
            config._attn_implementation = name
        try:
            yield
        finally:
            for config, old in zip(configs, before, strict=True):
                config._attn_implementation = old

    def _padded_hidden(
        self, ids: Tensor, layout: Layout, past: DynamicCache | None = None
    ) -> Tensor:
        """Give every segment, with its ancestors before it, a padded row of its own."""
        assert layout.cache is None, "padded rows have no cache slots"
        device = ids.device
        rows = []
        for segment in layout.segments:
            spans = [(a.start, a.stop) for a in layout.ancestors(segment)]
            spans.append((segment.start, segment.stop))
            rows.append(torch.cat([torch.arange(a, b, device=device) for a, b in spans]))
        longest = max(len(row) for row in rows)
        index = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
        mask = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
        for number, row in enumerate(rows):
            index[number, : len(row)] = row
            mask[number, : len(row)] = 1
        inputs: dict[str, Any] = {"input_ids": ids[index] * mask, "attention_mask": mask}
        if past is not None:
            inputs["past_key_values"] = past
            ones = mask.new_ones(len(rows), self.num_virtual)
            inputs["attention_mask"] = torch.cat([ones, mask], dim=1)
        hidden = self.backbone(**inputs, use_cache=False).last_hidden_state
        own = [
            hidden[number, len(row) - segment.length : len(row)]
            for number, (row, segment) in enumerate(zip(rows, layout.segments, strict=True))
        ]
        return torch.cat(own)


def supports_ragged(model: Any) -> str | None:
    """Say why a model cannot run on packed rows.

    Args:
        model: A Transformers causal language model.

    Returns:
        The reason, or None when it can.
    """
    if not getattr(model, "_supports_attention_backend", False):
        return f"{type(model).__name__} does not go through Transformers' attention interface"
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    other = sorted(k for k in kinds if any(name in k for name in _LINEAR_ATTENTION))
    if other:
        return f"{type(model).__name__} mixes in layers that are not attention ({other[0]})"
    if any("chunk" in kind for kind in kinds):
        return f"{type(model).__name__} attends within chunks of a text"
    return None


def use_ragged(model: Any) -> None:
    """Switch a model to ragged attention.

    Args:
        model: A model for which `supports_ragged` has no objection.
    """
    register_ragged_attention()
    model.set_attn_implementation(ATTENTION_NAME)
