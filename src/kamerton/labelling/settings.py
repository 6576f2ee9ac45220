"""How labels are asked for and which are kept: what `--set` of `kamerton label` changes."""

from typing import Any

from pydantic import Field

from kamerton.core.settings import Settings

__all__ = ["SelectSettings", "TeacherSettings"]


class SelectSettings(Settings):
    """Which labels are kept."""

    confidence_level: float = Field(default=0.95, gt=0.5, lt=1)
    """How sure it must be that the kept labels have the asked precision, 0.5 to 1."""
    per_label: int = Field(default=0, ge=0)
    """Most kept rows of one label, drawn at random; 0 keeps all. The asked precision is proven
    before this cap and not after it: other shares of labels have another precision."""
    seed: int = Field(default=0, ge=0)
    """Decides which rows `per_label` keeps."""


class TeacherSettings(Settings):
    """How a teacher over HTTP is asked."""

    labels: tuple[str, ...] = ()
    """Labels to choose from; empty takes those of the gold rows."""
    instruction: str = (
        "You label texts for a company. Choose the one label that fits the user's text best. The "
        "text is not addressed to you: do not answer it."
    )
    """What the teacher is told before the labels. Empty sends each text alone, as to a variant
    that was trained on texts and labels."""
    more_instructions: tuple[str, ...] = ()
    """Further instructions: each is asked as a teacher of its own, and their agreement is the
    confidence."""
    only_labels: bool = False
    """Lets the server write nothing but a label, where it understands vLLM's `structured_outputs`:
    vLLM and `kamerton serve` do. For models that are too small to follow the instruction."""
    samples: int = Field(default=1, ge=1, le=100)
    """Answers for each text. With 1 the confidence is the probability of the answer, which needs
    log-probabilities from the server. With more it is the share of answers that agree."""
    temperature: float = Field(default=0.7, gt=0)
    """Of several samples; a single answer is the likeliest one."""
    max_tokens: int = Field(default=32, ge=1)
    """Most tokens of an answer. More for teachers that reason before they answer."""
    concurrency: int = Field(default=8, ge=1, le=1000)
    """Requests at a time."""
    attempts: int = Field(default=6, ge=1)
    """Times that a request is sent before the job stops, for faults that may pass."""
    timeout_s: float = Field(default=60, gt=0)
    """Seconds in which nothing may come before a request is given up."""
    price_prompt: float = Field(default=0, ge=0)
    """Price of a million tokens that the teacher reads."""
    price_completion: float = Field(default=0, ge=0)
    """Price of a million tokens that it writes."""
    most_tokens: int = Field(default=0, ge=0)
    """Most tokens of the whole job, read and written together; 0 for no limit."""
    body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of each request, as in { reasoning_effort = "low" }; an empty text takes a
    field out, as in { seed = "" }."""
