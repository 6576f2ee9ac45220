"""Keeping a comparison to questions that none of its variants learned from or was shown."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kamerton.core.errors import EvaluationError
from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    Message,
    SourceLocation,
    TextExample,
)
from kamerton.data.identity import question_hash
from kamerton.flows.candidates import Measurable
from kamerton.prompting.prompt import Prompt
from kamerton.store.trained_on import read_trained_on, short_hash
from kamerton.store.variants import Variant

__all__ = ["trained_questions", "unseen"]


def trained_questions(examples: Sequence[Example]) -> frozenset[str]:
    """Note what examples ask.

    Args:
        examples: The examples to learn from.

    Returns:
        Short hashes, as a variant's record holds them.
    """
    return frozenset(short_hash(question_hash(example)) for example in examples)


def unseen(
    held: Sequence[Measurable],
    variants: Sequence[Variant],
    prompts: Mapping[str, Prompt],
    sink: Sink,
    *,
    include_trained: bool = False,
) -> tuple[list[Measurable], str]:
    """Leave out what a variant learned from, and what a prompt shows as a worked example.

    Questions are the same when their texts are, up to case and white space, wherever they stand.

    Args:
        held: Questions with their answers.
        variants: The compared variants.
        prompts: The prompts by their owners' names; their worked examples count as seen.
        sink: Receives warnings: of what was seen, and of variants that did not note it.
        include_trained: Whether all are kept, and the seen ones only counted in a message.

    Returns:
        The questions to ask, and what was seen in words; empty when nothing was.

    Raises:
        EvaluationError: If nothing is left.
    """
    hashes = [short_hash(question_hash(example)) for example in held]
    plain = [short_hash(question_hash(_without_system(example))) for example in held]
    seen: set[int] = set()
    by_name: list[str] = []
    for variant in variants:
        learned = read_trained_on(variant)
        if learned is None:
            unknown = translated(
                "{variant} was made by an older version, which did not note what it learned from: "
                "some of the questions may be among it",
                variant=variant.name,
            )
            sink(Notice(unknown, "warning"))
        found = {n for n, hashed in enumerate(hashes) if hashed in (learned or ())}
        if found:
            by_name.append(
                translated("{variant} learned from {num}", variant=variant.name, num=len(found))
            )
        seen |= found
    for name, prompt in prompts.items():
        shown = {short_hash(question_hash(_example(chat))) for chat in prompt.demonstrations}
        found = {n for n, hashed in enumerate(plain) if hashed in shown} - seen
        if found:
            by_name.append(translated("{name} shows {num}", name=name, num=len(found)))
        seen |= found
    if not seen:
        return list(held), ""
    said = {"num": len(seen), "all": len(held), "who": ", ".join(by_name)}
    if include_trained:
        told = translated("{num} of {all} questions were seen before ({who})", **said)
        warning = translated("{told}: the values say little about new ones", told=told)
        sink(Notice(warning, "warning"))
        return list(held), translated("{told} and are asked all the same", told=told)
    left = [example for n, example in enumerate(held) if n not in seen]
    if not left:
        raise EvaluationError(
            translated(
                "there is nothing to measure on: all {all} examples were seen before ({who})",
                all=said["all"],
                who=said["who"],
            ),
            hint=translated(
                "give other ones with --data FILE; evaluate.include_trained = true asks them all "
                "the same, which measures memory"
            ),
        )
    told = translated(
        "{num} of {all} examples are left out, as they were seen before ({who})", **said
    )
    sink(Notice(told, "warning"))
    return left, told


def _example(chat: Sequence[Mapping[str, object]]) -> ChatExample:
    return ChatExample(SourceLocation("", 0), tuple(chat))


def _without_system(example: Measurable) -> Measurable:
    """A question as a worked example shows it: without its own system text."""
    if isinstance(example, ClassificationExample | TextExample):
        return example
    if isinstance(example, ChatExample):
        return replace(example, messages=_spoken(example.messages))
    return replace(example, prompt=_spoken(example.prompt))


def _spoken(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(message for message in messages if message["role"] != "system")
