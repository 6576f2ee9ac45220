"""Packing: nothing is lost, limits are kept, equal lengths stand together."""

from hypothesis import given
from hypothesis import strategies as st

from kamerton.models.rows.packing import pack


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80), st.integers(1, 120))
def test_packing_loses_nothing_and_orders_by_length(lengths, limit) -> None:
    rows = pack(lengths, limit)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    for row in rows:
        assert len(row) == 1 or sum(lengths[index] for index in row) <= limit
        assert [lengths[i] for i in row] == sorted((lengths[i] for i in row), reverse=True)
    # Best fit leaves at most one row less than half full (of those that are no single long one).
    loads = [sum(lengths[i] for i in row) for row in rows]
    assert sum(load <= limit / 2 for load in loads) <= 1
