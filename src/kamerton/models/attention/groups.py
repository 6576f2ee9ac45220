"""Attention over a packed row, in groups of families that one call of a kernel can do.

Shapes: T tokens in the row, H heads, D head size, n rows of equal length L, P virtual tokens of the
prefix before them (0 without one). `prefixes` are the keys and values [K, P, D] of each prefix of
the row, one after another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kamerton.models.attention.layout import Layout, Segment

__all__ = ["Branches", "Group", "Scattered", "plan_branches", "plan_groups", "plan_segments"]

_MANY = 4
_PADDED = 1.5


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive families of L tokens each.

    `alone` says that each is a single segment; `visible` [1, L, P + L] is None for causal
    attention without a prefix. `prefix` is the number of the one before them, or None.
    """

    start: int
    num: int
    length: int
    alone: bool
    visible: Tensor | None
    prefix: int | None = None

    def rows(self, x: Tensor) -> Tensor:
        """View the group's tokens: [1, H, T, D] -> [n, H, L, D], no copy."""
        tokens = x[0, :, self.start : self.start + self.num * self.length]
        rows: Tensor = tokens.unflatten(1, (self.num, self.length))
        return rows.transpose(0, 1)

    def put(self, x: Tensor, rows: Tensor) -> None:
        """Write the group's tokens [n, H, L, D] into a row [1, H, T, D]."""
        self.rows(x).copy_(rows)

    def goes_on_with(self, other: "Group") -> bool:
        """Whether a group right behind this one can be computed in the same call."""
        alike = (self.length, self.prefix) == (other.length, other.prefix)
        return self.alone and other.alone and alike

    def before(self, prefixes: Sequence[Tensor]) -> Sequence[Tensor]:
        """Choose the keys and values of the group's prefix; nothing without one."""
        return _before(self.prefix, prefixes)

    def inputs(
        self, q: Tensor, k: Tensor, v: Tensor, prefixes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The group's queries [n, H, L, D] and, behind its prefix, its keys and values."""
        keys, values = self.rows(k), self.rows(v)
        if prefix := self.before(prefixes):
            before = [x.to(k.dtype).expand(self.num, -1, -1, -1) for x in prefix]
            keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
        return self.rows(q), keys, values

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """The mask as the flash kernels take it: 0 or -inf, [1, 1, L, P + L]."""
        if self.visible is None:
            return None
        mask = torch.zeros(self.visible.shape, dtype=dtype, device=self.visible.device)
        return mask.masked_fill_(~self.visible, float("-inf")).unsqueeze(1)

    def tokens(self, output: Tensor) -> Tensor:
        """The output for the group's tokens, in their order: [n * L, H, D]."""
        return output.transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True, slots=True)
class Scattered:
    """Segments of equal length L that stand here and there in a row; `at` [n, L] are their places.

    Nothing is padded: a segment's numbers do not depend on who else is in its call.
    """

    at: Tensor

    def rows(self, x: Tensor) -> Tensor:
        """Copy the tokens: [1, H, T, D] -> [n, H, L, D]."""
        return x[0, :, self.at].transpose(0, 1)

    def put(self, x: Tensor, rows: Tensor) -> None:
        """Write the tokens [n, H, L, D] into a row [1, H, T, D]."""
        x[0, :, self.at] = rows.transpose(0, 1).to(x.dtype)


