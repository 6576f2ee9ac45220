"""Ragged attention: exact attention per segment of a packed row, for any Transformers decoder.

Registered as one attention function; the layout reaches it as a keyword argument of the model
call. Shapes: T tokens in the row, H query heads, K key/value heads, D head size.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from kamerton.models.attention.cached import cached_attention
from kamerton.models.attention.flash import flash, flash_backward
from kamerton.models.attention.groups import plan_branches, plan_groups
from kamerton.models.attention.layout import Layout
from kamerton.models.attention.masked import AttentionOptions, attend
from kamerton.models.attention.tree import TreeAttention, is_cut

__all__ = [
    "ATTENTION_NAME",
    "COMPILED_ATTENTION_NAME",
    "ragged_attention",
    "register_ragged_attention",
    "supports_ragged",
    "use_ragged",
]

ATTENTION_NAME = "kamerton_ragged"
COMPILED_ATTENTION_NAME = "kamerton_ragged_between_compiled_parts"

_LINEAR_ATTENTION = ("linear_attention", "mamba", "recurrent", "conv", "hybrid")


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
    rule = AttentionOptions(scale, sliding_window or None, softcap, s_aux)
    if layout.cache is not None:
        return cached_attention(module, query, key, value, layout, rule), None
    # Prefixes are inputs like q, k and v: so a recomputed block finds them as they were.
    prefixes: tuple[Tensor, ...] = ()
    for prefix in layout.prefixes.values():
        prefixes += prefix.layers[int(module.layer_idx)]  # type: ignore[arg-type]
    if query.device.type == "cpu":
        if rule.is_plain and not is_cut(layout, rule.window):
            return TreeAttention.apply(query, key, value, layout, scale, *prefixes), None  # type: ignore[no-untyped-call]
        if torch.is_grad_enabled():
            output = _MaskedAttention.apply(query, key, value, layout, rule, s_aux, *prefixes)  # type: ignore[no-untyped-call]
            return output, None
    return _attend_row((query, key, value), layout, rule, prefixes), None


def register_ragged_attention(
    name: str = ATTENTION_NAME, function: Callable[..., Any] = ragged_attention
) -> None:
    """Make ragged attention known to Transformers; doing it again changes nothing.

    Args:
        name: The name in configurations.
        function: `ragged_attention`, or a wrapper of it.
    """
    AttentionInterface.register(name, function)


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


def _attend_row(
    qkv: tuple[Tensor, Tensor, Tensor],
    layout: Layout,
    rule: AttentionOptions,
    prefixes: tuple[Tensor, ...],
) -> Tensor:
    """Attend group by group: [1, T, H, D]."""
    parts = [
        group.tokens(attend(*group.inputs(*qkv, prefixes), group.visible, rule))
        for group in plan_branches(layout, rule.window, qkv[0].device)
    ]
    return torch.cat(parts).unsqueeze(0)


class _MaskedAttention(torch.autograd.Function):
    """Attention by groups with masks, for windows, caps and sinks; saves q, k, v and the output."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        layout: Layout,
        rule: AttentionOptions,
        sinks: Tensor | None,
        *prefixes: Tensor,
    ) -> Tensor:
        output = q.new_empty(1, q.shape[2], q.shape[1], q.shape[3])
        by_head = output.transpose(1, 2)
        logsumexps: list[Tensor] = []
        groups = plan_groups(layout, rule.window, q.device)
        for group in groups:
            rows = group.inputs(q, k, v, prefixes)
            if rule.is_plain:
                mask = group.mask(q.dtype)
                part, lse = flash(*rows, causal=mask is None, scale=rule.scale, mask=mask)
                logsumexps.append(lse)
            else:
                part = attend(*rows, group.visible, rule)
            group.rows(by_head).copy_(part)
        ctx.save_for_backward(q, k, v, output, *prefixes, *logsumexps)
        ctx.groups, ctx.rule, ctx.num_prefix = groups, rule, len(prefixes)
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, output, *others = ctx.saved_tensors
        prefixes, logsumexps = tuple(others[: ctx.num_prefix]), others[ctx.num_prefix :]
        rule: AttentionOptions = ctx.rule
        grad_by_head, by_head = grad_outputs[0].transpose(1, 2), output.transpose(1, 2)
        # [1, T, heads, D] in memory, as the backward of the projections reads it.
        grads = [torch.empty_like(x.transpose(1, 2)).transpose(1, 2) for x in (q, k, v)]
        grad_sinks = None if rule.sinks is None else torch.zeros_like(rule.sinks)
        grad_prefixes = [torch.zeros_like(x, dtype=torch.float32) for x in prefixes]
        for index, group in enumerate(ctx.groups):
            rows = group.inputs(q, k, v, prefixes)
            grad_rows = group.rows(grad_by_head)
            if rule.is_plain:
                mask, inputs = group.mask(q.dtype), [grad_rows, *rows, group.rows(by_head)]
                parts: Sequence[Tensor] = flash_backward(
                    *inputs,
                    lse=logsumexps[index],
                    causal=mask is None,
                    scale=rule.scale,
                    mask=mask,
                )
            else:
                parts, grad_sink = _recompute(rows, grad_rows, group.visible, rule)
                if grad_sinks is not None and grad_sink is not None:
                    grad_sinks += grad_sink
            for grad, part in zip(grads, parts, strict=True):
                group.rows(grad).copy_(part[:, :, -group.length :])
            for grad, part in zip(group.before(grad_prefixes), parts[1:], strict=False):
                grad += part[:, :, : -group.length].sum(0)
        grad_prefixes = [g.to(x.dtype) for g, x in zip(grad_prefixes, prefixes, strict=True)]
        return grads[0], grads[1], grads[2], None, None, grad_sinks, *grad_prefixes


def _recompute(
    rows: tuple[Tensor, ...], grad_rows: Tensor, visible: Tensor | None, rule: AttentionOptions
) -> tuple[list[Tensor], Tensor | None]:
    """Gradients of soft-capped or sink attention by running the group again with a tape."""
    leaves = [x.detach().requires_grad_() for x in rows]
    sinks = None if rule.sinks is None else rule.sinks.detach().requires_grad_()
    with torch.enable_grad():
        part = attend(leaves[0], leaves[1], leaves[2], visible, replace(rule, sinks=sinks))
    inputs = leaves if sinks is None else [*leaves, sinks]
    grads = list(torch.autograd.grad(part, inputs, grad_rows))
    return grads[:3], None if sinks is None else grads[3]
