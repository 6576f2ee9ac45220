"""The engine of a reward model: it judges answers and writes none."""

from collections.abc import Iterator, Sequence
from functools import partial

from torch import Tensor

from kamerton.core.errors import ModelError
from kamerton.core.protocols import Chat, Generation, Score, TokenEvent, ToolSchemas
from kamerton.data.rendering.renderer import Renderer
from kamerton.inference.answer_rows import PromptWithAnswers, read_answers
from kamerton.inference.engine import tools_each
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.models.rows.packing import TOKENS_PER_ROW
from kamerton.models.rows.reading import scores_at_ends
from kamerton.objectives.preference_model import preference
from kamerton.prompting.prompt import Prompt

__all__ = ["RewardEngine"]


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
        tokens_per_row: int = TOKENS_PER_ROW,
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
            The reward of each chat and candidate, with a length of 1.

        Raises:
            ModelError: If an answer does not fit into the base's context.
        """
        asked, room = self._with_answers(chats, answers, tools), room_of(self._base)
        longest = max((len(p) + max(map(len, a)) for p, a in asked), default=0)
        if room is not None and longest > room:
            raise ModelError(
                f"a prompt and an answer must fit into the base's context of "
                f"{room + self._base.num_virtual} tokens, found {longest}",
                hint="shorten the answers",
            )
        judged = self._judge(asked)
        return [[Score(worth, 1) for worth in _worth(numbers)] for numbers in judged]

    def rewards(self, chats: Sequence[Chat], answers: Sequence[Sequence[str]]) -> list[Tensor]:
        """Read the score head at the end of each answer; what chats begin with is computed once.

        Args:
            chats: Each ends with the turn to be answered.
            answers: Candidates of each chat, one or more, as a model wrote them: they may be empty,
                and what does not fit into the base's context is judged without its end.

        Returns:
            The rewards of each chat, [candidates, D] in fp32.

        Raises:
            ModelError: If a prompt leaves no room for an answer.
        """
        asked, room = self._with_answers(chats, answers), room_of(self._base)
        if room is None:
            return self._judge(asked)
        longest = max((len(prompt) for prompt, _ in asked), default=0)
        if longest >= room:
            raise ModelError(
                f"a prompt of {longest} tokens, the judge's own included, leaves no room for an "
                f"answer in the base's context of {room + self._base.num_virtual}",
                hint="set render.max_tokens lower, so that long questions are left out",
            )
        return self._judge([(p, [a[: room - len(p)] for a in answers]) for p, answers in asked])

    def _with_answers(
        self,
        chats: Sequence[Chat],
        answers: Sequence[Sequence[str]],
        tools: Sequence[ToolSchemas] = (),
    ) -> list[PromptWithAnswers]:
        return [
            self._renderer.answers_ids(self._prompt.apply(chat), candidates, own, as_written=True)
            for chat, candidates, own in zip(chats, answers, tools_each(chats, tools), strict=True)
        ]

    def _judge(self, asked: Sequence[PromptWithAnswers]) -> list[Tensor]:
        read = partial(scores_at_ends, self._base)
        return read_answers(asked, self._tokens_per_row, self._base.device, read, last_tokens=True)


def _worth(numbers: Tensor) -> list[float]:
    """[candidates, D] as one number each."""
    if numbers.shape[1] == 1:
        rewards: list[float] = numbers[:, 0].tolist()
        return rewards
    wins: list[float] = preference(numbers[:, None], numbers[None]).mean(1).tolist()
    return wins
