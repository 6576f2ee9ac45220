"""Advice after a comparison, on made-up results."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from kamerton.advisor.after_evaluation import Judged, LabelCount, advise_after_evaluation
from kamerton.core.language import speaking
from kamerton.data.examples import ChatExample, SourceLocation
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.items import make_items
from kamerton.evaluation.results import Comparison, Difference, Measured
from kamerton.evaluation.settings import EvaluationSettings
from tests.unit.evaluation.compared import answered, guess, labelled, spoken

SETTINGS = EvaluationSettings(resamples=100)


def train(settings: Mapping[str, object]) -> str:
    return " ".join(["train", *(f"{key}={value}" for key, value in settings.items())])


JUDGED = Judged("lora", "tickets/recipe.toml", train, rate=1.3e-3, num_train=33)


def compared(
    few_shot: Callable[[int], bool],
    lora: Callable[[int], bool],
    *,
    num: int = 200,
    zero_shot: Callable[[int], bool] = lambda n: False,
    general: tuple[float, float] = (3.7, 3.8),
) -> Comparison:
    items = labelled(num)
    answers = [
        answered(items, guess(right), name)
        for name, right in (("zero-shot", zero_shot), ("4-shot", few_shot), ("lora", lora))
    ]
    losses = (general[0], general[0], general[1])
    answers = [replace(a, general_loss=loss) for a, loss in zip(answers, losses, strict=True)]
    return compare(items, answers, SETTINGS, against=["zero-shot", "4-shot"])


def advised(comparison: Comparison, judged: Judged = JUDGED) -> list[tuple[str, str]]:
    return [(one.text, one.command) for one in advise_after_evaluation(comparison, judged)]


def test_a_clear_winner_is_to_be_used() -> None:
    comparison = compared(lambda n: n % 2 == 0, lambda n: n % 10 != 0)
    assert advised(comparison, replace(JUDGED, in_project=" --project there")) == [
        (
            "lora is better than 4-shot by 40.0 points of accuracy: use it",
            "kamerton predict lora --project there FILE --to OUT",
        )
    ]


def written(right: str, *, checks: list[dict[str, str]], loss: float = 0.0) -> Comparison:
    """A prompt that answers badly, and a variant that answers so."""
    items = spoken(40)
    answers = [
        answered(items, lambda n: "no idea at all", "4-shot"),
        answered(items, lambda n: right.format(n=n), "lora"),
    ]
    if loss:
        answers = [
            replace(a, losses=tuple(one + n % 3 / 10 for n in range(40)), loss_tokens=(1,) * 40)
            for a, one in zip(answers, (2.0, loss), strict=True)
        ]
    settings = EvaluationSettings.parse({"checks": checks, "resamples": 100})
    return compare(items, answers, settings, against=["4-shot"])


def test_of_texts_the_pairs_are_to_be_read_and_no_points_of_loss_are_named() -> None:
    ((text, command),) = advised(written("answer {n}", checks=[], loss=1.0))
    assert text == "lora writes closer to your texts than 4-shot: read the pairs, then use it"
    assert command == "kamerton predict lora FILE --to OUT"
    ((text, command),) = advised(written("no idea at all", checks=[], loss=3.0))
    assert text.startswith("4-shot writes closer to your texts than lora: take the prompt")


def test_a_later_check_that_is_passed_is_not_enough() -> None:
    checks = [{"kind": "json_values"}, {"kind": "json"}]
    items = make_items(
        [
            ChatExample(
                SourceLocation("f", n + 1),
                (
                    {"role": "user", "content": f"letter {n}"},
                    {"role": "assistant", "content": json.dumps({"n": n})},
                ),
            )
            for n in range(40)
        ]
    )
    answers = [
        answered(items, lambda n: "no idea", "4-shot"),
        answered(items, lambda n: '{"n": -1}', "lora"),
    ]
    settings = EvaluationSettings.parse({"checks": checks, "resamples": 100})
    ((text, command),) = advised(compare(items, answers, settings, against=["4-shot"]))
    assert text == (
        "lora is better than 4-shot by 100.0 points of json, but not in values, where it has 0 %: "
        "add examples, train longer, or take a larger base"
    )
    assert command == "kamerton advise tickets/recipe.toml"


def test_who_tells_good_answers_from_bad_ones_has_not_written_any() -> None:
    told = {"zero-shot": 0.5, "4-shot": 0.6, "lora": 0.95}
    comparison = replace(
        compared(lambda n: n % 10 < 10 * told["4-shot"], lambda n: n % 20 < 20 * told["lora"]),
        kind="verdicts",
    )
    ((text, command),) = advised(comparison)
    assert text == (
        "lora tells good answers from bad ones better than 4-shot, by 35.0 points: read what it "
        "writes itself, then use it"
    )
    assert command == "kamerton chat lora"


def test_the_best_prompt_is_what_counts() -> None:
    comparison = compared(
        lambda n: n % 2 == 0, lambda n: n % 10 != 0, zero_shot=lambda n: n % 5 != 0
    )
    ((text, _),) = advised(comparison)
    assert text.startswith("lora is better than zero-shot by 10.0 points")


def test_where_few_shot_wins_examples_or_another_method_are_advised() -> None:
    comparison = compared(lambda n: n % 10 != 0, lambda n: n % 2 == 0)
    ((text, command),) = advised(comparison)
    assert text == (
        "4-shot wins by 40.0 points of accuracy: lora learned from 33 training examples only; add "
        "examples, or take another method"
    )
    assert command == "kamerton advise tickets/recipe.toml"
    ((text, command),) = advised(comparison, replace(JUDGED, num_train=5000))
    assert command == "kamerton prompt search tickets/recipe.toml"
    assert text == "4-shot wins by 40.0 points of accuracy: take the prompt, or another method"


def test_where_nothing_can_be_won_nothing_has_to_be_trained() -> None:
    comparison = compared(lambda n: n != 3, lambda n: n not in (3, 4), num=400)
    ((text, command),) = advised(comparison)
    assert text.startswith("4-shot is as good: training wins at most 0.")
    assert command == "kamerton prompt search tickets/recipe.toml"
    # Of two prompts the same does not speak against training.
    assert "cannot tell" in advised(comparison, replace(JUDGED, rate=0.0))[0][0]


def test_what_cannot_be_told_apart_needs_so_many_items() -> None:
    # 24 items only the one, 12 only the other: 6 points, not clear after correction.
    comparison = compared(lambda n: n >= 24, lambda n: not 24 <= n < 36, num=200)
    ((text, command),) = advised(comparison)
    assert text.startswith("200 items cannot tell lora and 4-shot apart (accuracy +6.0, from ")
    assert "if 6.0 points of accuracy are real, about " in text
    assert command == "kamerton evaluate lora --data MORE_EXAMPLES"
    # Where a limit left some of the items out, those are asked first.
    ((_, command),) = advised(comparison, replace(JUDGED, limit=200))
    assert command == "kamerton evaluate lora --set evaluate.limit=0"


def test_a_difference_too_small_to_matter_is_not_chased() -> None:
    comparison = compared(lambda n: n >= 18, lambda n: not 18 <= n < 35, num=200)
    ((text, _),) = advised(comparison)
    assert "would show 3.0 points of accuracy, and less hardly matters" in text


@pytest.mark.parametrize(("after", "told"), [(4.5, False), (11.9, True)])
def test_what_was_forgotten_is_told(after: float, told: bool) -> None:
    comparison = compared(lambda n: n % 2 == 0, lambda n: n % 10 != 0, general=(3.7, after))
    found = advised(comparison)[1:]
    assert len(found) == told
    if told:
        ((text, command),) = found
        assert "rose from 3.70 to 11.90 with lora: it forgot much" in text
        assert command == "train train.learning_rate=0.00043"
        labels = {"refund": LabelCount(60, 1, 40)}
        assert "does no harm" in advised(comparison, replace(JUDGED, labels=labels))[1][0]


def test_missed_labels_with_few_examples_are_named_the_worst_first() -> None:
    labels = {
        "refund": LabelCount(asked=60, missed=2, learned=5),
        "often": LabelCount(asked=10, missed=8, learned=40),
        "rare": LabelCount(asked=4, missed=2, learned=3),
        "rarest": LabelCount(asked=3, missed=3, learned=1),
        "once": LabelCount(asked=1, missed=1, learned=2),
        "never asked": LabelCount(asked=0, missed=0, learned=2),
    }
    comparison = compared(lambda n: n % 2 == 0, lambda n: n % 10 != 0)
    (_, (text, command)) = advised(comparison, replace(JUDGED, labels=labels))
    assert "fewer than 10 training examples: once (2), rarest (1), rare (3). Add" in text
    assert command == "train"


def test_a_loss_is_worded_in_nats_and_the_lower_is_better() -> None:
    found = Difference("loss", "lora", "4-shot", -0.41, -0.5, -0.3, 0.001, 0.002, "permutation")
    measured = [Measured("loss", name, 2.0, 1.9, 2.1, 40) for name in ("4-shot", "lora")]
    comparison = replace(
        compared(lambda n: True, lambda n: True, num=40),
        metrics=("loss",), better=("lower",), units=("nats",), kind="texts",
        measured=tuple(measured), differences=(found,), against=("4-shot",),
    )  # fmt: skip
    assert advised(comparison)[0][0] == (
        "lora writes closer to your texts than 4-shot: read the pairs, then use it"
    )
    unsure = replace(found, low=-0.9, high=0.08, p_value=0.2, p_corrected=0.2)
    ((text, _),) = advised(replace(comparison, differences=(unsure,), kind="checks"))
    assert text == (
        "40 items cannot tell lora and 4-shot apart (loss +0.41, from -0.08 to +0.90): if 0.41 "
        "nats a token of loss are real, about 120 items would show it"
    )


def test_without_intervals_nothing_is_advised() -> None:
    items = labelled(4, groups=2)
    answers = [
        answered(items, guess(lambda n: True), name) for name in ("zero-shot", "4-shot", "lora")
    ]
    comparison = compare(items, answers, SETTINGS, against=["zero-shot", "4-shot"])
    assert comparison.differences == ()
    assert advised(comparison) == []


def test_advice_is_given_in_russian() -> None:
    comparison = compared(lambda n: n % 10 != 0, lambda n: n % 2 == 0)
    with speaking("ru"):
        ((text, _),) = advised(comparison)
    assert text == (
        "4-shot лучше (40,0 пункта, accuracy): lora учился всего на немногом (33 обучающих "
        "примера); добавьте примеров или возьмите другой способ"
    )
