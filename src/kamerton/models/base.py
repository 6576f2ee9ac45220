"""A base: a frozen model with its tokenizer, run on packed rows.

The rest of Kamerton sees a Transformers model only through `Base.hidden` and `Base.head`.
"""

from collections.abc import Callable, Iterator, Sequence
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
from kamerton.models.fused import original_modules
from kamerton.models.head_form import HeadForm, backbone_name, recognise_head
from kamerton.models.heads import Head, UpdatedHead
from kamerton.models.llama_steps import LlamaSteps
from kamerton.models.score_head import ScoreHead
from kamerton.models.segment_adapters import ComputedRow, SegmentAdapter

__all__ = ["Base", "BaseIdentity"]


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """The identity of a base: what tells it from another.

    Attributes:
        id: The name that the recipe gave it.
        folder: The folder of its files.
        weight_hash: Hash of the bytes of its weight files.
        tokenizer_hash: Hash of its tokenizer files without the chat template.
        template_hash: Hash of its chat template, or of the one supplied for it.
        architecture: Transformers class name.
        num_parameters: Count, tied weights once.
        vocab_size: Rows of the embedding.
        quantise: The form of its blocks' linear layers: `none`, `nf4` or `int8`.
        commit: The commit of the Hub, where it came from there.
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
        identity: The identity of the base.
        ragged: Whether rows go through ragged attention, else through padded rows.
        notice: Why not, when `ragged` is False.
        prefix: The prefix that an adapter puts before every family of every row.
        before_head: An adapter's function, called before the head's weight is read; the backbone
            has hooks.
        score_head: The head that an adapter judges with; the model itself has none.
        segment_adapters: Adapters that segments may name, by their number.
        computed: Tells the modules of these which row the backbone computes now.
        head_form: The form in which the model turns hidden states into logits.
        steps: A faster way to compute rows of single tokens, or None.
        packed_head: The head's weight and a faster product with it, see `models.packed`, or None.
    """

    model: Any
    tokenizer: Any
    identity: BaseIdentity
    ragged: bool
    notice: str | None = None
    prefix: PrefixSource | None = None
    before_head: Callable[[], None] | None = None
    score_head: ScoreHead | None = None
    segment_adapters: dict[int, SegmentAdapter] = field(default_factory=dict)
    computed: ComputedRow = field(default_factory=ComputedRow)
    head_form: HeadForm = field(init=False)
    steps: LlamaSteps | None = None
    packed_head: tuple[Tensor, Callable[[Tensor], Tensor]] | None = None

    def __post_init__(self) -> None:
        # Before any adapter changes the head.
        self.head_form = recognise_head(self.model)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, and so of the computation."""
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
        return self.head_of(-1)

    def head_of(self, adapter: int) -> Head:
        """Give the head for tokens of an adapter.

        Args:
            adapter: The adapter's number in segments.

        Returns:
            The head as a function of hidden states.
        """
        if self.before_head is not None:
            self.before_head()
        layer: Any = self.model.get_output_embeddings()
        if adapter >= 0:
            layer = self.segment_adapters[adapter].head or layer
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
        product = None
        if self.packed_head is not None and layer.weight is self.packed_head[0]:
            product = self.packed_head[1]
        return Head(layer.weight, bias, form.scale, form.softcap, update, rows, product=product)

    def heads_of(self, adapters: Sequence[int]) -> list[tuple[Head, list[int]]]:
        """Choose the heads for positions of several adapters.

        Args:
            adapters: The adapter of each position, as segments name it.

        Returns:
            Heads, each with the indices of its positions; those of adapters that leave the head as
            it is are together.
        """
        groups: dict[int, list[int]] = {}
        for index, adapter in enumerate(adapters):
            own = adapter >= 0 and self.segment_adapters[adapter].head is not None
            groups.setdefault(adapter if own else -1, []).append(index)
        return [(self.head_of(adapter), places) for adapter, places in groups.items()]

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

    def prefix_of(self, adapter: int) -> PrefixSource | None:
        """Give what stands before families of an adapter.

        Args:
            adapter: The adapter's number in segments; -1 for the prefix attached to the base
                itself.

        Returns:
            None without a prefix.
        """
        return self.prefix if adapter < 0 else self.segment_adapters[adapter].prefix

    def num_virtual_of(self, adapter: int) -> int:
        """Count the positions that the prefix of an adapter takes.

        Args:
            adapter: The adapter's number in segments.

        Returns:
            0 without a prefix.
        """
        prefix = self.prefix_of(adapter)
        return 0 if prefix is None else prefix.num_tokens

    @torch.no_grad()
    def new_cache(self, num_slots: int, adapters: Sequence[int] = ()) -> KVCache:
        """Make a cache whose slots begin with their prefixes.

        Args:
            num_slots: Number of sequences.
            adapters: The adapter of each slot, as segments name it; empty means -1 for all.

        Returns:
            The cache; a slot has a past of `num_virtual_of` its adapter.
        """
        cache = KVCache(num_slots)
        of_slots = adapters or [-1] * num_slots
        for adapter in sorted(set(of_slots)):
            if (source := self.prefix_of(adapter)) is not None:
                slots = [slot for slot, own in enumerate(of_slots) if own == adapter]
                cache.seed(source.compute(), self.dtype, slots)
        return cache

    def hidden(self, ids: Tensor, layout: Layout) -> Tensor:
        """Run the model without its head on one packed row.

        Args:
            ids: [T] token ids.
            layout: The row's segments.

        Returns:
            [T, E] last hidden states, after the final norm.
        """
        unknown = layout.adapters - self.segment_adapters.keys()
        assert not unknown, f"segments name adapters that the base has not: {sorted(unknown)}"
        if not self.ragged:
            return self.plain_hidden(ids, layout)
        if self.steps is not None and self.steps.takes(layout):
            with self.computed.set(layout):
                return self.steps.hidden(ids, layout)
        return self.run_backbone(self._with_prefixes(layout), input_ids=ids[None])

    def run_backbone(self, layout: Layout, **inputs: Tensor) -> Tensor:
        """Run the model without its head and without a prefix of its own on one packed row.

        Args:
            layout: The row's segments, with what stands before them.
            **inputs: `input_ids` [1, T] or `inputs_embeds` [1, T, E].

        Returns:
            [T, E] last hidden states, after the final norm.
        """
        device = next(iter(inputs.values())).device
        positions = torch.tensor(layout.positions, device=device)
        with self.computed.set(layout):
            output = self.backbone(
                **inputs, position_ids=positions[None], use_cache=False, layout=layout
            )
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def _with_prefixes(self, layout: Layout) -> Layout:
        """Compute what stands before the families of a row; slots of a cache hold it already."""
        if layout.cache is not None:
            return layout
        named = {adapter: self.prefix_of(adapter) for adapter in (-1, *sorted(layout.adapters))}
        prefixes = {n: source.compute() for n, source in named.items() if source is not None}
        return replace(layout, prefixes=prefixes, memo={}) if prefixes else layout

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
            The cache for one forward pass; None without a prefix.

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
            name: The name registered with Transformers.

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
        assert not layout.adapters, "padded rows have one adapter for all"
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
