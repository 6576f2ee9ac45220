"""Metrics of written answers that no rule calls right."""

import dataclasses
import io
import re

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from kamerton.core.language import Language, speaking
from kamerton.data.examples import ChatExample, SourceLocation
from kamerton.evaluation.chrf import chrf, chrf_features
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.free_text import explained
from kamerton.evaluation.items import Answers, Item, make_items
from kamerton.evaluation.results import Comparison
from kamerton.evaluation.settings import EvaluationSettings, Rule, RulesCheck
from kamerton.evaluation.table import markdown_table, terminal_table
from tests.unit.evaluation.compared import SETTINGS, answered, labelled, spoken

LONG = "Thank you for writing to us, your parcel number {n} is on its way to you."


def texts(num: int, groups: int = 0) -> list[Item]:
    """Items whose right answers are too long to be written twice."""
    return make_items(
        [
            ChatExample(
                SourceLocation("f", n + 1),
                (
                    {"role": "user", "content": f"question {n}"},
                    {"role": "assistant", "content": LONG.format(n=n)},
                ),
                group=str(n % groups) if groups else None,
            )
            for n in range(num)
        ]
    )


def with_loss(answers: Answers, losses: list[float], counts: list[int]) -> Answers:
    mean = sum(losses) / sum(counts)
    return dataclasses.replace(
        answers, losses=tuple(losses), loss_tokens=tuple(counts), holdout_loss=mean,
        holdout_tokens=sum(counts),
    )  # fmt: skip


def two(num: int, *, groups: int = 0, gain: float = 1.0) -> Comparison:
    """A prompt with noisy losses, and a variant with `gain` nats a token less."""
    items = texts(num, groups)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, num))
    counts = [10 + n % 7 for n in range(num)]
    means = (2.5 + noise[0], 2.5 - gain + noise[0] + noise[1] / 5)
    said = (lambda n: "Hi.", lambda n: LONG.format(n=n + 1))
    answers = []
    for name, mean, answer in zip(("zero-shot", "tone"), means, said, strict=True):
        losses = [m * c for m, c in zip(mean, counts, strict=True)]
        answers.append(with_loss(answered(items, answer, name), losses, counts))
    return compare(items, answers, SETTINGS, against=["zero-shot"])


def test_texts_are_measured_by_loss_likeness_and_length() -> None:
    comparison = two(40)
    assert comparison.kind == "texts"
    assert comparison.metrics == ("loss", "chrF", "length")
    assert comparison.units == ("nats", "score", "ratio")
    assert comparison.better == ("lower", "higher", "neither")
    for name in comparison.variants:
        loss = comparison.measure("loss", name)
        # The same mean over tokens that stands for the run.
        assert loss.value == pytest.approx(comparison.cost(name).holdout_loss)
        assert loss.low < loss.value < loss.high
    found = comparison.difference("loss", "tone", "zero-shot")
    assert found is not None
    assert found.value == pytest.approx(-1.0, abs=0.05)
    assert (found.low < -1.0 < found.high, found.high < -0.9, found.test) == (
        True, True, "permutation"
    )  # fmt: skip
    assert len(comparison.differences) == 3
    assert all(d.p_corrected >= d.p_value for d in comparison.differences)
    assert comparison.measure("length", "zero-shot").value < 0.05
    assert comparison.measure("chrF", "tone").value > 0.9


def test_pairing_takes_the_noise_that_both_share_out_of_the_difference() -> None:
    comparison = two(40, gain=0.2)
    found = comparison.difference("loss", "tone", "zero-shot")
    first, second = (comparison.measure("loss", name) for name in comparison.variants)
    assert found is not None
    assert found.p_corrected < 0.05
    assert second.high > first.low


@pytest.mark.parametrize(("num", "groups"), [(12, 0), (40, 8)])
def test_of_few_groups_a_loss_above_one_is_bounded_too(num: int, groups: int) -> None:
    comparison = two(num, groups=groups)
    loss = comparison.measure("loss", "zero-shot")
    assert loss.low is not None
    assert 1.5 < loss.low < loss.value < loss.high < 4
    found = comparison.difference("loss", "tone", "zero-shot")
    assert found is not None
    assert found.low < found.value < found.high < -0.5


