"""Comparisons made with the fake engine, for several tests."""

import dataclasses
from collections.abc import Callable

from kamerton.data.examples import ChatExample, ClassificationExample, SourceLocation
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.items import Answers, Item, make_items, run_items
from kamerton.evaluation.results import Comparison
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.testing import FakeEngine

SETTINGS = EvaluationSettings(resamples=400)
LABELS = ("refund", "delivery", "счёт")


def labelled(num: int = 90, *, groups: int = 0) -> list[Item]:
    """Items with three labels, each text saying its number."""
    examples = [
        ClassificationExample(
            SourceLocation("f", n + 1),
            str(n),
            LABELS[n % 3],
            group=str(n % groups) if groups else None,
        )
        for n in range(num)
    ]
    return make_items(examples)


def spoken(num: int = 30, text: str = "question") -> list[Item]:
    """Items whose answer is written."""
    return make_items(
        [
            ChatExample(
                SourceLocation("f", n + 1),
                (
                    {"role": "user", "content": f"{text} {n}"},
                    {"role": "assistant", "content": f"answer {n}"},
                ),
                extra={"forbidden": n % 2 == 0},
            )
            for n in range(num)
        ]
    )


def guess(right: Callable[[int], bool]) -> Callable[[int], str]:
    """Answer with the right label where `right` says so, else the next one."""
    return lambda n: LABELS[(n if right(n) else n + 1) % 3]


def answered(
    items: list[Item],
    answer: Callable[[int], str],
    name: str,
    settings: EvaluationSettings = SETTINGS,
    loss: float | None = None,
) -> Answers:
    """Let a fake answer by the number in the question."""
    engine = FakeEngine(lambda chat: answer(int(str(chat[-1]["content"]).split()[-1])))
    answers = run_items(engine, name, items, settings)
    return dataclasses.replace(answers, holdout_loss=loss, holdout_tokens=500 if loss else 0)


def three_variants(
    names: tuple[str, str, str] = ("base", "few-shot", "support-lora"),
) -> tuple[Comparison, list[Item], list[Answers]]:
    """A weak base, a better prompt and a good adapter."""
    items = labelled()
    rights = (lambda n: n % 3 == 0, lambda n: n % 2 == 0, lambda n: n % 10 != 0)
    answers = [
        answered(items, guess(right), name, loss=loss)
        for name, right, loss in zip(names, rights, (2.5, None, 0.7), strict=True)
    ]
    return compare(items, answers, SETTINGS, against=names[:2]), items, answers
