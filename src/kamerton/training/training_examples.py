"""Make examples into an objective's: texts, pairs, or answers with a verdict."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from kamerton.core.errors import DataError, RenderingError
from kamerton.data.examples import (
    Example,
    FeedbackExample,
    Message,
    PreferenceExample,
    TextExample,
)
from kamerton.data.formats.messages import Unusable
from kamerton.data.formats.rankings import number_of
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tokenized import (
    TokenizedFeedback,
    TokenizedPair,
    TokenizedPrompt,
    TrainingExample,
)
from kamerton.objectives.objective import Takes
from kamerton.prompting.prompt import Prompt

__all__ = ["Make", "makers_of"]

Make = Callable[[], Sequence[TrainingExample]]
"""Renders one example."""


def makers_of(
    renderer: Renderer,
    prompt: Prompt,
    examples: Sequence[Example],
    takes: Takes,
    kind: str,
    *,
    what: str = "examples",
    learned: Sequence[Example] = (),
) -> Iterator[Make]:
    """Prepare to render examples for an objective.

    Args:
        renderer: The base's renderer.
        prompt: The prompt before every conversation, never trained.
        examples: The examples to render.
        takes: The kind of example that the objective learns from.
        kind: The objective's name in the recipe, for messages.
        what: The examples' name, for messages.
        learned: Training examples, where the others are only measured on: an answer to another
            prompt may come from there.

    Yields:
        One function per example, which raises `RenderingError` if it cannot be rendered.

    Raises:
        DataError: If an example is of another kind than the objective takes.
    """
    match takes:
        case "texts":
            yield from _texts(renderer, prompt, examples)
        case "pairs":
            yield from _pairs(renderer, prompt, examples, kind)
        case "feedback":
            yield from _feedback(renderer, prompt, examples, kind, what, learned)
        case "prompts" | "prompts-with-pairs":
            yield from _prompts(renderer, prompt, examples, kind, pairs=takes != "prompts")


def _texts(renderer: Renderer, prompt: Prompt, examples: Sequence[Example]) -> Iterator[Make]:
    for example in examples:
        if isinstance(example, PreferenceExample | FeedbackExample):
            kinds = (
                '"dpo", "simpo" or "orpo", to "reward" for a model that judges, or to "rloo", '
                '"grpo", "ppo" or "drpo" where the model shall answer itself'
                if isinstance(example, PreferenceExample)
                else '"kto", or to "rloo", "grpo" or "ppo" where the model shall answer itself'
            )
            raise DataError(
                f"{example.location}: preference and feedback rows cannot be learned with "
                'objective.kind = "sft"',
                hint=f"set objective.kind to {kinds}; or bring chats, prompt/completion rows, "
                "classified texts or plain text",
            )
        yield partial(renderer.render_rows, example, prompt.apply)


def _pairs(
    renderer: Renderer, prompt: Prompt, examples: Sequence[Example], kind: str
) -> Iterator[Make]:
    for example in examples:
        if not isinstance(example, PreferenceExample):
            raise DataError(
                f"{example.location}: objective.kind = {kind!r} learns from a prompt with a better "
                "and a worse answer, found another kind of row",
                hint="bring rows with prompt, chosen and rejected, or prompt and ranked or rated "
                'answers; rows of one answer and its score need data.format = "rating", those with '
                'a yes or no objective.kind = "kto"',
            )
        yield partial(_pair, renderer, prompt, example, kind == "reward")


def _feedback(
    renderer: Renderer,
    prompt: Prompt,
    examples: Sequence[Example],
    kind: str,
    what: str,
    learned: Sequence[Example],
) -> Iterator[Make]:
    judged = [one for example in examples for one in _verdicts(example, kind)]
    borrowed: list[FeedbackExample] | None = None
    for number, example in enumerate(judged):
        other = _other(example, judged, number)
        if other is None:
            if borrowed is None:
                borrowed = [one for known in learned for one in _verdicts(known, kind)]
            other = _other(example, borrowed, number)
        if other is None:
            raise DataError(
                f"objective.kind = {kind!r} needs answers to at least two different prompts, found "
                f"one prompt among the {len(examples)} {what}: how far the model went is estimated "
                "from answers that do not belong to their prompt",
                hint="bring rows with other prompts, or a smaller data.holdout",
            )
        yield partial(_judged, renderer, prompt, example, other)


def _prompts(
    renderer: Renderer, prompt: Prompt, examples: Sequence[Example], kind: str, *, pairs: bool
) -> Iterator[Make]:
    asked = set[str]()
    for example in examples:
        if isinstance(example, TextExample) or (
            pairs and not isinstance(example, PreferenceExample)
        ):
            wanted = "prompts with a better and a worse answer" if pairs else "questions"
            raise DataError(
                f"{example.location}: objective.kind = {kind!r} learns from {wanted}, found "
                "another kind of row",
                hint="bring rows with prompt, chosen and rejected"
                + ("" if pairs else ", or chats"),
            )
        made = example if pairs else _question(example)
        if isinstance(made, FeedbackExample):
            # Several answers to one question are one question, and weigh as one.
            question = repr((made.prompt, made.extra))
            if question in asked:
                continue
            asked.add(question)
        yield partial(_prompt, renderer, prompt, made)


def _pair(
    renderer: Renderer, prompt: Prompt, example: PreferenceExample, with_margin: bool
) -> list[TokenizedPair]:
    pair = renderer.render_pair(example, prompt.apply)
    return [replace(pair, margin=_margin(example))] if with_margin else [pair]


def _margin(example: PreferenceExample) -> float | None:
    """Read how much better the better answer is, where a column says so."""
    value = example.extra.get("margin")
    if value is None or value == "":
        return None
    try:
        margin = number_of(value, "margin")
    except Unusable as error:
        raise RenderingError(f"{example.location}: margin {error.reason}") from None
    if margin < 0:
        raise RenderingError(f"{example.location}: margin must be 0 or more, got {margin:g}")
    return margin


def _judged(
    renderer: Renderer, prompt: Prompt, example: FeedbackExample, other: Sequence[Message]
) -> list[TokenizedFeedback]:
    return [renderer.render_feedback(example, other, prompt.apply)]


def _prompt(renderer: Renderer, prompt: Prompt, example: Example) -> list[TokenizedPrompt]:
    return [renderer.render_prompt(example, prompt.apply)]


def _question(example: Example) -> Example:
    """Forget which answers a pair brings: the model is to write its own."""
    if not isinstance(example, PreferenceExample):
        return example
    return FeedbackExample(
        example.location, example.prompt, example.chosen, True, example.group, example.extra,
        example.tools,
    )  # fmt: skip


def _verdicts(example: Example, kind: str) -> list[FeedbackExample]:
    """A pair is one liked and one disliked answer."""
    if isinstance(example, FeedbackExample):
        return [example]
    if not isinstance(example, PreferenceExample):
        raise DataError(
            f"{example.location}: objective.kind = {kind!r} learns from answers with a verdict, "
            "found another kind of row",
            hint="bring rows with prompt, completion and a yes-or-no column, or pairs",
        )
    return [
        FeedbackExample(
            example.location,
            example.prompt,
            answer,
            is_desirable,
            example.group,
            tools=example.tools,
        )
        for answer, is_desirable in ((example.chosen, True), (example.rejected, False))
    ]


def _other(
    example: FeedbackExample, judged: Sequence[FeedbackExample], number: int
) -> Sequence[Message] | None:
    """Take an answer to another prompt; None when there is none.

    The search begins half way round: answers to one prompt stand together, a liked one at the same
    position in each, and all of them shall be taken.
    """
    half = len(judged) // 2
    for step in range(half, half + len(judged)):
        other = judged[(number + step) % len(judged)]
        if other.prompt != example.prompt:
            return other.completion
    return None
