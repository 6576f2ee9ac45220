"""Who sees whom, against the definition, for random families and windows."""

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.models.attention.groups import Branches, plan_branches, plan_groups
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.attention.masked import AttentionOptions, attend
from kamerton.models.attention.prefix import Prefix
from kamerton.models.attention.ragged import ragged_attention


@st.composite
def layouts(draw) -> Layout:
    segments: list[Segment] = []
    start = 0
    # What a next segment may go on from: the one before it, and that one's ancestors.
    open_ = [-1]
    for index in range(draw(st.integers(1, 6))):
        length = draw(st.integers(1, 5))
        depth = draw(st.integers(0, len(open_) - 1))
        segments.append(Segment(start, start + length, open_[depth]))
        open_ = [*open_[: depth + 1], index]
        start += length
    return Layout(tuple(segments))


def visible_by_definition(layout: Layout, window: int | None) -> torch.Tensor:
    owner = [i for i, s in enumerate(layout.segments) for _ in range(s.length)]
    visible = torch.zeros(layout.num_tokens, layout.num_tokens, dtype=torch.bool)
    for query, segment_index in enumerate(owner):
        segment = layout.segments[segment_index]
        seen = {segment_index} | {layout.segments.index(a) for a in layout.ancestors(segment)}
        for key in range(query + 1):
            near = window is None or layout.positions[query] - layout.positions[key] < window
            visible[query, key] = owner[key] in seen and near
    return visible


@settings(max_examples=60, deadline=None)
@given(layouts(), st.one_of(st.none(), st.integers(1, 7)), st.booleans())
def test_ragged_attention_follows_the_definition(layout, window, sinks) -> None:
    torch.manual_seed(0)
    tokens = layout.num_tokens
    q = torch.randn(1, 4, tokens, 8, dtype=torch.float64, requires_grad=True)
    k = torch.randn(1, 2, tokens, 8, dtype=torch.float64, requires_grad=True)
    v = torch.randn(1, 2, tokens, 8, dtype=torch.float64, requires_grad=True)
    s_aux = torch.randn(4, dtype=torch.float64, requires_grad=True) if sinks else None
    ours, _ = ragged_attention(
        torch.nn.Module(), q, k, v, None, layout=layout, sliding_window=window, s_aux=s_aux
    )
    visible = visible_by_definition(layout, window)[None]
    theirs = attend(q, k, v, visible, AttentionOptions(8**-0.5, None, None, s_aux)).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    leaves = [q, k, v] if s_aux is None else [q, k, v, s_aux]
    probe = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad((ours * probe).sum(), leaves),
        torch.autograd.grad((theirs * probe).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(layouts(), st.one_of(st.none(), st.integers(1, 7)))
def test_groups_cover_the_row_once(layout, window) -> None:
    at = 0
    for group in plan_groups(layout, window, torch.device("cpu")):
        assert group.start == at
        at += group.num * group.length
    assert at == layout.num_tokens


@st.composite
def fans(draw) -> Layout:
    """Prompts with many answers, some of which have an answer of their own."""
    segments: list[Segment] = []
    for _ in range(draw(st.integers(1, 3))):
        root = len(segments)
        for _ in range(draw(st.integers(1, 9))):
            start = segments[-1].stop if segments else 0
            own = root if len(segments) > root else -1
            parent = draw(st.sampled_from([own] * 7 + [len(segments) - 1])) if own >= 0 else -1
            segments.append(Segment(start, start + draw(st.integers(1, 6)), parent))
    return Layout(tuple(segments))


@settings(max_examples=80, deadline=None)
@given(fans(), st.one_of(st.none(), st.integers(1, 7)), st.booleans(), st.booleans())
def test_answers_apart_from_their_prompt_follow_the_definition(
    layout, window, sinks, with_prefix
) -> None:
    torch.manual_seed(0)
    tokens, before = layout.num_tokens, 3 if with_prefix else 0
    q = torch.randn(1, 4, tokens, 8, dtype=torch.float64)
    k = torch.randn(1, 2, before + tokens, 8, dtype=torch.float64)
    v = torch.randn(1, 2, before + tokens, 8, dtype=torch.float64)
    if with_prefix:
        layer = k[0, :, :before], v[0, :, :before]
        layout = replace(layout, prefixes={-1: Prefix((layer,))}, memo={})
    s_aux = torch.randn(4, dtype=torch.float64) if sinks else None
    module = torch.nn.Module()
    module.layer_idx = 0
    with torch.no_grad():
        own = k[:, :, before:], v[:, :, before:]
        options = {"layout": layout, "sliding_window": window, "s_aux": s_aux}
        ours, _ = ragged_attention(module, q, *own, None, **options)
    visible = visible_by_definition(layout, window)
    virtual = torch.tensor(layout.positions)[:, None] - torch.arange(before)
    near = torch.ones_like(virtual, dtype=torch.bool) if window is None else virtual < window
    visible = torch.cat([near, visible], dim=1)[None]
    theirs = attend(q, k, v, visible, AttentionOptions(8**-0.5, None, None, s_aux)).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_many_answers_are_not_masked_as_one() -> None:
    lengths = [5, 6, 6, 7, 7, 20]
    segments = [Segment(0, 30)]
    for length in lengths:
        segments.append(Segment(segments[-1].stop, segments[-1].stop + length, 0))
    root, *branches = plan_branches(Layout(tuple(segments)), None, torch.device("cpu"))
    assert not isinstance(root, Branches)
    assert (root.length, root.visible) == (30, None)
    assert [part.at.shape for part in branches] == [(5, 7), (1, 20)]
