"""What is measured: checks over answers, and how certain the numbers have to be."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from kamerton.core.generation import GenerationSettings
from kamerton.core.protocols import Generation
from kamerton.core.settings import Settings

__all__ = [
    "Check",
    "ContainsCheck",
    "EvaluationSettings",
    "ExactCheck",
    "JsonCheck",
    "JsonValuesCheck",
    "PatternCheck",
    "RefusalCheck",
    "Rule",
    "RulesCheck",
    "StyleCheck",
    "ToolCallsCheck",
]


class _CheckSettings(Settings):
    """What every check has."""

    name: str = Field(default="", max_length=40)
    """How tables name it; the kind when empty. No two checks may share a name."""
    only_if: str | None = None
    """Column that must be filled in: items where it is absent, empty, false or 0 do not count."""

    @property
    def title(self) -> str:
        """The name, or the kind where there is none."""
        return self.name or str(getattr(self, "kind", ""))


class ExactCheck(_CheckSettings):
    """The answer is the reference, apart from case, spaces and Unicode form; where the reference
    calls functions, the answer makes the same calls."""

    kind: Literal["exact"] = "exact"
    """Selects this check."""


class ContainsCheck(_CheckSettings):
    """The answer contains every text of a column, apart from case, spaces and Unicode form."""

    kind: Literal["contains"] = "contains"
    """Selects this check."""
    field: str
    """Column with a text or a list of texts; items without it are not counted."""


class PatternCheck(_CheckSettings):
    """What a pattern finds in the answer is what a column says."""

    kind: Literal["pattern"] = "pattern"
    """Selects this check."""
    pattern: str
    r"""Regular expression with exactly one group, such as 'Verdict: (\w+)'; its last match counts,
    and an answer without a match is wrong."""
    field: str
    """Column with the right value; items without it are not counted."""
    metric: Literal["accuracy", "f1", "macro_f1"] = "accuracy"
    """Share of right items, F1 of one class, or the mean F1 of all classes."""
    positive: str | None = None
    """Class whose F1 is measured; needed by "f1" and by no other metric."""

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, pattern: str) -> str:
        groups = _compile(pattern).groups
        if groups != 1:
            raise ValueError(f"pattern must have exactly one group, found {groups} in {pattern!r}")
        return pattern

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if (self.metric == "f1") != (self.positive is not None):
            raise ValueError(
                f"positive must be given with metric 'f1' and only then, found metric "
                f"'{self.metric}' and positive {self.positive!r}"
            )
        return self


class Rule(Settings):
    """A pattern that an answer must or must not match."""

    name: str = Field(min_length=1)
    """How reports name it."""
    pattern: str
    """Regular expression, searched in the answer as it is, case and line breaks included."""
    must: bool = True
    """Whether the answer must match; false forbids it."""

    @field_validator("pattern")
    @classmethod
    def _valid(cls, pattern: str) -> str:
        _compile(pattern)
        return pattern


class RulesCheck(_CheckSettings):
    """The answer keeps to every rule."""

    kind: Literal["rules"] = "rules"
    """Selects this check."""
    rules: tuple[Rule, ...] = Field(min_length=1)
    """What the answer must and must not match; one broken rule breaks the check."""


class RefusalCheck(_CheckSettings):
    """The answer refuses the request, by rules for English and Russian."""

    kind: Literal["refusal"] = "refusal"
    """Selects this check."""
    expect: bool | None = None
    """Whether a refusal is right: true counts refusals as good, false as bad. Left out, their
    share is reported without a judgement."""

    @property
    def title(self) -> str:
        """The name, or what is counted."""
        return self.name or ("no refusal" if self.expect is False else "refusal")


class JsonCheck(_CheckSettings):
    """The whole answer is valid JSON; a Markdown code fence around it is allowed."""

    kind: Literal["json"] = "json"
    """Selects this check."""
    json_schema: dict[str, Any] = {}
    """JSON Schema that it must follow too, such as { type = "object", required = ["topic"] }; needs
    the extra `jsonschema`. References to other documents are not followed."""

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        if schema:
            try:
                from jsonschema.exceptions import SchemaError
                from jsonschema.validators import validator_for
            except ImportError:
                raise ValueError("needs an extra: pip install 'kamerton[jsonschema]'") from None
            try:
                validator_for(schema).check_schema(schema)
            except SchemaError as error:
                raise ValueError(f"is no JSON Schema: {error.message}") from None
        return schema


class JsonValuesCheck(_CheckSettings):
    """The answer is JSON with the values of the reference: of an object the values of its keys, of
    a list its members. The order of keys and members does not matter, and texts are compared apart
    from case, spaces and Unicode form."""

    kind: Literal["json_values"] = "json_values"
    """Selects this check."""
    key: str | None = None
    """The one key that is compared; every key or member when left out. Items whose reference has
    no such key, or is no object or list, are not counted."""
    metric: Literal["accuracy", "f1"] = "accuracy"
    """Share of items in which all values are right and none is too many, or F1 over the values of
    all items: values that are right, among those that were found and those that are wanted."""

    @property
    def title(self) -> str:
        """The name, or what is compared."""
        return self.name or f"{self.key or 'values'}{' F1' if self.metric == 'f1' else ''}"[:40]


class ToolCallsCheck(_CheckSettings):
    """The answer calls the functions that the reference calls, in any order."""

    kind: Literal["tool_calls"] = "tool_calls"
    """Selects this check."""
    metric: Literal["exact", "name", "decision"] = "exact"
    """"exact": the same functions with the same arguments, as JSON (the order of keys does not
    matter). "name": the same functions, whatever the arguments. Both count only items whose
    reference calls a function. "decision": a function is called where the reference calls one, and
    none where it does not; it counts all items that offer tools."""

    @property
    def title(self) -> str:
        """The name, or what is compared."""
        usual = {"exact": "tool calls", "name": "tool names", "decision": "tool decision"}
        return self.name or usual[self.metric]


class StyleCheck(_CheckSettings):
    """The answer sounds like the brand's texts rather than like others, told by a classifier that
    is trained on both. How well it tells texts that it did not see is stated beside the metric;
    where that may be below 75 %, the metric is left out."""

    kind: Literal["style"] = "style"
    """Selects this check."""
    texts: str = ""
    """File with the brand's texts, one a row; in a text file one a line, or paragraphs with empty
    lines between them. Empty takes the answers of the training examples, of pairs the better
    ones."""
    against: str = ""
    """File with texts that are not the brand's; empty takes the questions of the training examples
    (when rewriting: the texts before), of pairs the worse answers."""


Check = Annotated[
    ExactCheck
    | ContainsCheck
    | PatternCheck
    | RulesCheck
    | RefusalCheck
    | JsonCheck
    | StyleCheck
    | JsonValuesCheck
    | ToolCallsCheck,
    Field(discriminator="kind"),
]


class EvaluationSettings(Settings):
    """How variants are compared."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"level": "confidence_level"}
    moved_keys: ClassVar[Mapping[str, str]] = {
        "max_tokens": "generation.max_new_tokens, for chats, exports and comparisons; "
        "evaluate.max_new_tokens is for comparisons alone"
    }

    checks: tuple[Check, ...] = ()
    """What is checked in written answers, each a metric of its own. None means, for texts, their
    likeness to the right ones (chrF), their length, and "exact" where half of the right ones have
    five words or fewer; "tool_calls" with its metrics where right answers call functions. The loss
    on right answers is measured of all texts."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest answer that is measured, in tokens; left out, each variant has its own
    `generation.max_new_tokens`, and a prompt alone the largest of them."""
    shots: Annotated[int, Field(ge=0)] | Literal["fit"] = "fit"
    """Worked examples in the few-shot baseline; 0 leaves that baseline out. "fit" takes as many as
    go into 1,024 tokens, or into half of the base's context where that is less: the same number
    of each label, where every label has room for one."""
    instruction: Literal["built", "none"] = "built"
    """System text of the prompts that variants are compared with, where `prompt.system` is empty
    and no chat has its own. "built" names the task and the labels, as the training examples show
    them; of classes only what serves the base on some training examples. "none" asks without. The
    variants keep their own prompt."""
    confidence_level: float = Field(default=0.95, gt=0.5, lt=1)
    """Coverage of the intervals, such as 0.95; also 1 minus the significance level."""
    resamples: int = Field(default=10_000, ge=100, le=1_000_000)
    """Bootstrap resamples and sign flips. More is slower and steadier."""
    seed: int = Field(default=0, ge=0)
    """Draws the resamples; the same for all variants."""
    limit: int = Field(default=0, ge=0)
    """Ask at most so many items, spread evenly over the file; 0 asks all."""
    include_trained: bool = False
    """Ask also what one of the variants learned from: that measures its memory. Otherwise such
    questions are left out."""
    length_normalised: bool = False
    """Choose labels by mean instead of summed log-probability of their tokens."""

    def generation(self, own: GenerationSettings) -> Generation:
        """Say how a variant answers while it is measured: greedily, and else as it always does.

        Args:
            own: The variant's defaults.

        Returns:
            How to generate.
        """
        longest = self.max_new_tokens or own.max_new_tokens
        return Generation(max_tokens=longest, stop=own.stop)

    @model_validator(mode="after")
    def _different_names(self) -> Self:
        titles = [check.title for check in self.checks]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"checks must have different names, found '{title}' twice or more")
        return self


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern must be a regular expression: {error} in {pattern!r}") from None
