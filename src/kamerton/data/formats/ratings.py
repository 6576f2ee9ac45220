"""Rows of one answer and its score: those with the same prompt become pairs.

The rows of a prompt may stand anywhere in a file, so pairs are made when all have been read. Until
then the answers wait on disk, and eight bytes of each stay in memory.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kamerton.core.files import hash_json
from kamerton.data.examples import Message, PreferenceExample, SourceLocation
from kamerton.data.examples_on_disk import ExamplesOnDisk
from kamerton.data.formats.detection import Schema
from kamerton.data.formats.fields import Fields, check_answer
from kamerton.data.formats.messages import Unusable, assistant, user
from kamerton.data.formats.rankings import number_of, pair_up
from kamerton.data.rows import Rejection

__all__ = ["RatedAnswer", "RatedAnswers", "rated_answer"]

_KEY_DIGITS = 16


@dataclass(frozen=True, slots=True)
class RatedAnswer:
    """An answer and how good it is.

    Attributes:
        location: Location that it came from.
        prompt: Messages up to the answer.
        answer: The answer.
        score: The larger, the better.
        group: Rows of one group never stand on both sides of a split.
        extra: Other columns.
        tools: Tool schemas, if any.
    """

    location: SourceLocation
    prompt: tuple[Message, ...]
    answer: tuple[Message, ...]
    score: float
    group: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()


def rated_answer(fields: Fields) -> RatedAnswer:
    """Read an answer with a score.

    Args:
        fields: Fields of a row with `prompt`, `completion` and `score`.

    Returns:
        The answer.

    Raises:
        Unusable: If the score is no number, there is no prompt, or the answer is none.
    """
    prompt = fields.turns("prompt", user)
    if not prompt:
        raise Unusable(fields.source("prompt"), "is empty")
    answer = fields.turns("completion", assistant)
    check_answer(answer, fields.source("completion"))
    return RatedAnswer(
        fields.row.location,
        fields.asked(prompt),
        answer,
        number_of(fields.value("score"), fields.source("score")),
        fields.group,
        fields.extra,
    )


class RatedAnswers:
    """Answers of a data set that wait for others to the same prompt.

    Args:
        schema: Format of the rows, and which pairs to take.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._answers: ExamplesOnDisk[RatedAnswer] = ExamplesOnDisk()
        self._keys = array("Q")

    def add(self, rated: RatedAnswer) -> None:
        """Keep an answer.

        Args:
            rated: Whose prompt, tools and group decide which others it is compared with.
        """
        self._answers.append(rated)
        key = [rated.prompt, rated.group, *([rated.tools] if rated.tools else [])]
        self._keys.append(int(hash_json(key)[:_KEY_DIGITS], 16))

    def pairs(self) -> Iterator[PreferenceExample | Rejection]:
        """Compare the answers to each prompt.

        Yields:
            Pairs, in the order in which their prompts were first met; all pairs of a prompt have
            its first row's place, and each the other columns of its better answer. Where there is
            no pair, a rejection for every answer.
        """
        for indices in self._by_prompt():
            try:
                yield from self._pairs_of(indices)
            except Unusable as error:
                for i in indices:
                    yield Rejection(self._answers[i].location, error.field, error.reason)

    def _by_prompt(self) -> Iterator[list[int]]:
        keys = np.array(self._keys, np.uint64)
        order = np.argsort(keys, kind="stable")
        begins = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]) != 0)
        ends = np.append(begins[1:], len(order))
        for n in np.argsort(order[begins]).tolist():
            yield order[begins[n] : ends[n]].tolist()

    def _pairs_of(self, indices: Sequence[int]) -> Iterator[PreferenceExample]:
        sources = self._schema.sources
        if len(indices) < 2:
            raise Unusable(sources["prompt"], "no other row has an answer to this prompt")
        rated = [self._answers[i] for i in indices]
        pairs = pair_up(
            [one.answer for one in rated],
            [one.score for one in rated],
            self._schema.pairs,
            answered=sources["completion"],
            judged_by=sources["score"],
        )
        for i, j in pairs:
            better = rated[i]
            yield PreferenceExample(
                rated[0].location,
                better.prompt,
                better.answer,
                rated[j].answer,
                better.group,
                better.extra,
                better.tools,
            )
