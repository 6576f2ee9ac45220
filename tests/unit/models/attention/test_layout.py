"""Layouts: positions, ancestors and families."""

import pytest

from kamerton.models.attention.layout import Layout, Segment


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


@pytest.mark.parametrize(
    "segments",
    [
        (Segment(1, 2),),
        (Segment(0, 2), Segment(3, 4)),
        (Segment(0, 0),),
        (Segment(0, 2, parent=1), Segment(2, 3)),
    ],
)
def test_gaps_and_loops_are_refused(segments) -> None:
    with pytest.raises(AssertionError):
        Layout(segments)
