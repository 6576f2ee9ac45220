"""What to mind about a data set, in words."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from kamerton.core.language import translated, translated_count
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
        yield translated(
            "{num_rejections} of {num_rows} rows cannot be used ({share:.1%})",
            num_rejections=len(found.rejections),
            num_rows=found.num_rows,
            share=share,
        )
    if 0 < found.num_examples < _FEW_EXAMPLES:
        few = translated_count(found.num_examples, "example")
        yield translated("only {few}: results will vary a lot from seed to seed", few=few)
    if len(found.splits) > 1 and not found.num_other_splits:
        names = ", ".join(f"{name} ({number})" for name, number in found.splits.items())
        yield translated(
            "the splits {names} are all used together; data.split chooses among them", names=names
        )
    if found.exact_duplicates.number:
        share = found.exact_duplicates.number / found.num_examples
        repeat = translated_count(
            found.exact_duplicates.number, "example repeats", "examples repeat"
        )
        yield translated("{repeat} an earlier one ({share:.1%})", repeat=repeat, share=share)
    if found.near_duplicates.number > _MANY_NEAR * found.num_examples:
        share = found.near_duplicates.number / found.num_examples
        repeat = translated_count(
            found.near_duplicates.number, "example nearly repeats", "examples nearly repeat"
        )
        yield translated("{repeat} an earlier one ({share:.1%})", repeat=repeat, share=share)


def _of_unused(found: Audit) -> Iterator[str]:
    if found.unused_prose:
        yield translated(
            "nothing learns from the text in {quoted}", quoted=_quoted(found.unused_prose)
        )
    if found.unused_keys:
        yield translated(
            "nothing takes the keys {quoted} of turns", quoted=_quoted(tuple(found.unused_keys))
        )
    judges = set(found.unused_columns) & _JUDGES
    judged = found.columns.keys() & {"ranks", "scores"}
    if found.format in ("preference", "ranking") and judges and not judged:
        named = _quoted(sorted(judges))
        yield translated(
            "nothing reads {named}: does it say that another answer is the better one?", named=named
        )
    if found.format == "text" and (said_by := set(found.unused_columns) & _SPEAKERS):
        yield (
            translated(
                "every row is a text of its own, but {quoted} says who speaks: a "
                "conversation must be one row of messages",
                quoted=_quoted(sorted(said_by)),
            )
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
            translated(
                "every row is learned as a text, word for word, and nothing learns from "
                '{quoted}: if that is a class, data.columns = {{ label = "{named}" }}',
                quoted=_quoted(named),
                named=named[0],
            )
        )


def _of_split(found: Audit) -> Iterator[str]:
    if found.leaked and found.leaked.number:
        yield (
            translated(
                "{number} holdout examples ask what training asks, the first at {value}: "
                "results on them are too good",
                number=found.leaked.number,
                value=found.leaked.locations[0],
            )
        )
    if found.nearly_leaked and found.nearly_leaked.number:
        yield translated(
            "{number} holdout examples ask nearly what training asks",
            number=found.nearly_leaked.number,
        )


def _of_labels(found: Audit) -> Iterator[str]:
    total = sum(found.labels.values())
    if not total:
        return
    label, most = next(iter(found.labels.items()))
    if len(found.labels) == 1:
        yield translated(
            "all rows have one label, '{label}': there is nothing to tell apart", label=label
        )
    elif most >= _ONE_LABEL * total:
        yield translated(
            "{value:.0%} of rows share one label, '{label}'", value=most / total, label=label
        )
    for names in _alike(found.labels):
        yield translated(
            "labels differ only in case, spaces or a full stop: {listed}", listed=", ".join(names)
        )
    rare = [name for name, number in found.labels.items() if number < _FEW_OF_LABEL]
    if rare:
        yield translated(
            "fewer than {FEW_OF_LABEL} rows have the label {quoted}",
            FEW_OF_LABEL=_FEW_OF_LABEL,
            quoted=_quoted(rare),
        )


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
            translated(
                "{number} examples ask or answer no more than 'nan', 'None', 'null' or "
                "'#N/A', the first at {value}: are these empty cells?",
                number=found.empty_words.number,
                value=found.empty_words.locations[0],
            )
        )
    if found.contradictions.number:
        # Pairs and feedback contradict each other only where one answer is judged both ways.
        number, first = found.contradictions.number, found.contradictions.locations[0]
        match found.format:
            case "preference":
                pairs = translated_count(number, "pair stands", "pairs stand")
                yield translated(
                    "{pairs} the other way round in another row, one at {first}",
                    pairs=pairs,
                    first=first,
                )
            case "feedback":
                answers = translated_count(number, "answer is", "answers are")
                yield translated(
                    "{answers} liked in one row and disliked in another, one at {first}",
                    answers=answers,
                    first=first,
                )
            case _:
                questions = translated_count(number, "question has", "questions have")
                yield translated(
                    "{questions} different answers in different rows, one at {first}",
                    questions=questions,
                    first=first,
                )
    if found.identical_pairs.number:
        pairs = translated_count(found.identical_pairs.number, "pair has", "pairs have")
        yield (
            translated(
                "{pairs} the same answer as better and worse, the first at {value}: "
                "training leaves them out",
                pairs=pairs,
                value=found.identical_pairs.locations[0],
            )
        )
    if found.chosen_longer is not None and found.chosen_longer >= _LONGER:
        yield (
            translated(
                "the better answer is the longer one in {chosen_longer:.0%} of pairs: "
                "length itself may be learned",
                chosen_longer=found.chosen_longer,
            )
        )
    if found.open_endings.number:
        yield (
            translated(
                "{number} conversations end with a turn that nobody answers; it trains nothing",
                number=found.open_endings.number,
            )
        )


def _of_texts(found: Audit) -> Iterator[str]:
    if found.template_marks:
        number = sum(found.template_marks.values())
        yield (
            translated(
                "{number} of {num_examples} examples hold turns that a chat template has "
                "written ({quoted}): these are trained as plain text, users' turns too; "
                "bring the turns as messages",
                number=number,
                num_examples=found.num_examples,
                quoted=_quoted(tuple(found.template_marks)),
            )
        )
    if found.stop_text:
        yield (
            translated(
                "nearly all answers end with '{stop_text}': is this the stop text of "
                "another service? The model would write it; here an answer has an end of "
                "its own",
                stop_text=found.stop_text,
            )
        )
    for name, sizes in found.lengths.items():
        longest = sizes["characters"].longest
        if longest > _LONG_CHARACTERS:
            yield translated(
                "the longest {name} has {longest:,} characters and may not fit the context",
                name=name,
                longest=longest,
            )
    num_texts = sum(found.languages.values())
    small = [
        f"{language} ({number})"
        for language, number in found.languages.items()
        if number < _SMALL_LANGUAGE * num_texts
    ]
    if small:
        yield translated(
            "a few of {num_texts} examples seem to be in another language: {listed}",
            num_texts=num_texts,
            listed=", ".join(small),
        )
    if found.personal:
        kinds = ", ".join(f"{kind} ({count.number})" for kind, count in found.personal.items())
        yield translated(
            "personal data in examples: {kinds}; data.redact = true masks it", kinds=kinds
        )


def _quoted(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + more
