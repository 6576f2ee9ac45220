"""Tell what rows are from the names of their fields, and where each field stands.

A `Schema` is settled once per data set from its first rows; `kamerton.data.formats.parsing` then
applies it to every row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from kamerton.core.errors import DataError
from kamerton.core.language import translated
from kamerton.core.settings import suggestion
from kamerton.data.columns import columns_of, read_column
from kamerton.data.formats.calls import holds_calls
from kamerton.data.formats.speakers import Speakers
from kamerton.data.formats.verdicts import yes_or_no
from kamerton.data.settings import FormatName, PairsName
from kamerton.data.values import number_text, paths_of, value_at

__all__ = ["Schema", "detect_format", "settle_schema"]

_PROMPT = ("prompt", "question", "query", "instruction", "input")
_ANSWER = ("completion", "response", "answer", "output")
_MESSAGES = (
    *("messages", "conversations", "conversation", "turns", "dialogue", "dialog"),
    "utterances",
)
_ANSWERS = ("answers", "responses", "completions", "candidates", "outputs")
_SCORE = ("score", "rating", "overall_score", "reward")
_VERDICT = ("feedback", "thumbs", "thumb", "vote", "verdict", "liked")
# Of a whole row, unless a list gives one for each answer.
_OF_ONE = ("rank", *_SCORE)
_RANKS_INSIDE = tuple(f"{answers}.rank" for answers in _ANSWERS)
# What a question is about: it stands beside the question, and is nothing without it.
_CONTEXT = ("context", "passage", "document", "contexts", "passages", "documents")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_SCORES_INSIDE = tuple(f"{answers}.{score}" for answers in _ANSWERS for score in _SCORE)

_ALIASES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "preference": {
        "prompt": ("input.messages", *_PROMPT, *_MESSAGES),
        "context": _CONTEXT,
        "chosen": ("chosen", "chosen_messages", "preferred_output"),
        "rejected": ("rejected", "rejected_messages", "non_preferred_output"),
    },
    "ranking": {
        "prompt": (*_PROMPT, *_MESSAGES),
        "context": _CONTEXT,
        "answers": _ANSWERS,
        "ranks": ("ranks", "ranking", "rankings", *_RANKS_INSIDE, "rank"),
        "scores": ("scores", "ratings", "rewards", *_SCORES_INSIDE, *_SCORE),
    },
    "rating": {"prompt": _PROMPT, "context": _CONTEXT, "completion": _ANSWER, "score": _SCORE},
    "feedback": {
        "messages": _MESSAGES,
        "prompt": _PROMPT,
        "context": _CONTEXT,
        "completion": _ANSWER,
        "label": ("label", "kto_tag", "good", *_VERDICT),
    },
    "chat": {"messages": _MESSAGES, "label": ("label",)},
    "alpaca": {
        "instruction": ("instruction",),
        "input": ("input",),
        "context": _CONTEXT,
        "reasoning": _REASONING,
        "output": ("output", "response", "completion", "answer"),
        "history": ("history",),
        "label": ("label",),
    },
    "prompt": {
        "prompt": _PROMPT,
        "context": _CONTEXT,
        "reasoning": _REASONING,
        "completion": _ANSWER,
        "label": ("label",),
    },
    "classification": {
        "text": ("text", "sentence", "utterance", *_PROMPT),
        "context": _CONTEXT,
        "label": ("label", "intent", "category", "class", "labels", "intents"),
    },
    "text": {"text": ("text", "content")},
}
"""Format, in the order they are tried, to our fields and the names they are found under."""

_BESIDE_CHATS = {
    "system": ("system", "system_prompt", "system_message"),
    "tools": ("tools", "functions", "input.tools"),
}
_WITHOUT_CHATS = ("classification", "text")

_NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "preference": (("chosen", "rejected"),),
    "ranking": (("prompt", "answers"),),
    "rating": (("prompt", "completion", "score"),),
    "feedback": (("messages", "label"), ("prompt", "completion", "label")),
    "chat": (("messages",),),
    "alpaca": (("instruction", "output"),),
    "prompt": (("prompt", "completion"),),
    "classification": (("text", "label"),),
    "text": (("text",),),
}
"""Format to the sets of fields of which one must be whole."""

_NAMED = 20
_VERDICTS = 0.75  # share of labels that must be yes or no where rows are feedback


@dataclass(frozen=True, slots=True)
class Schema:
    """What the rows of a data set are.

    Attributes:
        format: Their kind.
        sources: Our field to their column, or to a template that joins several.
        group: Column that keeps rows on one side of a split; empty for none.
        explicit: Whether the format was set rather than detected.
        pairs: Which pairs several answers to one prompt give.
        several_classes: Whether the labels of a classification are lists of classes.
        speakers: The roles of speakers in its turns.
    """

    format: FormatName
    sources: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    explicit: bool = False
    pairs: PairsName = "all"
    several_classes: bool = False
    speakers: Speakers = field(default_factory=Speakers, compare=False)

    @property
    def used(self) -> frozenset[str]:
        """Columns that some field takes, as dotted paths."""
        # An Alpaca row's `input` goes on where its instruction ends, in every format.
        given = ("input",) if self.sources.get("prompt") == "instruction" else ()
        named = (column for source in self.sources.values() for column in columns_of(source))
        return frozenset((*named, *given))

    def missing(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """Find what a row lacks.

        Args:
            fields: The row.

        Returns:
            Our names of the missing fields; empty when some set of needed fields is whole.
        """
        lacking = [
            tuple(name for name in needed if self.value(fields, name) is None)
            for needed in _NEEDED[self.format]
        ]
        return min(lacking, key=len)

    def value(self, fields: Mapping[str, Any], name: str) -> Any:
        """Give a value by our name.

        Args:
            fields: The row.
            name: Our name of the field.

        Returns:
            The value, or None.
        """
        source = self.sources.get(name)
        return None if source is None else read_column(fields, source)


def detect_format(sample: Sequence[Mapping[str, Any]]) -> FormatName | None:
    """Tell what rows are by the names of their fields.

    Args:
        sample: Some rows.

    Returns:
        The first format that most rows have the fields for, or None.
    """
    return _detect(sample, {})


def settle_schema(
    sample: Sequence[Mapping[str, Any]],
    *,
    name: str,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    group: str = "",
    pairs: PairsName = "all",
    speakers: Speakers | None = None,
) -> Schema:
    """Settle what the rows of a data set are.

    Args:
        sample: Its first rows.
        name: Its name in errors.
        format: A format, or "auto".
        columns: Our field to their column.
        group: Column that keeps rows on one side of a split.
        pairs: Which pairs several answers to one prompt give.
        speakers: The roles of speakers in its turns.

    Returns:
        The schema.

    Raises:
        DataError: If no format fits, or a named column is in no row.
    """
    columns = columns or {}
    found = sorted(set().union(*(paths_of(fields) for fields in sample)))
    named = [column for source in columns.values() for column in columns_of(source)]
    for column in filter(None, [*named, group]):
        if all(value_at(fields, column) is None for fields in sample):
            raise DataError(
                f"{name}: no row has the column '{column}'{suggestion(column, found)}",
                hint=f"columns found: {_listed(found)}",
            )
    chosen: FormatName | None
    if format == "auto":
        # Columns that the user named may be empty in most rows; those are then rejected.
        chosen = _detect(sample, columns) or (_detect(sample, columns, 0.0) if columns else None)
    else:
        chosen = _as_format(format)
        foreign = columns.keys() - _fields(format)
        if foreign:
            raise DataError(
                f"{name}: rows of the format '{format}' have no field '{min(foreign)}'",
                hint=f"data.columns may name {', '.join(sorted(_fields(format)))}",
            )
    if chosen is None:
        kinds = sorted({kind for row in sample if (kind := _detect([row], columns))})
        if len(kinds) > 1:
            raise DataError(
                f"{name}: rows of several kinds in one file: {', '.join(kinds)}",
                hint="put each kind into a file of its own",
            )
        empty = [path for path in found if all(value_at(row, path) is None for row in sample)]
        without = f"; empty in every row: {_listed(empty)}" if empty else ""
        raise DataError(
            translated(
                "{name}: cannot tell what the rows are; columns found: {columns}{without}",
                name=name,
                columns=_listed(found),
                without=without,
            ),
            hint=translated(
                "name them: kamerton new FILE --question COLUMN --answer COLUMN, or in the recipe "
                'such as data.columns = { prompt = "question", completion = "reply" }, '
                '{ text = "{subject}\\n{body}", label = "topic" } '
                'or { chosen = "good", rejected = "bad" }'
            ),
        )
    sources = _sources(sample, chosen, columns)
    schema = Schema(
        chosen, sources, group, format != "auto", pairs, speakers=speakers or Speakers()
    )
    labels = [schema.value(fields, "label") for fields in sample]
    lists = sum(isinstance(label, list) for label in labels)
    return replace(schema, several_classes=2 * lists > len(labels) - labels.count(None))


def _detect(
    sample: Sequence[Mapping[str, Any]], columns: Mapping[str, str], least_share: float = 0.5
) -> FormatName | None:
    """Find the first format that more than the least share of the rows fit."""
    last: FormatName | None = None
    for known in _ALIASES:
        if columns.keys() - _fields(known):
            continue
        # A score beside an answer may be no more than a note: such rows are prompts with answers.
        if known == "rating" and "score" not in columns:
            continue
        schema = Schema(_as_format(known), _sources(sample, known, columns))
        fitting = [fields for fields in sample if not schema.missing(fields)]
        if len(fitting) <= least_share * len(sample):
            continue
        if known == "feedback":
            # A few other labels are mistakes: their rows are named, not taken for good answers.
            labels = [schema.value(fields, "label") for fields in fitting]
            told = sum(yes_or_no(label) is not None for label in labels)
            # With 0 and -1 there are three classes.
            if told <= _VERDICTS * len(labels) or {"0", "-1"} <= set(map(_number, labels)):
                continue
        if known == "ranking":
            if all(holds_calls(schema.value(fields, "answers")) for fields in fitting):
                continue
            if not all(_is_list(schema.value(fields, "answers")) for fields in fitting):
                continue
            if not schema.sources.keys() & {"ranks", "scores"}:
                # A list alone may be anything; it is a ranking where nothing else fits.
                last = schema.format
                continue
        return schema.format
    return last


def _sources(
    sample: Sequence[Mapping[str, Any]], format: str, columns: Mapping[str, str]
) -> dict[str, str]:
    """Find under which name each field of a format stands in most rows."""
    sources: dict[str, str] = {}
    taken = {column for source in columns.values() for column in columns_of(source)}
    for name, aliases in _aliases(format).items():
        if format == "prompt" and name == "completion":
            aliases = (*aliases, *(alias for alias in _ANSWERS if _all_calls(sample, alias)))
        if name in columns:
            # An empty name leaves the field out.
            if columns[name]:
                sources[name] = columns[name]
            continue
        counts = {
            alias: sum(_fit(name, alias)(value_at(fields, alias)) for fields in sample)
            for alias in aliases
            if alias not in taken
        }
        # The first alias wins a tie; max keeps it.
        best = max(counts, key=lambda alias: counts[alias], default="")
        if best and counts[best]:
            sources[name] = best
            taken.add(best)
    return sources


def _fit(name: str, alias: str) -> Callable[[Any], bool]:
    """Give what a value must be for a field to stand under a name."""
    if name == "context":
        return _is_passage
    return _is_list if name in ("ranks", "scores") and alias in _OF_ONE else _is_there


def _all_calls(sample: Sequence[Mapping[str, Any]], column: str) -> bool:
    values = [value for fields in sample if (value := value_at(fields, column)) is not None]
    return bool(values) and all(map(holds_calls, values))


def _number(label: Any) -> str:
    return number_text(label) if isinstance(label, int | float) else str(label).strip()


def _is_there(value: Any) -> bool:
    return value is not None


def _is_passage(value: Any) -> bool:
    """Tell a text to read from the name or number of one."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_passage, value))
    return isinstance(value, str) and len(value.split()) > 1


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    return (", ".join(columns[:_NAMED]) or "none") + more


def _aliases(format: str) -> Mapping[str, tuple[str, ...]]:
    beside = {} if format in _WITHOUT_CHATS else _BESIDE_CHATS
    return {**_ALIASES[format], **beside}


def _fields(format: str) -> set[str]:
    return set(_aliases(format))


def _as_format(name: str) -> FormatName:
    return next(known for known in get_args(FormatName) if known == name)
