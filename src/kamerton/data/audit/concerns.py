"""What to mind about a data set, in words."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from kamerton.core.wording import counted
from kamerton.data.audit.findings import Audit
from kamerton.data.identity import normal_text

__all__ = ["warnings_of"]

_ONE_LABEL = 0.9
_FEW_OF_LABEL = 5
_FEW_EXAMPLES = 50
_MANY_NEAR = 0.05
_SMALL_LANGUAGE = 0.1
_LONGER = 0.7
_LONG_CHARACTERS = 50_000
_NAMED = 5
_JUDGES = {
    "winner",
    "better",
    "best",
    "preferred",
    "preference",
    "choice",
    "verdict",
    "vote",
    "rank",
}
# Words in names of columns that tell where a text is from.
_ABOUT = {
    *(
        "id",
        "idx",
        "index",
        "uuid",
        "url",
        "uri",
        "link",
        "file",
        "path",
        "source",
        "domain",
        "host",
    ),
    *(
        "title",
        "author",
        "authors",
        "date",
        "time",
        "timestamp",
        "created",
        "updated",
        "at",
        "year",
    ),
    *(
        "lang",
        "language",
        "license",
        "meta",
        "metadata",
        "length",
        "size",
        "hash",
        "dump",
        "tokens",
    ),
    *("annotator", "annotation", "lead", "split", "version"),
}
_SPEAKERS = {"role", "speaker", "author", "from"}


def warnings_of(found: Audit) -> tuple[str, ...]:
    """Say what to mind.

    Args:
        found: An audit, its own warnings aside.

    Returns:
        One sentence each, the gravest first; empty for a sound data set.
    """
    return (
        *_of_rows(found),
        *_of_unused(found),
        *_of_split(found),
        *_of_labels(found),
        *_of_answers(found),
        *_of_texts(found),
    )


def _of_rows(found: Audit) -> Iterator[str]:
    if found.rejections:
        share = len(found.rejections) / found.num_rows
        yield f"{len(found.rejections)} of {found.num_rows} rows cannot be used ({share:.1%})"
    if 0 < found.num_examples < _FEW_EXAMPLES:
        few = counted(found.num_examples, "example")
        yield f"only {few}: results will vary a lot from seed to seed"
    if len(found.splits) > 1 and not found.num_other_splits:
        names = ", ".join(f"{name} ({number})" for name, number in found.splits.items())
        yield f"the splits {names} are all used together; data.split chooses among them"
    if found.exact_duplicates.number:
        share = found.exact_duplicates.number / found.num_examples
        repeat = counted(found.exact_duplicates.number, "example repeats", "examples repeat")
        yield f"{repeat} an earlier one ({share:.1%})"
    if found.near_duplicates.number > _MANY_NEAR * found.num_examples:
        share = found.near_duplicates.number / found.num_examples
        repeat = counted(
            found.near_duplicates.number, "example nearly repeats", "examples nearly repeat"
        )
        yield f"{repeat} an earlier one ({share:.1%})"


def _of_unused(found: Audit) -> Iterator[str]:
    if found.unused_prose:
        yield f"nothing learns from the text in {_quoted(found.unused_prose)}"
    if found.unused_keys:
        yield f"nothing takes the keys {_quoted(tuple(found.unused_keys))} of turns"
    judges = set(found.unused_columns) & _JUDGES
    judged = found.columns.keys() & {"ranks", "scores"}
    if found.format in ("preference", "ranking") and judges and not judged:
        named = _quoted(sorted(judges))
        yield f"nothing reads {named}: does it say that another answer is the better one?"
    if found.format == "text" and (said_by := set(found.unused_columns) & _SPEAKERS):
        yield (
            f"every row is a text of its own, but {_quoted(sorted(said_by))} says who speaks: "
            "a conversation must be one row of messages"
        )
    elif found.format == "text":
        yield from _of_classes(found)


def _of_classes(found: Audit) -> Iterator[str]:
    """Texts to learn by heart are often texts to classify whose classes have another name."""
    parts = {
        name: set(name.casefold().replace(".", "_").split("_")) for name in found.unused_columns
    }
    named = [n for n, words in parts.items() if n not in found.unused_prose and not words & _ABOUT]
    if named:
        yield (
            f"every row is learned as a text, word for word, and nothing learns from "
            f'{_quoted(named)}: if that is a class, data.columns = {{ label = "{named[0]}" }}'
        )


def _of_split(found: Audit) -> Iterator[str]:
    if found.leaked and found.leaked.number:
        yield (
            f"{found.leaked.number} holdout examples ask what training asks, "
            f"the first at {found.leaked.locations[0]}: results on them are too good"
        )
    if found.nearly_leaked and found.nearly_leaked.number:
        yield f"{found.nearly_leaked.number} holdout examples ask nearly what training asks"


def _of_labels(found: Audit) -> Iterator[str]:
    total = sum(found.labels.values())
    if not total:
        return
    label, most = next(iter(found.labels.items()))
    if len(found.labels) == 1:
        yield f"all rows have one label, '{label}': there is nothing to tell apart"
    elif most >= _ONE_LABEL * total:
        yield f"{most / total:.0%} of rows share one label, '{label}'"
    for names in _alike(found.labels):
        yield f"labels differ only in case, spaces or a full stop: {', '.join(names)}"
    rare = [name for name, number in found.labels.items() if number < _FEW_OF_LABEL]
    if rare:
        yield f"fewer than {_FEW_OF_LABEL} rows have the label {_quoted(rare)}"


def _alike(labels: Mapping[str, int]) -> Iterator[list[str]]:
    """Give labels that mean the same class, with their numbers; odd spaces are spelled out."""
    together: dict[str, list[str]] = defaultdict(list)
    for label, number in labels.items():
        shown = "".join(c if c == " " or c.isprintable() else ascii(c)[1:-1] for c in label)
        key = normal_text(label).rstrip(". ")
        together[key or label].append(f"'{shown}' ({number})")
    yield from islice((names for names in together.values() if len(names) > 1), _NAMED)


def _of_answers(found: Audit) -> Iterator[str]:
    if found.empty_words.number:
        yield (
            f"{found.empty_words.number} examples ask or answer no more than 'nan', 'None', "
            f"'null' or '#N/A', the first at {found.empty_words.locations[0]}: "
            "are these empty cells?"
        )
    if found.contradictions.number:
        # Pairs and feedback contradict each other only where one answer is judged both ways.
        one, many, what = {
            "preference": ("pair stands", "pairs stand", "the other way round in another row"),
            "feedback": ("answer is", "answers are", "liked in one row and disliked in another"),
        }.get(
            found.format,
            ("question has", "questions have", "different answers in different rows"),
        )
        number = counted(found.contradictions.number, one, many)
        yield f"{number} {what}, one at {found.contradictions.locations[0]}"
    if found.identical_pairs.number:
        number = counted(found.identical_pairs.number, "pair has", "pairs have")
        yield (
            f"{number} the same answer as better and worse, "
            f"the first at {found.identical_pairs.locations[0]}: training leaves them out"
        )
    if found.chosen_longer is not None and found.chosen_longer >= _LONGER:
        yield (
            f"the better answer is the longer one in {found.chosen_longer:.0%} of pairs: "
            "length itself may be learned"
        )
    if found.open_endings.number:
        yield (
            f"{found.open_endings.number} conversations end with a turn that nobody answers; "
            "it trains nothing"
        )


def _of_texts(found: Audit) -> Iterator[str]:
    if found.template_marks:
        number = sum(found.template_marks.values())
        yield (
            f"{number} of {found.num_examples} examples hold turns that a chat template has "
            f"written ({_quoted(tuple(found.template_marks))}): these are trained as plain text, "
            "users' turns too; bring the turns as messages"
        )
    if found.stop_text:
        yield (
            f"nearly all answers end with '{found.stop_text}': is this the stop text of another "
            "service? The model would write it; here an answer has an end of its own"
        )
    for name, sizes in found.lengths.items():
        longest = sizes["characters"].longest
        if longest > _LONG_CHARACTERS:
            yield f"the longest {name} has {longest:,} characters and may not fit the context"
    num_texts = sum(found.languages.values())
    small = [
        f"{language} ({number})"
        for language, number in found.languages.items()
        if number < _SMALL_LANGUAGE * num_texts
    ]
    if small:
        yield f"a few of {num_texts} examples seem to be in another language: {', '.join(small)}"
    if found.personal:
        kinds = ", ".join(f"{kind} ({count.number})" for kind, count in found.personal.items())
        yield f"personal data in examples: {kinds}; data.redact = true masks it"


def _quoted(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + more
