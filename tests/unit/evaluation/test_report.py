"""Tables and the HTML report."""

import dataclasses
import html
import io
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from kamerton.core.errors import EvaluationError
from kamerton.core.language import speaking
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.plots import training_plot
from kamerton.evaluation.report import write_report
from kamerton.evaluation.results import Comparison
from kamerton.evaluation.table import markdown_table, p_text, terminal_table
from tests.unit.evaluation.compared import (
    LABELS,
    SETTINGS,
    answered,
    guess,
    labelled,
    spoken,
    three_variants,
)

LONG = (
    "company-support-base-without-anything",
    "company-support-base-with-four-examples",
    "очень длинное имя варианта, которое не помещается в столбец",
)
_VOID = {"meta", "br"}


def printed(comparison: Comparison, width: int) -> str:
    """What a terminal that is no tty shows."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(terminal_table(comparison))
    return file.getvalue()


def letters(text: str) -> Counter[str]:
    return Counter(re.sub(r"[\s─]", "", text))


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("names", [("zero-shot", "4-shot", "support-lora"), LONG])
def test_tables_fit_and_lose_nothing(names: tuple[str, str, str], width: int) -> None:
    comparison, _, _ = three_variants(names)
    text = printed(comparison, width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "90.0 [82.1, 94.6]" in text
    # Folded or not, every letter of an endlessly wide table is there.
    assert letters(text) == letters(printed(comparison, 1000))
    assert "\x1b" not in text


def test_tables_of_usual_names_keep_to_one_line_a_row_at_80_columns() -> None:
    comparison, _, _ = three_variants(("zero-shot", "4-shot", "support-lora"))
    # The widest values there are: three digits on both sides.
    full = dataclasses.replace(
        comparison,
        metrics=("category accuracy", "macro-F1"),
        measured=tuple(
            dataclasses.replace(m, metric=m.metric.replace("accuracy", "category accuracy"),
                                value=1.0, low=0.969, high=1.0)
            for m in comparison.measured
        ),
        differences=tuple(
            dataclasses.replace(d, metric=d.metric.replace("accuracy", "category accuracy"),
                                value=1.0)
            for d in comparison.differences
        ),
    )  # fmt: skip
    lines = printed(full, 80).splitlines()
    rows = [line.split() for line in lines if line.strip().startswith("support-lora")]
    assert rows[0] == [
        "support-lora", "100.0", "[96.9,", "100.0]", "+100.0", "p<0.001", "+100.0", "p<0.001"
    ]  # fmt: skip


def test_a_third_baseline_fits_80_columns_too() -> None:
    names = ("zero-shot", "4-shot", "desk", "desk-rloo")
    items = labelled()
    rights = (lambda n: n % 3 == 0, lambda n: n % 2 == 0, lambda n: n % 4, lambda n: n % 10)
    answers = [answered(items, guess(r), n) for n, r in zip(names, rights, strict=True)]
    comparison = compare(items, answers, SETTINGS, against=names[:3])
    lines = printed(comparison, 80).splitlines()
    assert max(map(cell_len, lines)) <= 80
    row = next(line for line in lines if line.strip().startswith("desk-rloo"))
    assert row.split()[-6:] == ["+56.7", "p<0.001", "+40.0", "p<0.001", "+15.6", "p=0.022"]


def test_names_in_brackets_stay() -> None:
    comparison, _, _ = three_variants(("[red]base[/]", "few :warning: shot", "lora [bold]"))
    text = printed(comparison, 120)
    for name in comparison.variants:
        assert name in text


def test_markdown_has_a_row_per_variant() -> None:
    comparison, _, _ = three_variants(("a|b", "few-shot", "lora"))
    lines = markdown_table(comparison).splitlines()
    assert lines[0].startswith("| variant | accuracy | macro-F1 |")
    assert lines[2].startswith("| a\\|b | 33.3 [24.5, 43.6] |")
    assert "+40.0 to few-shot, p<0.001" in lines[4]
    assert lines[-1].startswith("90 items; 95 % intervals")
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in lines[:5]]
    assert len(set(columns)) == 1


def test_p_values_are_never_zero() -> None:
    assert (p_text(0.00001), p_text(0.0123), p_text(1)) == ("p<0.001", "p=0.012", "p=1.000")


class _Balance(HTMLParser):
    """Collects tags and complains about one that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an opened tag."""
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an empty tag."""
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag opened last."""
        assert self.open.pop() == tag


def test_the_report_is_one_whole_page(tmp_path: Path) -> None:
    comparison, items, answers = three_variants()
    path = tmp_path / "new" / "report.html"
    write_report(
        path,
        comparison,
        items,
        answers,
        loss_curve=[{"step": n, "loss": 3 / n} for n in range(1, 20)],
        holdout_curve=[{"step": 10, "loss": 1.0}],
        facts=[("Base", "builtin:nano")],
        prompts=[("support-lora", "<|user|>Where is it?\n<|assistant|>")],
    )
    page = path.read_text()
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    assert parser.tags.count("svg") == 1
    for text in ("builtin:nano", "McNemar", "Holm", "90.0 [82.1, 94.6]", "prefers-color-scheme"):
        assert text in page
    assert "Mended: support-lora is right where few-shot was wrong" in page
    assert "loss per token" in page
    assert "&lt;|user|&gt;Where is it?" in page
    # On a telephone each cost stands beside its name, since heads of columns would be cut.
    assert page.count('data-head="tokens/item"') == 3
    links = re.findall(r"(?:src|href)=[\"'](?!#)([^\"']+)", page)
    assert links == []
    # The same comparison gives the same bytes.
    write_report(path, comparison, items, answers)
    first = path.read_bytes()
    write_report(path, comparison, items, answers)
    assert path.read_bytes() == first
    assert b"loss per token" not in first


def test_preferences_and_rewards_are_drawn_with_their_own_numbers() -> None:
    pairs = [
        {"step": n, "loss": 0.5, "metrics": {"chosen_change": -n, "rejected_change": -2 * n}}
        for n in (1, 2)
    ]
    drawn = training_plot(pairs, pairs[:1])
    assert {"log-probability, change", "chosen", "rejected", "loss"} <= _texts(drawn)
    assert not {"reward", "loss per token"} & _texts(drawn)
    # A panel is an image of its own: a narrow page puts them below one another.
    widths = [float(width) for width in re.findall(r'<svg[^>]* width="([\d.]+)pt"', drawn)]
    assert len(widths) == 2
    assert max(widths) < 352
    written = [{"step": n, "loss": -0.5, "metrics": {"reward": 1.0, "kl": n}} for n in (1, 2)]
    assert {"reward", "distance in nats"} <= _texts(training_plot(written))
    assert "loss" not in _texts(training_plot(written))


def _texts(svg: str) -> set[str]:
    return set(re.findall(r">([^<>]+)</text>", svg))


def test_nothing_from_outside_becomes_markup(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script> $\\frac{1$"
    items = spoken(text=evil)
    answers = [
        answered(items, lambda n: "wrong", f"{evil} base"),
        answered(items, lambda n: f"{evil} {n}" if n % 2 else f"answer {n}", evil),
    ]
    comparison = compare(items, answers, SETTINGS, against=[answers[0].variant])
    path = tmp_path / "report.html"
    write_report(path, comparison, items, answers, title=evil, facts=[(evil, evil)])
    page = path.read_text()
    assert "<script" not in page.lower()
    assert "&lt;script&gt;alert(" in page


def test_a_report_wants_the_answers_of_its_comparison(tmp_path: Path) -> None:
    comparison, items, answers = three_variants()
    with pytest.raises(EvaluationError, match="needs the answers of base"):
        write_report(tmp_path / "r.html", comparison, items, answers[:2])


_KEPT = {
    "support-lora",
    "base",
    "few-shot",
    "accuracy",
    "macro-F1",
    "F1",
    "n",
    "p",
    "loss",
    "mid-p",
    "p95",
}
"""What a Russian page may say in Latin letters, beside the examples themselves."""


def _latin(page: str) -> set[str]:
    """Give the words in Latin letters that a reader sees."""
    seen = re.sub(r"(?s)<(style|metadata)\b.*?</\1>|<[^>]*>", " ", page)
    return set(re.findall(r"[A-Za-z][\w-]*", html.unescape(seen)))


@pytest.mark.parametrize("groups", [0, 30])
def test_a_russian_page_has_no_english_left(tmp_path: Path, groups: int) -> None:
    items = labelled(groups=groups)
    answers = [
        answered(items, guess(right), name, loss=1.0)
        for name, right in (("base", lambda n: n % 3 == 0), ("support-lora", lambda n: n % 10 != 0))
    ]
    comparison = compare(items, answers, SETTINGS, against=["base"])
    curve = [{"step": n, "loss": 3 / n} for n in range(1, 20)]
    path = tmp_path / "report.html"
    with speaking("ru"):
        write_report(path, comparison, items, answers, loss_curve=curve, prompts=[("base", "?")])
        table = printed(comparison, 80)
    page = path.read_text()
    assert '<html lang="ru">' in page
    assert "82,1; 94,6" in page or groups
    assert _latin(page) | _latin(table) <= _KEPT | set(LABELS)


def test_a_russian_page_of_texts_has_no_english_left(tmp_path: Path) -> None:
    items = spoken(text="вопрос")
    answers = [
        answered(items, lambda n: "?" if n % 2 else f"answer {n}", "base"),
        answered(items, lambda n: f"answer {n}", "support-lora"),
    ]
    comparison = compare(items, answers, SETTINGS, against=["base"])
    path = tmp_path / "report.html"
    with speaking("ru"):
        write_report(path, comparison, items, answers)
    assert _latin(path.read_text()) - _KEPT == {"answer", "exact", "chrF", "length"}
