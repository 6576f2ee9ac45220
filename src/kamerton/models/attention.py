"""Ragged attention: exact attention per segment of a packed row, for any Transformers decoder.

Registered as one attention function; the layout reaches it as a keyword argument of the model
call. Shapes: T tokens in the row, H query heads, K key/value heads, D head size, n families of
equal length L, P virtual tokens of a prefix (0 without one).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from kamerton.models.attend import Rule, attend
from kamerton.models.cache import cached_attention
from kamerton.models.layout import Layout

__all__ = [
    "ATTENTION_NAME",
    "COMPILED_ATTENTION_NAME",
    "ragged_attention",
    "register_ragged_attention",
]

ATTENTION_NAME = "kamerton_ragged"
COMPILED_ATTENTION_NAME = "kamerton_ragged_between_compiled_parts"

# The kernel that F.scaled_dot_product_attention picks on a CPU, called directly because its
# backward can then write many segments into one buffer.
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

# Up to this length its backward is three to ten times faster in fp32 than in bf16 (and exacter).
_FP32_LENGTH = 320


def ragged_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within the segments of a layout.

    Args:
        module: The attention module; its `layer_idx` names the cache layer.
        query: [1, H, T, D].
        key: [1, K, T, D], K divides H.
        value: [1, K, T, D].
        attention_mask: Ignored; the layout says who sees whom.
        layout: The row's segments.
        scaling: Factor on the scores; None means D**-0.5.
        sliding_window: A token sees itself and at most this many minus one tokens before it.
        softcap: Scores become softcap * tanh(score / softcap).
        s_aux: [H] attention sinks: one more score per head that takes probability and gives none.

    Returns:
        [1, T, H, D] and None (weights are never formed).
    """
    if layout.record is not None:
        layout.record[int(module.layer_idx)] = key[0], value[0]  # type: ignore[arg-type]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rule = Rule(scale, sliding_window or None, softcap, s_aux)
    if layout.cache is not None:
        return cached_attention(module, query, key, value, layout, rule), None
    # The prefix is an input like q, k and v: so a recomputed block finds it as it was.
    prefix: tuple[Tensor, ...] = ()
    if layout.prefix is not None:
        prefix = layout.prefix.layers[int(module.layer_idx)]  # type: ignore[arg-type]
    if query.device.type == "cpu" and torch.is_grad_enabled():
        output = _RaggedAttention.apply(query, key, value, layout, rule, s_aux, *prefix)  # type: ignore[no-untyped-call]
        return output, None
    return _attend_row((query, key, value), layout, rule, prefix), None


def register_ragged_attention(
    name: str = ATTENTION_NAME, function: Callable[..., Any] = ragged_attention
) -> None:
    """Make ragged attention known to Transformers; doing it again changes nothing.

    Args:
        name: What configurations call it.
        function: `ragged_attention`, or a wrapper of it.
    """
    AttentionInterface.register(name, function)


