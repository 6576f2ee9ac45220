"""Labels one by one, with their values by hand."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from kamerton.core.language import speaking
from kamerton.data.examples import ClassificationExample, SourceLocation
from kamerton.evaluation.commonest import answer_commonest
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.items import Item, make_items
from kamerton.evaluation.per_label import Confusion, per_label, per_label_table
from kamerton.evaluation.report import write_report
from tests.unit.evaluation.compared import SETTINGS, answered, guess, labelled, spoken

# Of 12 items a are 10 found, 2 called b; of 10 items b are 4 found, 6 called a; c is always found.
RIGHT = ["a"] * 12 + ["b"] * 10 + ["c"] * 3
SAID = ["a"] * 10 + ["b"] * 2 + ["b"] * 4 + ["a"] * 6 + ["c"] * 3


@pytest.fixture
def items() -> list[Item]:
    return make_items(
        [
            ClassificationExample(SourceLocation("f", n), str(n), label)
            for n, label in enumerate(RIGHT)
        ]
    )


def test_precision_recall_and_f1_have_their_values(items: list[Item]) -> None:
    commonest = answer_commonest(items, ["b", "a", "b"])
    assert commonest is not None
    found = per_label(items, [commonest, answered(items, SAID.__getitem__, "lora")])
    assert found is not None
    # The worst is first; c, of which there are 3, is last whatever its value.
    assert [(row.label, row.num, row.is_sparse) for row in found.rows] == [
        ("b", 10, False),
        ("a", 12, False),
        ("c", 3, True),
    ]
    b, a, c = (row.scores[1] for row in found.rows)
    assert (b.precision, b.recall, b.f1) == pytest.approx((4 / 6, 4 / 10, 8 / 16))
    assert (a.precision, a.recall, a.f1) == pytest.approx((10 / 16, 10 / 12, 20 / 28))
    assert (c.precision, c.recall, c.f1) == (1, 1, 1)
    always_b, _, never_c = (row.scores[0] for row in found.rows)
    assert (always_b.precision, always_b.recall) == (10 / 25, 1)
    assert (never_c.precision, never_c.recall, never_c.f1) == (None, 0, 0)
    assert found.confusions == (Confusion("a", "b", 6), Confusion("b", "a", 2))
    assert found.num_wrong == 8
    assert found.matrix == (("a", (10, 2, 0)), ("b", (6, 4, 0)), ("c", (0, 0, 3)))


def test_a_matrix_of_many_labels_is_left_out() -> None:
    many = make_items(
        [ClassificationExample(SourceLocation("f", n), str(n), f"l{n:02}") for n in range(16)]
    )
    found = per_label(many, [answered(many, lambda n: f"l{n:02}", "lora")])
    assert found is not None
    assert (found.matrix, found.confusions, len(found.rows)) == ((), (), 16)


def test_written_answers_have_no_labels() -> None:
    items = spoken(3)
    answers = answered(items, lambda n: f"answer {n}", "lora")
    assert per_label(items, [answers]) is None
    assert answer_commonest(items, ["a"]) is None


def test_the_commonest_label_is_the_first_of_equals() -> None:
    items = labelled(3)
    found = answer_commonest(items, ["refund", "delivery", "refund", "delivery"])
    assert found is not None
    assert found.texts == ("delivery",) * 3
    assert sum(found.seconds) == sum(found.num_tokens) == 0
    assert answer_commonest(items, []) is None


def test_terminal_and_report_show_labels_and_confusions(items: list[Item], tmp_path: Path) -> None:
    answers = [answered(items, SAID.__getitem__, "[b]lora")]
    found = per_label(items, answers)
    assert found is not None
    file = io.StringIO()
    Console(file=file, width=60).print(per_label_table(found))
    lines = [" ".join(line.split()) for line in file.getvalue().splitlines()]
    assert "worst labels of [b]lora n precision recall F1" in lines
    assert "b 10 67 40 50" in lines
    assert "Labels with fewer than 10 items go last: too few to judge them by" in " ".join(lines)
    assert "a b 6" in lines
    path = tmp_path / "report.html"
    write_report(path, compare(items, answers, SETTINGS), items, answers)
    page = path.read_text()
    assert "said &#34;a&#34; where &#34;b&#34; was right: 6" in page
    assert '<td class="number">67, 40, <b>50</b></td>' in page
    with speaking("ru"):
        write_report(path, compare(items, answers, SETTINGS), items, answers)
    assert "вместо верного «b»: 6" in path.read_text()


def test_a_variant_that_is_always_right_has_no_confusions() -> None:
    items = labelled(30)
    found = per_label(items, [answered(items, guess(lambda n: True), "lora")])
    assert found is not None
    assert (found.confusions, found.num_wrong, found.has_sparse) == ((), 0, False)
