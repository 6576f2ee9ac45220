"""Rows for people: unsure ones first, and not the same complaint ten times."""

from kamerton.labelling.review import order_for_review


def test_the_least_sure_come_first_and_copies_come_late() -> None:
    complaint = "the courier came late again and nobody answers the phone number {}"
    texts = [complaint.format(n) for n in range(5)] + ["my password is gone", "money back please"]
    confidence = [0.30, 0.31, 0.32, 0.33, 0.34, 0.6, 0.5]
    order = order_for_review(texts, confidence)
    assert sorted(order) == list(range(7))
    assert order[0] == 0
    assert set(order[1:3]) == {5, 6}


def test_without_likeness_it_is_the_order_of_doubt() -> None:
    texts = ["abcde fghij", "klmno pqrst", "uvwxy 12345"]
    assert order_for_review(texts, [0.9, 0.2, 0.5]) == [1, 2, 0]
    assert order_for_review([], []) == []