@dataclass(frozen=True, slots=True)
class _Group:
    """Consecutive families of L tokens each.

    `alone` says that each is a single segment; `visible` [1, L, P + L] is None for causal
    attention without a prefix.
    """

    start: int
    num: int
    length: int
    alone: bool
    visible: Tensor | None

    def rows(self, x: Tensor) -> Tensor:
        """View the group's tokens: [1, H, T, D] -> [n, H, L, D], no copy."""
        tokens = x[0, :, self.start : self.start + self.num * self.length]
        rows: Tensor = tokens.unflatten(1, (self.num, self.length))
        return rows.transpose(0, 1)

    def inputs(
        self, q: Tensor, k: Tensor, v: Tensor, prefix: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The group's queries [n, H, L, D] and, behind the prefix, its keys and values."""
        keys, values = self.rows(k), self.rows(v)
        if prefix:
            before = [x.to(k.dtype).expand(self.num, -1, -1, -1) for x in prefix]
            keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
        return self.rows(q), keys, values

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """The mask as the flash kernels take it: 0 or -inf, [1, 1, L, P + L]."""
        if self.visible is None:
            return None
        mask = torch.zeros(self.visible.shape, dtype=dtype, device=self.visible.device)
        return mask.masked_fill_(~self.visible, float("-inf")).unsqueeze(1)


def _groups(layout: Layout, window: int | None, device: torch.device) -> list[_Group]:
    """Plan a row, once for all layers with the same window."""
    num_prefix = 0 if layout.prefix is None else layout.prefix.num_tokens
    key = ("groups", window, num_prefix, device)
    if key not in layout.memo:
        groups: list[_Group] = []
        for first, stop in layout.families:
            start, end = layout.segments[first].start, layout.segments[stop - 1].stop
            length = end - start
            alone = stop - first == 1
            last = groups[-1] if groups else None
            if alone and last is not None and last.alone and last.length == length:
                groups[-1] = replace(last, num=last.num + 1)
            else:
                causal = alone and not num_prefix and (window is None or length <= window)
                visible = None if causal else _visible(layout, (first, stop), window, device)
                groups.append(_Group(start, 1, length, alone, visible))
        layout.memo[key] = groups
    planned: list[_Group] = layout.memo[key]
    return planned


def _visible(
    layout: Layout, family: tuple[int, int], window: int | None, device: torch.device
) -> Tensor:
    """Who sees whom in a family, bool [1, L, P + L]: what is before, within the window."""
    num_prefix = 0 if layout.prefix is None else layout.prefix.num_tokens
    segments = layout.segments[family[0] : family[1]]
    start = segments[0].start
    length = segments[-1].stop - start
    visible = torch.zeros(length, length, dtype=torch.bool, device=device)
    for segment in segments:
        own = slice(segment.start - start, segment.stop - start)
        for seen in (*layout.ancestors(segment), segment):
            visible[own, seen.start - start : seen.stop - start] = True
    visible = torch.cat([visible.new_ones(length, num_prefix), visible.tril_()], dim=1)
    if window is not None:
        own_at = layout.positions[start : start + length]
        at = torch.tensor([*range(num_prefix), *own_at], device=device)
        visible &= at[None, :] > at[num_prefix:, None] - window
    return visible[None]


def _attend_row(
    qkv: tuple[Tensor, Tensor, Tensor], layout: Layout, rule: Rule, prefix: tuple[Tensor, ...]
) -> Tensor:
    """Attend group by group: [1, T, H, D]."""
    parts = [
        attend(*g.inputs(*qkv, prefix), g.visible, rule).transpose(1, 2).flatten(0, 1)
        for g in _groups(layout, rule.window, qkv[0].device)
    ]
    return torch.cat(parts).unsqueeze(0)


class _RaggedAttention(torch.autograd.Function):
    """Attention over all groups of a row, saving only q, k, v, the output and log-sum-exps."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        layout: Layout,
        rule: Rule,
        sinks: Tensor | None,
        *prefix: Tensor,
    ) -> Tensor:
        output = q.new_empty(1, q.shape[2], q.shape[1], q.shape[3])
        by_head = output.transpose(1, 2)
        logsumexps: list[Tensor] = []
        groups = _groups(layout, rule.window, q.device)
        for group in groups:
            rows = group.inputs(q, k, v, prefix)
            if rule.is_plain:
                mask = group.mask(q.dtype)
                part, lse = _flash(*rows, 0.0, mask is None, attn_mask=mask, scale=rule.scale)
                logsumexps.append(lse)
            else:
                part = attend(*rows, group.visible, rule)
            group.rows(by_head).copy_(part)
        ctx.save_for_backward(q, k, v, output, *prefix, *logsumexps)
        ctx.groups, ctx.rule, ctx.num_prefix = groups, rule, len(prefix)
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, output, *others = ctx.saved_tensors
        prefix, logsumexps = tuple(others[: ctx.num_prefix]), others[ctx.num_prefix :]
        rule: Rule = ctx.rule
        grad_by_head, by_head = grad_outputs[0].transpose(1, 2), output.transpose(1, 2)
        # [1, T, heads, D] in memory, as the backward of the projections reads it.
        grads = [torch.empty_like(x.transpose(1, 2)).transpose(1, 2) for x in (q, k, v)]
        grad_sinks = None if rule.sinks is None else torch.zeros_like(rule.sinks)
        grad_prefix = [torch.zeros_like(x, dtype=torch.float32) for x in prefix]
        for index, group in enumerate(ctx.groups):
            rows = group.inputs(q, k, v, prefix)
            grad_rows = group.rows(grad_by_head)
            if rule.is_plain:
                inputs = [grad_rows, *rows, group.rows(by_head)]
                if q.dtype == torch.bfloat16 and group.length <= _FP32_LENGTH:
                    inputs = [x.float() for x in inputs]
                mask = group.mask(inputs[0].dtype)
                parts = _flash_backward(
                    *inputs, logsumexps[index], 0.0, mask is None, attn_mask=mask, scale=rule.scale
                )
            else:
                parts, grad_sink = _recompute(rows, grad_rows, group.visible, rule)
                if grad_sinks is not None and grad_sink is not None:
                    grad_sinks += grad_sink
            for grad, part in zip(grads, parts, strict=True):
                group.rows(grad).copy_(part[:, :, -group.length :])
            for grad, part in zip(grad_prefix, parts[1:] if prefix else (), strict=True):
                grad += part[:, :, : -group.length].sum(0)
        grad_prefix = [grad.to(x.dtype) for grad, x in zip(grad_prefix, prefix, strict=True)]
        return grads[0], grads[1], grads[2], None, None, grad_sinks, *grad_prefix


def _recompute(
    rows: tuple[Tensor, ...], grad_rows: Tensor, visible: Tensor | None, rule: Rule
) -> tuple[list[Tensor], Tensor | None]:
    """Gradients of soft-capped or sink attention by running the group again with a tape."""
    leaves = [x.detach().requires_grad_() for x in rows]
    sinks = None if rule.sinks is None else rule.sinks.detach().requires_grad_()
    with torch.enable_grad():
        part = attend(leaves[0], leaves[1], leaves[2], visible, replace(rule, sinks=sinks))
    inputs = leaves if sinks is None else [*leaves, sinks]
    grads = list(torch.autograd.grad(part, inputs, grad_rows))
    return grads[:3], None if sinks is None else grads[3]
