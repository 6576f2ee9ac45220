"""A sample of a run: which steps stand for all."""

from kamerton.training.sample import spread_steps


def test_the_longest_row_comes_first_and_then_steps_of_all_sizes() -> None:
    tokens = [10, 80, 30, 40, 90, 60, 70, 20, 50]
    rows = [10, 80, 30, 40, 45, 60, 70, 20, 50]
    order = list(spread_steps(tokens, rows))
    assert sorted(order) == list(range(9))
    assert order[0] == 1
    # Of the others: the median, then the quartiles, then what is between.
    assert [tokens[step] for step in order[1:4]] == [50, 30, 70]


def test_every_plan_is_ordered_whole() -> None:
    for size in range(1, 40):
        assert sorted(spread_steps([1] * size, [1] * size)) == list(range(size))
