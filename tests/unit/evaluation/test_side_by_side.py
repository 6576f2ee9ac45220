"""Answers before and after, in the report and in the terminal."""

import io
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from kamerton.cli.verdict import print_headline, print_pairs
from kamerton.core.language import Language, speaking
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.report import write_report
from kamerton.evaluation.settings import EvaluationSettings, Rule, RulesCheck
from kamerton.evaluation.side_by_side import side_by_side
from tests.unit.evaluation.compared import SETTINGS, answered, labelled, spoken
from tests.unit.evaluation.test_free_text import texts

POLITE = RulesCheck(name="polite", rules=(Rule(name="thanks", pattern="^Thank"),))


def three(settings: EvaluationSettings = SETTINGS, num: int = 20):
    """Two prompts and a variant; the last question changes most."""
    items = texts(num)
    answers = [
        answered(items, lambda n: "Yes.", "zero-shot"),
        answered(items, lambda n: "Thank you, yes.", "4-shot"),
        answered(items, lambda n: "Thank you " + "for writing to us\n" * n, "tone"),
    ]
    return compare(items, answers, settings, against=["zero-shot", "4-shot"]), items, answers


def test_pairs_are_taken_evenly_and_the_most_changed_stands_first() -> None:
    comparison, items, answers = three()
    found = side_by_side(comparison, items, answers)
    assert found is not None
    assert (found.before, found.after, found.num_items) == ("4-shot", "tone", 20)
    numbers = [int(pair.question.split()[-1]) for pair in found.pairs]
    assert sorted(numbers) == [0, 2, 5, 7, 10, 12, 15, 17]
    assert numbers[0] == 17
    assert numbers[-1] == 0
    assert found.pairs[-1].others == (("zero-shot", "Yes."),)
    assert found.pairs[0].passed == ()


def test_of_checked_answers_it_is_said_which_pass() -> None:
    settings = EvaluationSettings(resamples=200, checks=(POLITE,))
    comparison, items, answers = three(settings)
    found = side_by_side(comparison, items, answers, settings.checks)
    assert found is not None
    # 4-shot and the variant pass alike: of equals the later is the baseline to beat.
    assert {pair.passed for pair in found.pairs} == {(("polite", True, True),)}


def test_labels_and_lonely_variants_have_no_pairs() -> None:
    items = labelled(12)
    answers = [answered(items, lambda n: "refund", name) for name in ("zero-shot", "v")]
    comparison = compare(items, answers, SETTINGS, against=["zero-shot"])
    assert side_by_side(comparison, items, answers) is None
    alone = [answered(spoken(), str, "v")]
    assert side_by_side(compare(spoken(), alone, SETTINGS), spoken(), alone) is None


@pytest.mark.parametrize("checks", [(), (POLITE,)])
@pytest.mark.parametrize("language", ["en", "ru"])
def test_the_report_shows_texts_before_numbers_and_calls_none_wrong(
    tmp_path: Path, checks: tuple[RulesCheck, ...], language: Language
) -> None:
    settings = EvaluationSettings(resamples=200, checks=checks)
    comparison, items, answers = three(settings)
    path = tmp_path / "report.html"
    with speaking(language):
        write_report(path, comparison, items, answers, checks=checks)
    page = path.read_text()
    english = language == "en"
    heading = "Before and after" if english else "До и после"
    results = "<h2>Results" if english else "<h2>Результаты"
    order = [page.index(text) for text in ('class="headline"', heading, results)]
    assert order == sorted(order)
    assert page.count('class="pair"') == 8
    assert ("wrong" if english else "неверн") not in page.lower()
    assert ("Mended" if english else "Исправлено") not in page
    only = "Only tone passes" if english else "Проходит только «tone»"
    assert (only in page) == bool(checks)
    said = "polite: yes" if english else "polite: да"
    assert page.count(said) == (16 if checks else 0)


@pytest.mark.parametrize("width", [50, 80])
def test_three_pairs_fit_the_terminal_and_long_ones_are_shortened(width: int) -> None:
    comparison, items, answers = three()
    file = io.StringIO()
    out = Console(file=file, width=width, color_system=None)
    print_headline(out, "One line. " * 20)
    print_pairs(out, side_by_side(comparison, items, answers))
    first, *lines = file.getvalue().splitlines()
    assert first.endswith("One line. ")
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    assert text.count("asked: question") == 3
    assert "8 pairs were taken evenly from 20 questions" in text.replace("\n", " ")
    assert "…" in text
    # Six lines of each answer.
    assert len(re.findall("for writing to us(?!,)", text)) == 18
    if width == 80:
        assert "─ 4-shot ─" in text
