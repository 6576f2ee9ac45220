"""Examine a data set before anything is trained on it."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from kamerton.core.language import translated
from kamerton.data.audit.concerns import warnings_of
from kamerton.data.audit.duplicates import (
    Report,
    find_contradictions,
    find_duplicates,
    find_leakage,
    reported,
)
from kamerton.data.audit.findings import Audit, Count, Quantiles
from kamerton.data.audit.languages import language_guesser
from kamerton.data.audit.marks import StopTexts, find_mark
from kamerton.data.dataset import Loaded
from kamerton.data.examples import ChatExample, Example, PreferenceExample
from kamerton.data.identity import answer_text, input_text, label_of, rejected_text, whole_text
from kamerton.data.privacy.personal import KINDS, find_personal

__all__ = ["Audit", "Count", "Quantiles", "audit"]

_LOCATIONS = 5
_LANGUAGE_TEXTS = 500
# What programs write where a table has nothing, and Excel where a formula failed; "none" may be a
# class that is meant.
_EMPTY_LABELS = frozenset(
    (
        *("nan", "null", "<na>", "nat", "undefined"),
        *("#n/a", "#name?", "#value!", "#ref!", "#н/д", "#имя?", "#знач!", "#ссылка!"),
    )
)
_EMPTY_WORDS = _EMPTY_LABELS | {"none"}


def audit(
    loaded: Loaded,
    holdout: Sequence[Example] | None = None,
    *,
    train: Sequence[Example] | None = None,
    report: Report | None = None,
) -> Audit:
    """Examine a data set.

    Args:
        loaded: The data set.
        holdout: Examples that are kept aside for measuring.
        train: Examples to learn from; all of the data set when None.
        report: Called with the progress.

    Returns:
        What was found.
    """
    examples = loaded.examples
    seen = _Seen(len(examples))
    for example in reported(examples, translated("examining"), report):
        seen.add(example)
    duplicates = find_duplicates(examples, report)
    contradictions = find_contradictions(examples, report)
    notices = [*loaded.notices, duplicates.notice]
    leaked = nearly = None
    if holdout is not None:
        leakage = find_leakage(examples if train is None else train, holdout, report)
        leaked = _locations(holdout, [i for i, _ in leakage.exact])
        nearly = _locations(holdout, [i for i, _ in leakage.near])
        notices.append(leakage.notice)
    reasons = Counter(f"{r.field}: {r.reason}" if r.field else r.reason for r in loaded.rejections)
    found = Audit(
        source=loaded.source,
        format=loaded.schema.format,
        fingerprint=loaded.fingerprint,
        num_rows=loaded.num_rows,
        num_examples=len(examples),
        num_other_splits=loaded.num_other_splits,
        splits=loaded.splits,
        columns=dict(loaded.schema.sources),
        unused_columns=_unused_columns(loaded, seen.other_columns),
        unused_prose=loaded.unused.prose,
        unused_keys=loaded.unused.keys,
        rejections=tuple(loaded.rejections),
        reasons=dict(reasons.most_common()),
        labels=dict(seen.labels.most_common()),
        lengths={
            part: {unit: _quantiles(sizes) for unit, sizes in units.items()}
            for part, units in seen.lengths.items()
        },
        languages=dict(seen.languages.most_common()),
        exact_duplicates=_locations(examples, _repeats(duplicates.exact)),
        near_duplicates=_locations(examples, _repeats(duplicates.near)),
        contradictions=_locations(examples, [cluster[-1] for cluster in contradictions]),
        identical_pairs=seen.count("identical"),
        chosen_longer=seen.share_longer,
        open_endings=seen.count("open"),
        empty_words=seen.count("empty word"),
        template_marks=dict(seen.marks.most_common()),
        stop_text=seen.stop_texts.found,
        leaked=leaked,
        nearly_leaked=nearly,
        personal={kind: seen.count(kind) for kind in KINDS if seen.count(kind).number},
        notices=tuple(dict.fromkeys(filter(None, notices))),
    )
    return replace(found, warnings=warnings_of(found))


class _Seen:
    """Adds up what single examples show, so that one pass over them is enough."""

    def __init__(self, total: int) -> None:
        self.other_columns: set[str] = set()
        self.labels: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.lengths = {
            part: {unit: array("Q") for unit in ("characters", "words")}
            for part in ("input", "answer")
        }
        self.marks: Counter[str] = Counter()
        self.stop_texts = StopTexts()
        self._numbers: Counter[str] = Counter()
        self._first_locations: dict[str, list[str]] = defaultdict(list)
        self._guess = language_guesser()
        self._language_step = max(1, total / _LANGUAGE_TEXTS)
        self._num_examples = 0

    def count(self, what: str) -> Count:
        return Count(self._numbers[what], tuple(self._first_locations[what]))

    @property
    def share_longer(self) -> float | None:
        num_pairs = self._numbers["pair"]
        return self._numbers["longer"] / num_pairs if num_pairs else None

    def add(self, example: Example) -> None:
        self.other_columns.update(map(str, example.extra))
        label = label_of(example)
        if label is not None:
            self.labels[label] += 1
        answer = answer_text(example)
        said = input_text(example)
        for part, text in (("input", said), ("answer", answer)):
            self.lengths[part]["characters"].append(len(text))
            self.lengths[part]["words"].append(len(text.split()))
        text = whole_text(example)
        # Languages of a few hundred examples, evenly spread over the data, tell enough.
        if self._num_examples >= self.languages.total() * self._language_step:
            self.languages[self._guess(text)] += 1
        self._num_examples += 1
        if mark := find_mark(text):
            self.marks[mark] += 1
        self.stop_texts.add(answer)
        for kind in {found.kind for found in find_personal(text)}:
            self._note(kind, example)
        words = _EMPTY_WORDS if label is None or label != answer else _EMPTY_LABELS
        if answer.strip().casefold() in words or said.strip().casefold() in _EMPTY_WORDS:
            self._note("empty word", example)
        if isinstance(example, ChatExample) and example.messages[-1]["role"] != "assistant":
            self._note("open", example)
        if isinstance(example, PreferenceExample):
            rejected = rejected_text(example)
            self._note("pair", example)
            if len(answer) > len(rejected):
                self._note("longer", example)
            elif answer == rejected:
                self._note("identical", example)

    def _note(self, what: str, example: Example) -> None:
        self._numbers[what] += 1
        if self._numbers[what] <= _LOCATIONS:
            self._first_locations[what].append(str(example.location))


def _unused_columns(loaded: Loaded, others: Iterable[str]) -> tuple[str, ...]:
    """Name texts by dotted paths, other columns whole; not those of which a part is used."""
    texts = set(loaded.unused.columns)
    known = {*texts, *loaded.schema.used, loaded.schema.group}
    columns = (
        name for name in others if not any(f"{one}.".startswith(f"{name}.") for one in known)
    )
    splits = {"split"} if loaded.splits else set()
    return tuple(sorted({*texts, *columns} - splits))


def _repeats(clusters: Iterable[tuple[int, ...]]) -> list[int]:
    return sorted(i for cluster in clusters for i in cluster[1:])


def _locations(examples: Sequence[Example], indices: Sequence[int]) -> Count:
    return Count(len(indices), tuple(str(examples[i].location) for i in indices[:_LOCATIONS]))


def _quantiles(sizes: "array[int]") -> Quantiles:
    if not sizes:
        return Quantiles(0, 0, 0, 0)
    ordered = np.sort(sizes)
    median, p90, p99 = (int(ordered[int(q * len(ordered))]) for q in (0.5, 0.9, 0.99))
    return Quantiles(median, p90, p99, int(ordered[-1]))
