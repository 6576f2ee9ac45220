"""Which examples to use, and how to read, split and protect them."""

from typing import Any, Literal

from pydantic import Field, field_validator

from kamerton.core.settings import Settings, suggestion
from kamerton.data.columns import columns_of

__all__ = ["COLUMN_NAMES", "ROLE_NAMES", "DataSettings", "FormatName", "PairsName"]

FormatName = Literal[
    "chat",
    "prompt",
    "alpaca",
    "classification",
    "preference",
    "ranking",
    "rating",
    "feedback",
    "text",
]

PairsName = Literal["all", "neighbours", "best-worst"]

COLUMN_NAMES = (
    "messages",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "text",
    "label",
    "chosen",
    "rejected",
    "answers",
    "ranks",
    "scores",
    "score",
    "system",
    "context",
    "reasoning",
    "history",
    "tools",
    "role",
    "content",
    "conversation",
)
"""Our names for the fields of all formats: the keys that `data.columns` may have. The last three
are of single turns: who speaks, what is said, and which conversation a row of one turn is of."""


ROLE_NAMES = ("system", "user", "assistant", "tool", "ignore")
"""The roles that `data.roles` may give speakers; the turns of the last are left out."""

# These are no texts, which alone can be joined.
_WHOLE_NAMES = ("messages", "answers", "ranks", "scores", "score", "history", "tools")
_SIDE_NAMES = ("system", "context", "reasoning", "input", "history", "tools")


class DataSettings(Settings):
    """The examples."""

    train: str = Field(min_length=1)
    """File to learn from (JSONL, JSON, CSV, TSV, Parquet, text; also .gz), or a Hub data set as
    "hub:owner/name", "hub:owner/name@config", "hub:owner/name:split"."""
    holdout: float | str = 0.1
    """Share of the examples kept aside for measuring, 0 to 0.5 (0: none), or a file of its own."""
    test: float | str = 0.0
    """Share of the examples, 0 to 0.5, or a file of its own that only `kamerton evaluate` reads.
    Training chooses on the holdout which step it keeps, so values measured there are a little too
    good. `holdout` is then a share of what is left. 0: none, and the holdout is measured on."""
    format: Literal[
        "auto",
        "chat",
        "prompt",
        "alpaca",
        "classification",
        "preference",
        "ranking",
        "rating",
        "feedback",
        "text",
    ] = "auto"
    """What the rows are: "chat" (messages), "prompt" (prompt and completion), "alpaca"
    (instruction, input, output), "classification" (text and label), "preference" (prompt, chosen,
    rejected), "ranking" (prompt and several answers, best first or with ranks or scores), "rating"
    (prompt, completion, score; rows with one prompt are compared), "feedback" (prompt, completion,
    good or bad), "text". "auto" looks at the fields, and takes "rating" only where `columns` names
    the score."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our field to your column, as in { text = "sentence", label = "meta.intent" }; dots reach
    into nested values, numbers into lists, names into each item of a list. Braces join columns
    into one text: { text = "{subject}\\n{body}" }. An empty text leaves a side field out:
    { context = "" }."""
    roles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Who is who in conversations that name people: role ("system", "user", "assistant", "tool", or
    "ignore" to leave turns out) to a speaker or several, as in { user = "Покупатель", assistant =
    ["Оператор", "Поддержка"] }; "*" is everyone else. Usual words in English and Russian are
    known."""
    pause_hours: float = Field(default=6, ge=0)
    """Silence in a messenger's chat after which the user begins a new conversation, in hours; 0
    keeps every chat whole."""
    pairs: PairsName = "all"
    """Which pairs several ranked or rated answers to one prompt give: "all" (every better one with
    every worse one, so 6 of 4 answers, 21 of 7), "neighbours" (every one with one of the next
    worth), "best-worst" (one). Equal worths are never paired."""
    group: str = ""
    """Column whose equal values never stand on both sides of the split: customer, dialogue."""
    split: str = ""
    """Use only rows of this split, where a file has a "split" column or holds several splits under
    keys; commas separate several. Empty: all rows."""
    encoding: str = "auto"
    """Text encoding of files, such as "cp1251"; "auto" finds out."""
    max_unusable: float = Field(default=0.05, ge=0, le=1)
    """Training refuses to start when more than this share of rows is unusable. 0 to 1."""
    seed: int = Field(default=0, ge=0)
    """Decides which examples are held out."""
    redact: bool = False
    """Replace e-mails, phone, card, account, passport, insurance and tax numbers by placeholders
    like [EMAIL_1]."""

    @field_validator("holdout", "test")
    @classmethod
    def _share_or_path(cls, value: float | str) -> float | str:
        if isinstance(value, str):
            if not value:
                raise ValueError("must be a share from 0 to 0.5 or a file, got an empty text")
        elif not 0 <= value <= 0.5:
            raise ValueError(f"must be a share from 0 to 0.5 or a file, got {value}")
        return value

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: dict[str, str]) -> dict[str, str]:
        for name, column in value.items():
            if name not in COLUMN_NAMES:
                raise ValueError(f"unknown field '{name}'{suggestion(name, COLUMN_NAMES)}")
            if not column and name not in _SIDE_NAMES:
                raise ValueError(f"'{name}' must name a column, got an empty text")
            if name in _WHOLE_NAMES and columns_of(column) != (column,):
                raise ValueError(f"'{name}' must name one column, got the template '{column}'")
        return value

    @field_validator("roles", mode="before")
    @classmethod
    def _lists_of_speakers(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        lists = {
            role: names if isinstance(names, list | tuple) else [names]
            for role, names in value.items()
        }
        # Help desks have numbers for people.
        return {
            role: tuple(str(name) if type(name) is int else name for name in names)
            for role, names in lists.items()
        }

    @field_validator("roles")
    @classmethod
    def _known_roles(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for role in value:
            if role not in ROLE_NAMES:
                raise ValueError(f"unknown role '{role}'{suggestion(role, ROLE_NAMES)}")
        speakers = [name.strip().casefold() for names in value.values() for name in names]
        if not all(speakers):
            raise ValueError("must name speakers, got an empty text")
        twice = next((name for name in speakers if speakers.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"'{twice}' must have one role, got several")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        if value != "auto":
            try:
                text = " ".encode(value).decode(value)
            except (LookupError, ValueError):
                text = ""
            if text != " ":
                raise ValueError(f"must be 'auto' or a text encoding, got '{value}'")
        return value
