"""Asking: held-out examples become items, and an engine's reactions become answers."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from kamerton.core.errors import EvaluationError
from kamerton.core.files import hash_json
from kamerton.core.generation import GenerationSettings
from kamerton.core.protocols import Chat, Engine, Generation, Score, ToolCall, ToolSchemas
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    FeedbackExample,
    Message,
    PreferenceExample,
    TextExample,
)
from kamerton.data.identity import single_text
from kamerton.data.rendering.answers import split_reasoning
from kamerton.data.rendering.tool_calls import calls_of
from kamerton.evaluation.settings import EvaluationSettings

__all__ = ["Answers", "Item", "Progress", "ReadCalls", "make_items", "run_items", "spread"]

_CHATS_PER_BATCH = 256
_Example = ChatExample | ClassificationExample | PreferenceExample | FeedbackExample | TextExample
_Any = TypeVar("_Any")

ReadCalls = Callable[[str], tuple[ToolCall, ...]]
"""Reads the calls of functions in a text that a model wrote."""

Progress = Callable[[int, int], None]
"""Told how many items are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its right answer.

    Attributes:
        id: Hash of question, reference and how often the same pair came before, in hex.
        chat: Messages up to the answer; empty where a plain text is only read.
        reference: The right answer: a label, or the text of the last assistant turn without
            reasoning that stands before it, and its calls; or the plain text.
        labels: Candidates to score; empty when an answer is generated.
        extra: The row's other columns, for checks.
        group: Items of one group are not independent; None stands alone.
        pair: Whether the labels are the worse and the better answer of a pair.
        tools: The functions that may be called.
        calls: The right calls; empty where the right answer makes none.
        is_desirable: Whether users liked the reference; None where there is no verdict.
    """

    id: str
    chat: Chat
    reference: str
    labels: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    pair: bool = False
    tools: ToolSchemas = ()
    calls: tuple[ToolCall, ...] = ()
    is_desirable: bool | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What one variant answered, item by item.

    Attributes:
        variant: Its name.
        kind: `scored` when labels were compared, `generated` when text was written, `read` when
            plain texts were read for their losses.
        texts: One per item: the chosen label or the generated text.
        seconds: One per item: the wall time of its batch divided by the size of the batch. Items
            of a batch run together, so this is cost, not the wait of one user.
        num_tokens: Tokens generated per item, all candidates' tokens when scored.
        finish_reasons: `stop` or `length` per item.
        item_ids: Which items were answered, in order.
        holdout_loss: Mean over labelled tokens of the holdout; None when it was not measured.
        holdout_tokens: Labelled tokens that the loss is the mean of.
        losses: One per item: the negative natural-log probability of the right answer, summed over
            its tokens; empty when it was not measured.
        loss_tokens: One per item: labelled tokens of the right answer, 0 where there is none.
        general_loss: Mean over tokens of general text; None when it was not measured.
        calls: The calls that stand in each text; empty when nobody read them.
        worths: One per item: the mean log-probability of the chosen text's tokens, or its reward;
            empty when text was written.
        gaps: One per pair: by how much its better answer is above the worse in log-probability,
            summed over tokens, or in reward; empty when no pairs were scored.
        reward_accuracy: Share of pairs whose gap is larger than under the reference that the
            variant went away from, ties half; None when there are no pairs or no reference.
    """

    variant: str
    kind: Literal["generated", "scored", "read"]
    texts: tuple[str, ...]
    seconds: tuple[float, ...]
    num_tokens: tuple[int, ...]
    finish_reasons: tuple[str, ...]
    item_ids: tuple[str, ...]
    holdout_loss: float | None = None
    holdout_tokens: int = 0
    losses: tuple[float, ...] = ()
    loss_tokens: tuple[int, ...] = ()
    general_loss: float | None = None
    calls: tuple[tuple[ToolCall, ...], ...] = ()
    worths: tuple[float, ...] = ()
    gaps: tuple[float, ...] = ()
    reward_accuracy: float | None = None

    def relative_to(self, reference: "Answers") -> "Answers":
        """Say how many pairs moved the right way from a reference.

        Args:
            reference: Its answers to the same pairs.

        Returns:
            The same answers with `reward_accuracy`.
        """
        moved = [
            float(own > other) + 0.5 * (own == other)
            for own, other in zip(self.gaps, reference.gaps, strict=True)
        ]
        share = sum(moved) / len(moved) if moved else None
        return dataclasses.replace(self, reward_accuracy=share)


