"""Pairs of ranked and rated answers: the order is kept, ties are left out, nothing is forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.formats.rankings import order_pairs

worth = st.integers(-3, 3) | st.floats(-1e9, 1e9)
worths_of_answers = st.lists(worth, max_size=12)
which = st.sampled_from(["all", "neighbours", "best-worst"])


@given(worths_of_answers, which)
def test_pairs_respect_the_order_and_have_no_ties(worths, name):
    pairs = order_pairs(worths, name)
    assert all(worths[better] > worths[worse] for better, worse in pairs)
    assert len(set(pairs)) == len(pairs)
    assert bool(pairs) == (len(set(worths)) > 1)


@given(worths_of_answers)
def test_all_is_every_two_that_differ(worths):
    two = {(i, j) for i, one in enumerate(worths) for j, other in enumerate(worths) if one > other}
    assert set(order_pairs(worths, "all")) == two


@given(worths_of_answers)
def test_neighbours_are_of_the_next_worth_and_leave_nobody_out(worths):
    pairs = order_pairs(worths, "neighbours")
    levels = sorted(set(worths))
    assert all(levels.index(worths[i]) == levels.index(worths[j]) + 1 for i, j in pairs)
    if pairs:
        assert {i for pair in pairs for i in pair} == set(range(len(worths)))
    assert len(pairs) <= 2 * len(worths)


@given(worths_of_answers)
def test_best_and_worst_are_one_pair(worths):
    for better, worse in order_pairs(worths, "best-worst"):
        assert (worths[better], worths[worse]) == (max(worths), min(worths))
