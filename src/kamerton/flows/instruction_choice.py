"""Choosing the instruction of the prompts: the one that serves the base best on training examples.

Naming the labels is what a user would do first, and some small bases then answer one label for
everything. A rival that was made weaker proves nothing, so the base itself decides.
"""

from collections.abc import Sequence

from kamerton.core.errors import EvaluationError
from kamerton.core.events import Event, Notice, Sink
from kamerton.core.language import translated, translated_count
from kamerton.data.examples import ClassificationExample, Example
from kamerton.data.rendering.renderer import Renderer
from kamerton.evaluation.items import make_items, spread
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.flows.candidates import Candidate, render_questions
from kamerton.models.base import Base
from kamerton.prompting.prompt import Prompt

__all__ = ["choose_instruction"]

_LABELS_SCORED = 512
_FEWEST, _MOST = 16, 32
_SHOWN_CHARACTERS = 300


def choose_instruction(
    texts: Sequence[str],
    base: Base,
    renderer: Renderer,
    train: Sequence[Example],
    settings: EvaluationSettings,
    sink: Sink,
) -> str:
    """Choose between instructions and none, where there are several, by asking the base alone.

    Args:
        texts: The instructions, the fullest first; none of them chooses none.
        base: The base without an adapter.
        renderer: Its renderer.
        train: The training examples, of which 16 to 32 are asked: nothing is learned of those that
            variants are measured on.
        settings: Says how labels are chosen.
        sink: The sink, which is told what was chosen and why.

    Returns:
        The instruction with most right answers, the fullest of equals; empty for none.
    """
    text = texts[0] if texts else ""
    if len(texts) > 1:
        numbers, asked = _right_answers((*texts, ""), base, renderer, train, settings)
        if asked:
            text = (*texts, "")[numbers.index(max(numbers))]
            sink(
                Notice(
                    translated(
                        "the instruction of the prompts is chosen on {examples}: {labels} answered "
                        "right with the labels named, {task} with the task alone, {none} without",
                        examples=translated_count(
                            asked, "example to learn from", "examples to learn from"
                        ),
                        labels=numbers[0],
                        task=numbers[1],
                        none=numbers[2],
                    )
                )
            )
    if text:
        sink(
            Notice(
                translated(
                    "the prompts without training get an instruction, as prompt.system is empty: "
                    '"{text}" (evaluate.instruction = "none" leaves it out)',
                    text=_beginning(text),
                )
            )
        )
    return text


def _right_answers(
    texts: Sequence[str],
    base: Base,
    renderer: Renderer,
    train: Sequence[Example],
    settings: EvaluationSettings,
) -> tuple[list[int], int]:
    """Count right answers by instruction, and how many were asked; 0 where none can be."""

    def silent(_: Event) -> None:
        """What cannot be asked here is no news: it is not measured."""

    classified = [one for one in train if isinstance(one, ClassificationExample)]
    labels = sorted({one.label for one in classified})
    num = min(max(_LABELS_SCORED // len(labels), _FEWEST), _MOST)
    candidates = [
        Candidate(f"instruction {number}", renderer, (Prompt(system=text or None),))
        for number, text in enumerate(texts)
    ]
    try:
        held, asked = render_questions(candidates, spread(classified, num), labels, silent)
    except EvaluationError:
        return [0] * len(texts), 0
    items = make_items(held, labels=labels)
    right = []
    for one, own in zip(candidates, asked, strict=True):
        with one.attached(base) as engine:
            answers = one.answer(engine, items, own, settings, lambda done, of: None)
        right.append(
            sum(text == item.reference for text, item in zip(answers.texts, items, strict=True))
        )
    return right, len(items)


def _beginning(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS].rstrip() + " ..."
