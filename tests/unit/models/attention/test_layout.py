"""Layouts: positions, ancestors and families."""

import pytest
import torch

from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.attention.prefix import Prefix


def test_positions_count_what_a_token_can_see() -> None:
    layout = Layout(
        (Segment(0, 3), Segment(3, 5, parent=0), Segment(5, 6, parent=1), Segment(6, 8))
    )
    assert layout.positions == [0, 1, 2, 3, 4, 5, 0, 1]
    assert layout.ancestors(layout.segments[2]) == [layout.segments[0], layout.segments[1]]
    assert layout.families == ((0, 3), (3, 4))
    assert layout.num_tokens == 8


def test_a_slot_moves_positions() -> None:
    assert Layout((Segment(0, 2, slot=0, past=7),)).positions == [7, 8]


def test_positions_begin_behind_the_prefix_of_the_segments_own_adapter() -> None:
    keys = torch.zeros(2, 4, 8)
    segments = Segment(0, 2, adapter=3), Segment(2, 4), Segment(4, 5, parent=1), Segment(5, 7, -1)
    layout = Layout(segments, prefixes={3: Prefix(((keys, keys),))})
    assert layout.positions == [4, 5, 0, 1, 2, 0, 1]
    assert layout.adapters == {3}


@pytest.mark.parametrize(
    "segments",
    [
        (Segment(1, 2),),
        (Segment(0, 2), Segment(3, 4)),
        (Segment(0, 0),),
        (Segment(0, 2, parent=1), Segment(2, 3)),
        (Segment(0, 2, adapter=1), Segment(2, 3, parent=0)),
    ],
)
def test_gaps_and_loops_and_mixed_families_are_refused(segments) -> None:
    with pytest.raises(AssertionError):
        Layout(segments)