@dataclass(frozen=True, slots=True)
class Branches:
    """Many short answers to one prompt of R tokens, padded to a common length L.

    One mask over a whole family grows with the square of all its answers; this does not, because
    answers do not see each other. `at` [n, L] are places in the row, the same one again as
    padding; `visible` is [1, L, P + R + L], `real` [n, L] tells padding, `prefix` is the number of
    the prefix before the prompt, or None.
    """

    root: slice
    at: Tensor
    visible: Tensor
    real: Tensor
    prefix: int | None = None

    def inputs(
        self, q: Tensor, k: Tensor, v: Tensor, prefixes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [n, H, L, D]; keys and values of prefix, prompt and answer."""
        num, prefix = len(self.at), _before(self.prefix, prefixes)
        found = []
        for place, x in enumerate((k, v)):
            before = [prefix[place].to(x.dtype)[None]] if prefix else []
            shared = torch.cat([*before, x[:, :, self.root]], 2).expand(num, -1, -1, -1)
            found.append(torch.cat([shared, self._rows(x)], 2))
        return self._rows(q), found[0], found[1]

    def tokens(self, output: Tensor) -> Tensor:
        """The output for the answers' tokens, in their order: [T, H, D]."""
        return output.transpose(1, 2)[self.real]

    def _rows(self, x: Tensor) -> Tensor:
        return x[0, :, self.at].transpose(0, 1)


def plan_groups(layout: Layout, window: int | None, device: torch.device) -> list[Group]:
    """Plan a row in whole families, once for all layers with the same window.

    Args:
        layout: The row's segments.
        window: A token sees itself and at most this many minus one tokens before it.
        device: The device of the masks.

    Returns:
        Groups that cover the row in order.
    """
    key = ("groups", window, device)
    if key not in layout.memo:
        groups: list[Group] = []
        for family in layout.families:
            _append(groups, _whole(layout, family, window, device))
        layout.memo[key] = groups
    planned: list[Group] = layout.memo[key]
    return planned


def plan_segments(layout: Layout, device: torch.device) -> list[Group | Scattered]:
    """Plan every segment by itself, causally; those of equal length in one call.

    Args:
        layout: The row's segments.
        device: The device of the masks.

    Returns:
        Groups that cover the row, in any order.
    """
    key = ("segments", device)
    if key not in layout.memo:
        runs: list[Any] = []
        for segment in layout.segments:
            _append(runs, Group(segment.start, 1, segment.length, True, None))
        by_length: dict[int, list[Group]] = {}
        for run in runs:
            by_length.setdefault(run.length, []).append(run)
        planned: list[Group | Scattered] = []
        for length, alike in by_length.items():
            if len(alike) == 1:
                planned += alike
                continue
            starts = [g.start + n * length for g in alike for n in range(g.num)]
            steps = torch.arange(length, device=device)
            planned.append(Scattered(torch.tensor(starts, device=device)[:, None] + steps))
        layout.memo[key] = planned
    found: list[Group | Scattered] = layout.memo[key]
    return found


def plan_branches(
    layout: Layout, window: int | None, device: torch.device
) -> list[Group | Branches]:
    """Plan a row that needs no backward pass: many answers to one prompt stand apart from it.

    Args:
        layout: The row's segments.
        window: A token sees itself and at most this many minus one tokens before it.
        device: The device of the masks.

    Returns:
        Groups and branches that cover the row in order.
    """
    key = ("branches", window, device)
    if key not in layout.memo:
        parts: list[Group | Branches] = []
        for first, stop in layout.families:
            answers = layout.segments[first + 1 : stop]
            if len(answers) < _MANY or any(answer.parent != first for answer in answers):
                _append(parts, _whole(layout, (first, stop), window, device))
            else:
                _append(parts, _whole(layout, (first, first + 1), window, device))
                for run in _alike(answers):
                    parts.append(_branches(layout, first, run, window, device))
        layout.memo[key] = parts
    planned: list[Group | Branches] = layout.memo[key]
    return planned


def _before(number: int | None, prefixes: Sequence[Tensor]) -> Sequence[Tensor]:
    return () if number is None else prefixes[2 * number : 2 * number + 2]


def _append(groups: list[Any], group: Group) -> None:
    """Add a group, or its only segment to a group of such segments before it."""
    last = groups[-1] if groups else None
    if isinstance(last, Group) and last.goes_on_with(group):
        groups[-1] = replace(last, num=last.num + 1)
    else:
        groups.append(group)


def _whole(
    layout: Layout, family: tuple[int, int], window: int | None, device: torch.device
) -> Group:
    segments = layout.segments[family[0] : family[1]]
    start = segments[0].start
    length = segments[-1].stop - start
    alone = len(segments) == 1
    prefix = layout.prefix_number(segments[0])
    causal = alone and prefix is None and (window is None or length <= window)
    visible = None if causal else _visible(layout, segments, window, device)
    return Group(start, 1, length, alone, visible, prefix)


def _visible(
    layout: Layout, segments: tuple[Segment, ...], window: int | None, device: torch.device
) -> Tensor:
    """Who sees whom in a family, bool [1, L, P + L]: what is before, within the window."""
    num_prefix = layout.num_virtual(segments[0])
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


def _alike(answers: Sequence[Segment]) -> list[list[Segment]]:
    """Cut answers into runs of similar length, so that little of them is padding."""
    runs: list[list[Segment]] = []
    for answer in answers:
        lengths = [answer.length, *(other.length for other in runs[-1])] if runs else []
        if not runs or max(lengths) > _PADDED * min(lengths):
            runs.append([])
        runs[-1].append(answer)
    return runs


def _branches(
    layout: Layout,
    first: int,
    answers: Sequence[Segment],
    window: int | None,
    device: torch.device,
) -> Branches:
    root = layout.segments[first]
    before = layout.num_virtual(root) + root.length
    starts = torch.tensor([answer.start for answer in answers], device=device)
    lengths = torch.tensor([answer.length for answer in answers], device=device)
    steps = torch.arange(int(lengths.max()), device=device)
    real = steps < lengths[:, None]
    # Padding stands behind the answer's own tokens: none of them sees it.
    at = torch.where(real, starts[:, None] + steps, starts[:, None])
    places = torch.arange(before + len(steps), device=device)
    own = before + steps[:, None]
    visible = places <= own
    if window is not None:
        visible &= places > own - window
    prefix = layout.prefix_number(root)
    return Branches(slice(root.start, root.stop), at, visible[None], real, prefix)