def spread(examples: Sequence[_Any], limit: int) -> list[_Any]:
    """Take some of the examples, spread evenly over them.

    Args:
        examples: Examples in file order.
        limit: Most to take; 0 takes all.

    Returns:
        Those taken, in order.
    """
    if not limit or limit >= len(examples):
        return list(examples)
    return [examples[position * len(examples) // limit] for position in range(limit)]


def make_items(
    examples: Sequence[_Example],
    labels: Sequence[str] | None = None,
    *,
    asked: bool = False,
) -> list[Item]:
    """Make items of held-out examples.

    Args:
        examples: All of one kind.
        labels: Candidates for classification, best those of the training examples too; the
            labels of the examples when left out.
        asked: Whether the questions of judged answers are asked; else the answers are scored.

    Returns:
        One item per example, in order.

    Raises:
        EvaluationError: If there are none, kinds are mixed, a chat does not end with an
            assistant's turn, or a label is no candidate.
    """
    if not examples:
        raise EvaluationError(
            "an evaluation needs at least one held-out example, found none",
            hint="give more rows, or a larger share for the test split",
        )
    if len({type(example) for example in examples}) > 1:
        raise EvaluationError("the examples of an evaluation must be of one kind, found a mixture")
    if labels is None:
        labels = [e.label for e in examples if isinstance(e, ClassificationExample)]
    candidates = tuple(sorted(set(labels)))
    seen: dict[str, int] = {}
    items = []
    for example in examples:
        chat, reference, choices = _question(example, candidates, asked)
        tools = () if isinstance(example, ClassificationExample | TextExample) else example.tools
        told = [list(map(dict, tools))] if tools else []
        content = hash_json([list(map(dict, chat)), reference, *told])
        number = seen[content] = seen.get(content, -1) + 1
        items.append(
            Item(
                id=hash_json([content, number]) if number else content,
                chat=chat,
                reference=reference,
                labels=choices,
                extra=example.extra,
                group=example.group,
                pair=isinstance(example, PreferenceExample),
                tools=tools,
                calls=calls_of(example.messages[-1]) if isinstance(example, ChatExample) else (),
                is_desirable=example.is_desirable if isinstance(example, FeedbackExample) else None,
            )
        )
    return items


def run_items(
    engine: Engine,
    variant: str,
    items: Sequence[Item],
    settings: EvaluationSettings,
    on_progress: Progress | None = None,
    read_calls: ReadCalls | None = None,
    own: GenerationSettings | None = None,
) -> Answers:
    """Let an engine answer items: score their labels, or generate where there are none.

    A label is chosen by the summed log-probability of its tokens, or by the mean when
    `settings.length_normalised`; the first of equals wins.

    Args:
        engine: Answers with the variant's prompt.
        variant: How the variant is called.
        items: All with labels, or all without.
        settings: Choice of labels, and length of answers where it is not the variant's own.
        on_progress: Called after each written answer, or after each batch of at most 256 items
            whose labels are scored.
        read_calls: Reads calls in the texts; needed where right answers make some.
        own: The variant's generation defaults; those of a recipe that says nothing when None.

    Returns:
        Its answers; `seconds` is a batch's wall time divided by the size of the batch.

    Raises:
        EvaluationError: If some items have labels and some have none.
    """
    scored = bool(items and items[0].labels)
    generation = settings.generation(own or GenerationSettings())
    if any(bool(item.labels) != scored for item in items):
        raise EvaluationError("either all items must have labels or none, found both")
    texts: list[str] = []
    seconds: list[float] = []
    num_tokens: list[int] = []
    reasons: list[str] = []
    worths: list[float] = []
    gaps: list[float] = []
    for start in range(0, len(items), _CHATS_PER_BATCH):
        batch = items[start : start + _CHATS_PER_BATCH]
        began = time.perf_counter()

        def report(done: int, before: int = start) -> None:
            if on_progress is not None:
                on_progress(before + done, len(items))

        if scored:
            answered, worth, gap = _choose(engine, batch, settings.length_normalised)
            worths += worth
            gaps += gap
            report(len(batch))
        else:
            answered = _generate(engine, batch, generation, report)
        seconds += [(time.perf_counter() - began) / len(batch)] * len(batch)
        for text, tokens, reason in answered:
            texts.append(text)
            num_tokens.append(tokens)
            reasons.append(reason)
    return Answers(
        variant=variant,
        kind="scored" if scored else "generated",
        texts=tuple(texts),
        seconds=tuple(seconds),
        num_tokens=tuple(num_tokens),
        finish_reasons=tuple(reasons),
        item_ids=tuple(item.id for item in items),
        calls=tuple(map(read_calls, texts)) if read_calls and not scored else (),
        worths=tuple(worths),
        gaps=tuple(gaps),
    )


def _question(
    example: _Example, candidates: tuple[str, ...], asked: bool
) -> tuple[Chat, str, tuple[str, ...]]:
    """Chat, right answer, and what to choose from."""
    if isinstance(example, TextExample):
        return (), example.text, ()
    if isinstance(example, FeedbackExample):
        judged = _only_text(example, example.completion)
        return example.prompt, judged, () if asked else (judged,)
    if isinstance(example, PreferenceExample):
        better, worse = (_only_text(example, side) for side in (example.chosen, example.rejected))
        # The first of equals is chosen: a tie is no preference.
        return example.prompt, better, (worse, better)
    if isinstance(example, ClassificationExample):
        if example.label not in candidates:
            raise EvaluationError(
                f"{example.location}: the label must be one of the {len(candidates)} candidates, "
                f"found '{example.label}'",
                hint="add training examples of this label or remove the row",
            )
        return ({"role": "user", "content": example.text},), example.label, candidates
    *chat, last = example.messages
    text, calls = last.get("content") or "", calls_of(last)
    if last["role"] != "assistant" or not isinstance(text, str) or not (text or calls):
        raise EvaluationError(
            f"{example.location}: the chat must end with an assistant's answer to compare with, "
            f"found a message of role '{last['role']}'",
            hint="cut the chat after its last assistant turn, or leave it out of the holdout",
        )
    said = split_reasoning(text).text
    return tuple(chat), "\n".join(filter(None, (said, *map(str, calls)))), ()


def _only_text(example: PreferenceExample | FeedbackExample, answer: Sequence[Message]) -> str:
    text = single_text(answer)
    if text is None:
        raise EvaluationError(
            f"{example.location}: answers with a verdict must be one text each to be compared, "
            f"found {len(answer)} messages",
            hint="leave it out of the holdout",
        )
    return text


def _choose(
    engine: Engine, items: Sequence[Item], length_normalised: bool
) -> tuple[list[tuple[str, int, str]], list[float], list[float]]:
    """Choose a label per item: text, tokens scored, finish reason; its worth; the gap of a pair."""

    def worth(score: Score) -> float:
        return _per_token(score) if length_normalised else score.logprob

    chosen, worths, gaps = [], [], []
    chats, labels = [item.chat for item in items], [item.labels for item in items]
    scores = engine.score(chats, labels, [item.tools for item in items])
    for item, row in zip(items, scores, strict=True):
        best = max(range(len(row)), key=lambda position: worth(row[position]))
        chosen.append((item.labels[best], sum(score.num_tokens for score in row), "stop"))
        worths.append(_per_token(row[best]))
        if item.pair:
            worse, better = row
            gaps.append(better.logprob - worse.logprob)
    return chosen, worths, gaps


def _per_token(score: Score) -> float:
    return score.logprob / max(score.num_tokens, 1)


def _generate(
    engine: Engine,
    items: Sequence[Item],
    generation: Generation,
    report: Callable[[int], None],
) -> list[tuple[str, int, str]]:
    """Generate an answer per item: text, tokens, finish reason."""
    pieces: list[list[str]] = [[] for _ in items]
    counts = [0] * len(items)
    num_done = 0
    reasons = ["length"] * len(items)
    chats, tools = [item.chat for item in items], [item.tools for item in items]
    for event in engine.stream(chats, generation, tools):
        pieces[event.index].append(event.text)
        counts[event.index] += 1
        if event.finish_reason is not None:
            reasons[event.index] = event.finish_reason
            num_done += 1
            report(num_done)
    return [
        ("".join(parts), count, reason)
        for parts, count, reason in zip(pieces, counts, reasons, strict=True)
    ]
