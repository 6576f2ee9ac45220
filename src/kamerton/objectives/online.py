"""Settings of objectives that learn from answers which the model writes itself.

Answers are drawn at temperature 1 from the whole vocabulary: then the probabilities that are
learned are the very ones that answers were drawn with, and the distance to the reference is not
distorted (it came out negative where others cut the vocabulary).
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from kamerton.core.settings import Settings
from kamerton.evaluation.settings import Check, StyleCheck
from kamerton.objectives.settings import ObjectiveSettings

__all__ = [
    "CheckReward",
    "ClippedSettings",
    "FunctionReward",
    "JudgeReward",
    "OnlineSettings",
    "RewardSource",
    "VariantReward",
]


class _Source(Settings):
    """The settings that every source of rewards has."""

    weight: float = Field(default=1.0, allow_inf_nan=False)
    """Factor on what this source says; rewards of several sources are added. Negative for what
    shall become rarer; not 0."""

    @field_validator("weight")
    @classmethod
    def _counts(cls, value: float) -> float:
        if value == 0:
            raise ValueError("must not be 0: leave the source out")
        return value


class VariantReward(_Source):
    """A reward model: a variant made with `objective.kind = "reward"`."""

    kind: Literal["variant"] = "variant"
    """Selects this source."""
    variant: str
    """Its name; on the same base."""


class FunctionReward(_Source):
    """A Python function of your own."""

    kind: Literal["function"] = "function"
    """Selects this source."""
    function: str
    """"file.py:name", beside the recipe: called with `messages`, `answer` and `row` (the other
    columns), it gives a number. The file is run as it is: read recipes of strangers first."""

    @field_validator("function")
    @classmethod
    def _named(cls, value: str) -> str:
        file, colon, name = value.rpartition(":")
        if not colon or not file.endswith(".py") or not name.isidentifier():
            raise ValueError(f'must look like "rewards.py:score", got {value!r}')
        return value


class CheckReward(_Source):
    """A check as in `evaluate.checks`: 1 for an answer that passes, 0 for one that does not."""

    kind: Literal["check"] = "check"
    """Selects this source."""
    check: Check
    """Patterns that answers must and must not match, texts that they must contain, valid JSON,
    refusals; not "style", whose classifier a model would learn to please."""

    @field_validator("check")
    @classmethod
    def _no_style(cls, check: Check) -> Check:
        if isinstance(check, StyleCheck):
            raise ValueError('"style" only measures, it is no reward: take "rules" or "contains"')
        return check


class JudgeReward(_Source):
    """A judge: how probable the base, or a variant on it, finds "yes" to a question."""

    kind: Literal["judge"] = "judge"
    """Selects this source."""
    question: str
    """The judge's question; {prompt} and {answer} stand for the last question and its answer."""
    variant: str = ""
    """Who judges; empty means the base alone."""
    yes: str = "yes"
    """The word for a good answer."""
    no: str = "no"
    """The word for a bad one."""

    @field_validator("question")
    @classmethod
    def _asks(cls, value: str) -> str:
        if "{answer}" not in value:
            raise ValueError(f"must hold {{answer}}, where the answer shall stand, got {value!r}")
        return value

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if not self.yes.strip() or not self.no.strip() or self.yes.strip() == self.no.strip():
            raise ValueError(f"yes and no must be two words, got {self.yes!r} and {self.no!r}")
        return self


RewardSource = Annotated[
    VariantReward | FunctionReward | CheckReward | JudgeReward, Field(discriminator="kind")
]


class OnlineSettings(ObjectiveSettings):
    """The settings of answers and of their rewards."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "missing_end_penalty": "missing_eos_penalty",
        "samples": "num_generations",
    }

    rewards: tuple[RewardSource, ...]
    """The sources whose sum is an answer's worth; at least one."""
    num_generations: int = Field(default=4, ge=1, le=256)
    """Answers that are written to each prompt of a step."""
    max_tokens: int = Field(default=128, ge=1)
    """Longest answer, in tokens."""
    missing_eos_penalty: float = Field(default=1.0, ge=0)
    """Taken off the reward of an answer that did not end within `max_tokens`. 0 or more."""
    beta: float = Field(default=0.05, ge=0)
    """Weight of the distance to the reference. 0 or more; 0 lets the model drift anywhere."""

    @field_validator("rewards")
    @classmethod
    def _some(cls, value: tuple[RewardSource, ...]) -> tuple[RewardSource, ...]:
        if not value:
            raise ValueError("must name at least one source, such as a reward variant")
        return value

    @property
    def num_updates(self) -> int:
        """Optimiser steps on the same answers."""
        return 1


class ClippedSettings(OnlineSettings):
    """The number of passes over the same answers, and the limit of a step."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "clip": "clip_epsilon",
        "updates": "num_iterations",
    }

    num_iterations: int = Field(default=1, ge=1, le=64)
    """Optimiser steps on the same answers."""
    clip_epsilon: float = Field(default=0.2, gt=0, lt=1)
    """The change of a written token's probability, as a share, above which its gradient is cut.
    Matters with several `num_iterations`. Above 0, below 1."""

    @property
    def num_updates(self) -> int:
        """Optimiser steps on the same answers."""
        return self.num_iterations
