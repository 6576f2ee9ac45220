"""Calls of functions in a comparison: the questions show the tools, the answers are read back."""

from collections.abc import Sequence
from dataclasses import replace

from kamerton.core.errors import EvaluationError, RenderingError
from kamerton.core.protocols import ToolCall
from kamerton.data.examples import ChatExample
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tool_calls import CallForm, answer_ids, find_call_form
from kamerton.evaluation.items import Item
from kamerton.flows.candidates import Measurable
from kamerton.inference.detokenise import read_answer

__all__ = ["call_form_of", "ensure_tools_shown", "with_readable_calls"]


def ensure_tools_shown(renderer: Renderer, held: Sequence[Measurable], base: str) -> None:
    """Refuse tools that the base's template cannot show.

    Args:
        renderer: The base's renderer.
        held: The examples to measure on.
        base: Its name.

    Raises:
        EvaluationError: If there are tools and the template has no place for them.
    """
    with_tools = sum(bool(getattr(one, "tools", ())) for one in held)
    if with_tools and not renderer.facts.tools:
        raise EvaluationError(
            f"{with_tools} of {len(held)} held-out examples have tools, and the chat template of "
            f"{base} has no place for tools",
            hint="describe the tools in the system text and write the calls into the answers' "
            "text, or take a base that knows tools",
        )


def call_form_of(renderer: Renderer, items: Sequence[Item]) -> CallForm | None:
    """Find out how calls in answers are read.

    Args:
        renderer: The base's renderer.
        items: The questions.

    Returns:
        The form; None when no question has to do with tools.

    Raises:
        EvaluationError: If a right answer calls functions and calls cannot be read.
    """
    if not any(item.tools or item.calls for item in items):
        return None
    form = find_call_form(renderer, lambda ids: read_answer(renderer, ids))
    if form is None and any(item.calls for item in items):
        raise EvaluationError(
            "the right answers call functions, but the way in which the base's chat template "
            "writes calls cannot be read back",
            hint="write the calls into the answers' text, or take a base whose template writes "
            "them as JSON",
        )
    return form or CallForm()


def with_readable_calls(
    items: Sequence[Item], held: Sequence[Measurable], renderer: Renderer, form: CallForm
) -> list[Item]:
    """Bring right calls into the form in which those of an answer are read.

    A template may write the number 5 and the text "5" alike: then no answer could be told right
    from wrong unless both sides went through the same writing and reading.

    Args:
        items: The questions.
        held: The examples that they were made of.
        renderer: The base's renderer.
        form: The form in which calls are read.

    Returns:
        The questions.

    Raises:
        EvaluationError: If a right answer, written by the template, does not hold the right calls.
    """
    return [
        replace(item, calls=_read_back(item, example, renderer, form)) if item.calls else item
        for item, example in zip(items, held, strict=True)
    ]


def _read_back(
    item: Item, example: Measurable, renderer: Renderer, form: CallForm
) -> tuple[ToolCall, ...]:
    assert isinstance(example, ChatExample), "only chats call functions"
    try:
        written = read_answer(renderer, answer_ids(renderer, example.messages, example.tools))
    except RenderingError as error:
        raise EvaluationError(f"{example.location}: {error.message}", hint=error.hint) from error
    calls = form.read(written)
    if [call.name for call in calls] != [call.name for call in item.calls]:
        raise EvaluationError(
            f"{example.location}: the calls of the right answer cannot be read back from what the "
            f"chat template makes of them: {written!r}",
            hint="leave the row out of the holdout, or write the call into the answer's text",
        )
    return calls
