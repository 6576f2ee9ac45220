"""The engine of a reward model: it judges answers and writes none."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kamerton.core.errors import ModelError
from kamerton.core.protocols import Chat, Generation, Score, TokenEvent, ToolSchemas
from kamerton.data.rendering.renderer import Renderer
from kamerton.inference.engine import tools_each
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.objectives.preference_model import preference
from kamerton.prompting.prompt import Prompt

__all__ = ["RewardEngine"]

_Family = tuple[list[int], list[list[int]]]


class RewardEngine:
    """Judges with a base and the score head that is attached to it.

    Args:
        base: The base.
        renderer: Turns messages into ids.
        prompt: System text and demonstrations put before every chat.
        tokens_per_row: Tokens computed at once.
    """

    def __init__(
        self,
        base: Base,
        renderer: Renderer,
        prompt: Prompt | None = None,
        *,
        tokens_per_row: int = 4096,
    ) -> None:
        self._base = base
        self._renderer = renderer
        self._prompt = prompt or Prompt()
        self._tokens_per_row = tokens_per_row

    def stream(
        self, chats: Sequence[Chat], generation: Generation, tools: Sequence[ToolSchemas] = ()
    ) -> Iterator[TokenEvent]:
        """Refuse.

        Args:
            chats: Ignored.
            generation: Ignored.
            tools: Ignored.

        Returns:
            Nothing ever.

        Raises:
            ModelError: Always.
        """
        del chats, generation, tools
        raise ModelError(
            "a reward model judges answers and writes none",
            hint='name it in objective.rewards of a recipe with objective.kind = "rlhf", or '
            "measure it with kamerton evaluate on pairs",
        )

    @torch.no_grad()
    def score(
        self,
        chats: Sequence[Chat],
        answers: Sequence[Sequence[str]],
        tools: Sequence[ToolSchemas] = (),
    ) -> list[list[Score]]:
        """Give rewards in the place of log-probabilities: of two answers the better has the larger.

        A general preference model knows no reward: an answer's worth is how often it would be
        preferred to the other candidates.

        Args:
            chats: Each ends with the turn to be answered.
            answers: Candidates of each chat.
            tools: The functions that each chat may call; empty when none may call any.

        Returns:
            For each chat and candidate its reward, with a length of 1.

        Raises:
            ModelError: If an answer does not fit into the base's context.
        """
        families, room = self._families(chats, answers, tools), room_of(self._base)
        longest = max((len(p) + max(map(len, a)) for p, a in families), default=0)
        if room is not None and longest > room:
            raise ModelError(
                f"a prompt and an answer must fit into the base's context of "
                f"{room + self._base.num_virtual} tokens, found {longest}",
                hint="shorten the answers",
            )
        judged = self._judge(families)
        return [[Score(worth, 1) for worth in _worth(numbers)] for numbers in judged]

    @torch.no_grad()
    def rewards(self, chats: Sequence[Chat], answers: Sequence[Sequence[str]]) -> list[Tensor]:
        """Read the score head at the end of each answer; a chat's prompt is computed once.

        Args:
            chats: Each ends with the turn to be answered.
            answers: Candidates of each chat, one or more, as a model wrote them: they may be empty,
                and what does not fit into the base's context is judged without its end.

        Returns:
            For each chat [candidates, D] in fp32.

        Raises:
            ModelError: If a prompt leaves no room for an answer.
        """
        families, room = self._families(chats, answers), room_of(self._base)
        if room is None:
            return self._judge(families)
        longest = max((len(prompt) for prompt, _ in families), default=0)
        if longest >= room:
            raise ModelError(
                f"a prompt of {longest} tokens, the judge's own included, leaves no room for an "
                f"answer in the base's context of {room + self._base.num_virtual}",
                hint="set render.max_tokens lower, so that long questions are left out",
            )
        return self._judge([(p, [a[: room - len(p)] for a in answers]) for p, answers in families])

    def _families(
        self,
        chats: Sequence[Chat],
        answers: Sequence[Sequence[str]],
        tools: Sequence[ToolSchemas] = (),
    ) -> list[_Family]:
        return [
            self._renderer.answers_ids(self._prompt.apply(chat), candidates, own, as_written=True)
            for chat, candidates, own in zip(chats, answers, tools_each(chats, tools), strict=True)
        ]

    def _judge(self, families: Sequence[_Family]) -> list[Tensor]:
        judged: list[Tensor] = []
        row: list[_Family] = []
        for family in families:
            if row and sum(map(_size, [*row, family])) > self._tokens_per_row:
                judged += self._rewards_of_row(row)
                row = []
            row.append(family)
        return judged + (self._rewards_of_row(row) if row else [])

    def _rewards_of_row(self, families: Sequence[_Family]) -> list[Tensor]:
        ids: list[int] = []
        segments: list[Segment] = []
        ends: list[int] = []
        for prompt, answers in families:
            root = len(segments)
            segments.append(Segment(len(ids), len(ids) + len(prompt)))
            ids += prompt
            for answer in answers:
                segments.append(Segment(len(ids), len(ids) + len(answer), parent=root))
                ids += answer
                ends.append(len(ids) - 1)
        device, head = self._base.device, self._base.score_head
        assert head is not None, "a reward model has a score head"
        hidden = self._base.hidden(torch.tensor(ids, device=device), Layout(tuple(segments)))
        scores = head.scores(hidden[torch.tensor(ends, device=device)])
        return list(scores.split([len(answers) for _, answers in families]))


def _size(family: _Family) -> int:
    prompt, answers = family
    return len(prompt) + sum(map(len, answers))


def _worth(numbers: Tensor) -> list[float]:
    """[candidates, D] as one number each."""
    if numbers.shape[1] == 1:
        rewards: list[float] = numbers[:, 0].tolist()
        return rewards
    wins: list[float] = preference(numbers[:, None], numbers[None]).mean(1).tolist()
    return wins
