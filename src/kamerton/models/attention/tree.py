"""Attention over a row that is a tree: every segment to itself, and to each of its ancestors.

A segment's tokens attend to their own segment (causally), to each ancestor segment (to all of it)
and to the prefix before their family. Each of these is one call without a mask; the results are
joined by their log-sum-exps, as in blockwise attention (arXiv 2205.14135, algorithm 1; 2310.01889).
The backward pass of a block needs nothing of the others but the joined output and log-sum-exp. So a
beginning that many examples share is computed once, no key is copied, and no mask covers the row.

Shapes: T tokens in the row, H query heads, K key/value heads, D head size, P virtual tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kamerton.models.attention.flash import flash, flash_backward
from kamerton.models.attention.groups import plan_segments
from kamerton.models.attention.layout import Layout

__all__ = ["TreeAttention", "is_cut"]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Tokens that see all of an ancestor, or all of a prefix; `keys` is its number then."""

    queries: slice
    keys: slice | int


def is_cut(layout: Layout, window: int | None) -> bool:
    """Tell whether a sliding window hides anything from anyone in a row.

    Args:
        layout: The row's segments.
        window: A token sees itself and at most this many minus one tokens before it.

    Returns:
        True when some token does not see all that stands before it.
    """
    if window is None:
        return False
    key = ("longest",)
    if key not in layout.memo:
        layout.memo[key] = max(layout.positions) + 1
    return bool(layout.memo[key] > window)


class TreeAttention(torch.autograd.Function):
    """Attention over a tree of segments, saving only q, k, v, the output and log-sum-exps."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, *prefixes: Tensor
    ) -> Tensor:
        """Attend.

        Args:
            ctx: Autograd's context.
            q: [1, H, T, D].
            k: [1, K, T, D], K divides H.
            v: [1, K, T, D].
            layout: The row's segments.
            scale: Factor on the scores.
            *prefixes: Keys and values [K, P, D] of each of the layout's prefixes in turn.

        Returns:
            [1, T, H, D].
        """
        output = q.new_empty(1, q.shape[2], q.shape[1], q.shape[3])
        by_head = output.transpose(1, 2)
        wide = torch.promote_types(q.dtype, torch.float32)
        logsumexp = torch.empty(1, *q.shape[1:3], dtype=wide)
        groups, seen = plan_segments(layout, q.device), _plan_seen(layout)
        for group in groups:
            rows = group.rows(q), group.rows(k), group.rows(v)
            part, lse = flash(*rows, causal=True, scale=scale)
            group.put(by_head, part)
            group.put(logsumexp[..., None], lse[..., None])
        for one in seen:
            keys, values = _keys(one, k, v, prefixes)
            part, lse = flash(q[:, :, one.queries], keys, values, causal=False, scale=scale)
            _join(by_head[:, :, one.queries], logsumexp[:, :, one.queries], part, lse)
        ctx.save_for_backward(q, k, v, output, logsumexp, *prefixes)
        ctx.groups, ctx.seen, ctx.scale = groups, seen, scale
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Give gradients block by block.

        Args:
            ctx: Autograd's context.
            *grad_outputs: [1, T, H, D].

        Returns:
            The gradients of q, k and v, None for layout and scale, and those of the prefixes.
        """
        q, k, v, output, logsumexp, *prefixes = ctx.saved_tensors
        grad_by_head, by_head = grad_outputs[0].transpose(1, 2), output.transpose(1, 2)
        # [1, T, heads, D] in memory, as the backward of the projections reads it.
        grads = [torch.empty_like(x.transpose(1, 2)).transpose(1, 2) for x in (q, k, v)]
        grad_prefixes = [torch.zeros_like(x, dtype=torch.float32) for x in prefixes]

        for group in ctx.groups:
            rows = [group.rows(x) for x in (grad_by_head, q, k, v, by_head)]
            lse = group.rows(logsumexp[..., None])[..., 0].contiguous()
            parts = flash_backward(*rows, lse=lse, causal=True, scale=ctx.scale)
            for grad, part in zip(grads, parts, strict=True):
                group.put(grad, part)
        for one in ctx.seen:
            keys, values = _keys(one, k, v, prefixes)
            grad, queries, own = (x[:, :, one.queries] for x in (grad_by_head, q, by_head))
            lse = logsumexp[:, :, one.queries].contiguous()
            parts = flash_backward(
                grad, queries, keys, values, own, lse=lse, causal=False, scale=ctx.scale
            )
            grads[0][:, :, one.queries] += parts[0]
            for number, part in enumerate(parts[1:]):
                if isinstance(one.keys, int):
                    grad_prefixes[2 * one.keys + number] += part[0]
                else:
                    grads[number + 1][:, :, one.keys] += part
        grad_prefixes = [g.to(x.dtype) for g, x in zip(grad_prefixes, prefixes, strict=True)]
        return grads[0], grads[1], grads[2], None, None, *grad_prefixes


def _plan_seen(layout: Layout) -> list[_Seen]:
    """List who sees what besides their own segment, once for all layers."""
    key = ("seen",)
    if key not in layout.memo:
        seen = _plan_prefixes(layout)
        stops = [segment.stop for segment in layout.segments]
        # Descendants stand right behind their ancestor, so the last of them ends the run.
        for index in range(len(stops) - 1, -1, -1):
            if (parent := layout.segments[index].parent) >= 0:
                stops[parent] = max(stops[parent], stops[index])
        seen += [
            _Seen(slice(segment.stop, stop), slice(segment.start, segment.stop))
            for segment, stop in zip(layout.segments, stops, strict=True)
            if stop > segment.stop
        ]
        layout.memo[key] = seen
    planned: list[_Seen] = layout.memo[key]
    return planned


def _plan_prefixes(layout: Layout) -> list[_Seen]:
    """List who sees which prefix; neighbours with the same one together."""
    seen: list[_Seen] = []
    for first, stop in layout.families:
        number = layout.prefix_number(layout.segments[first])
        if number is None:
            continue
        start, end = layout.segments[first].start, layout.segments[stop - 1].stop
        if seen and (seen[-1].keys, seen[-1].queries.stop) == (number, start):
            start = seen.pop().queries.start
        seen.append(_Seen(slice(start, end), number))
    return seen


def _keys(seen: _Seen, k: Tensor, v: Tensor, prefixes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Keys and values that are seen, [1, K, S, D]."""
    if isinstance(seen.keys, int):
        keys, values = prefixes[2 * seen.keys : 2 * seen.keys + 2]
        return keys[None].to(k.dtype), values[None].to(v.dtype)
    return k[:, :, seen.keys], v[:, :, seen.keys]


def _join(output: Tensor, logsumexp: Tensor, part: Tensor, lse: Tensor) -> None:
    """Join a further block's output [1, H, L, D] and log-sum-exp [1, H, L] to what is there."""
    total = torch.logaddexp(logsumexp, lse)
    before, now = (logsumexp - total).exp_()[..., None], (lse - total).exp_()[..., None]
    output.copy_(output * before + part * now)
    logsumexp.copy_(total)