def test_of_fewer_than_five_a_loss_has_no_interval() -> None:
    comparison = two(4)
    assert comparison.differences == ()
    assert comparison.measure("loss", "tone").low is None


def test_checks_decide_before_the_loss_does() -> None:
    items = texts(12)
    check = RulesCheck(rules=(Rule(name="thanks", pattern="^Thank"),))
    settings = EvaluationSettings(resamples=200, checks=(check,))
    answers = [with_loss(answered(items, lambda n: "No.", "v"), [20.0] * 12, [10] * 12)]
    comparison = compare(items, answers, settings)
    assert (comparison.metrics, comparison.kind) == (("rules", "loss"), "checks")
    assert comparison.measure("loss", "v").value == 2.0


def test_the_loss_of_some_variants_alone_stays_among_the_costs() -> None:
    items = texts(12)
    one, other = (answered(items, lambda n: "Hi.", name) for name in ("a", "b"))
    comparison = compare(items, [with_loss(one, [20.0] * 12, [10] * 12), other], SETTINGS)
    assert comparison.metrics == ("chrF", "length")
    assert "loss (perplexity)" in markdown_table(comparison)


def test_a_variant_with_fewer_and_larger_tokens_is_not_worse_for_it() -> None:
    items = texts(12)
    base, other = (answered(items, lambda n: "Hi.", name) for name in ("zero-shot", "new-tokens"))
    # The same texts are as likely as before, in half of the tokens.
    answers = [with_loss(base, [20.0] * 12, [10] * 12), with_loss(other, [20.0] * 12, [5] * 12)]
    comparison = compare(items, answers, SETTINGS, against=["zero-shot"])
    found = comparison.difference("loss", "new-tokens", "zero-shot")
    assert found is not None
    assert (found.value, found.p_value) == (0, 1)
    assert comparison.cost("new-tokens").holdout_loss == 4


def test_labels_and_short_answers_have_what_they_had() -> None:
    items = labelled(12)
    answers = with_loss(answered(items, lambda n: "refund", "v"), [3.0] * 12, [1] * 12)
    assert compare(items, [answers], SETTINGS).metrics == ("accuracy", "macro-F1")
    assert compare(spoken(), [answered(spoken(), str, "v")], SETTINGS).metrics[-1] == "exact"


def test_tables_say_what_each_metric_is_counted_in() -> None:
    text = markdown_table(two(40))
    heads = text.splitlines()[0]
    assert "| loss, nats a token | chrF, 0 to 100 | length, % of the right answers |" in heads
    # A loss that has its interval is not told a second time.
    assert "loss (perplexity)" not in heads
    assert "differences in the same units" in text


@pytest.mark.parametrize("language", ["en", "ru"])
def test_the_table_of_texts_fits_80_columns_and_explains_itself(language: Language) -> None:
    file = io.StringIO()
    with speaking(language):
        table = terminal_table(two(40))
    Console(file=file, width=80, color_system=None).print(table)
    lines = file.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= 80
    row = next(line for line in lines if line.strip().startswith("tone"))
    if language == "ru":
        row = row.replace(",", ".").replace(";", ",")
    assert re.fullmatch(r"  tone +1\.\d\d \[\d\.\d\d, \d\.\d\d\] +-1\.00 p=0\.\d{3}", row)
    assert sum(line.startswith(("loss: ", "chrF: ", "length: ")) for line in lines) == 3


def test_a_check_that_is_called_loss_is_not_explained_as_one() -> None:
    check = RulesCheck(name="loss", rules=(Rule(name="thanks", pattern="^Thank"),))
    settings = EvaluationSettings(resamples=200, checks=(check,))
    comparison = compare(texts(12), [answered(texts(12), lambda n: "No.", "v")], settings)
    assert explained(comparison) == {}


def test_chrf_weighs_recall_more_than_precision() -> None:
    # Two of three runs of one character match, and one of two of two; nothing longer is shared.
    (value,) = chrf(chrf_features(["abc"], ["ab d"]))
    precision = recall = (2 / 3 + 1 / 2 + 0) / 3
    assert value == pytest.approx(5 * precision * recall / (4 * precision + recall))
    longer, shorter = chrf(chrf_features(["abcdefgh", "abcd"], ["abcd", "abcdefgh"]))
    assert longer > shorter
    assert chrf(chrf_features(["", "a"], ["a", "a"])).tolist() == [0.0, 1.0]
