"""Examine a data set before anything is trained on it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kamerton.data.concerns import warnings_of
from kamerton.data.dataset import Loaded
from kamerton.data.duplicates import find_contradictions, find_duplicates, find_leakage
from kamerton.data.examples import ChatExample, Example, Place, PreferenceExample
from kamerton.data.findings import Audit, Count, Quantiles
from kamerton.data.identity import answer_text, input_text, label_of, rejected_text, whole_text
from kamerton.data.languages import language_guesser
from kamerton.data.personal import KINDS, find_personal

__all__ = ["Audit", "Count", "Quantiles", "audit"]

_PLACES = 5
_LANGUAGE_TEXTS = 500


def audit(loaded: Loaded, holdout: Sequence[Example] | None = None) -> Audit:
    """Examine a data set.

    Args:
        loaded: The data set.
        holdout: What is kept aside for measuring: some of its examples, or others.

    Returns:
        What was found.
    """
    examples = loaded.examples
    duplicates = find_duplicates(examples)
    repeated = [i for cluster in duplicates.exact for i in cluster[1:]]
    similar = [i for cluster in duplicates.near for i in cluster[1:]]
    contradictions = find_contradictions(examples)
    pairs = [e for e in examples if isinstance(e, PreferenceExample)]
    notices = [duplicates.notice]
    leaked = nearly = None
    if holdout is not None:
        aside = {id(example) for example in holdout}
        leakage = find_leakage([e for e in examples if id(e) not in aside], holdout)
        leaked = _count([holdout[i].place for i, _ in leakage.exact])
        nearly = _count([holdout[i].place for i, _ in leakage.near])
        notices.append(leakage.notice)
    found = Audit(
        source=loaded.source,
        format=loaded.schema.format,
        fingerprint=loaded.fingerprint,
        num_rows=loaded.num_rows,
        num_examples=len(examples),
        num_other_splits=loaded.num_other_splits,
        splits=loaded.splits,
        columns=dict(loaded.schema.sources),
        unused_columns=tuple(sorted({str(key) for e in examples for key in e.extra})),
        rejections=tuple(loaded.rejections),
        reasons=_ordered(
            f"{r.field}: {r.reason}" if r.field else r.reason for r in loaded.rejections
        ),
        labels=_ordered(label for e in examples if (label := label_of(e)) is not None),
        lengths=_lengths(examples),
        languages=_languages(examples),
        exact_duplicates=_count([examples[i].place for i in sorted(repeated)]),
        near_duplicates=_count([examples[i].place for i in sorted(similar)]),
        contradictions=_count([examples[cluster[-1]].place for cluster in contradictions]),
        identical_pairs=_count([e.place for e in pairs if answer_text(e) == rejected_text(e)]),
        chosen_longer=_share_longer(pairs),
        open_endings=_count([e.place for e in examples if _ends_open(e)]),
        leaked=leaked,
        nearly_leaked=nearly,
        personal=_personal(examples),
        notices=tuple(dict.fromkeys(filter(None, notices))),
    )
    return replace(found, warnings=warnings_of(found))


def _count(places: Sequence[Place]) -> Count:
    return Count(len(places), tuple(map(str, places[:_PLACES])))


def _ordered(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _lengths(examples: Sequence[Example]) -> dict[str, dict[str, Quantiles]]:
    lengths = {}
    for name, text_of in (("input", input_text), ("answer", answer_text)):
        texts = [text_of(example) for example in examples]
        lengths[name] = {
            "characters": _quantiles([len(text) for text in texts]),
            "words": _quantiles([len(text.split()) for text in texts]),
        }
    return lengths


def _quantiles(sizes: list[int]) -> Quantiles:
    sizes = sorted(sizes) or [0]
    median, p90, p99 = (sizes[min(len(sizes) - 1, int(q * len(sizes)))] for q in (0.5, 0.9, 0.99))
    return Quantiles(median, p90, p99, sizes[-1])


def _languages(examples: Sequence[Example]) -> dict[str, int]:
    guess = language_guesser()
    step = max(1, len(examples) / _LANGUAGE_TEXTS)
    chosen = (int(i * step) for i in range(min(len(examples), _LANGUAGE_TEXTS)))
    return _ordered(guess(whole_text(examples[i])) for i in chosen)


def _share_longer(pairs: Sequence[PreferenceExample]) -> float | None:
    if not pairs:
        return None
    return sum(len(answer_text(e)) > len(rejected_text(e)) for e in pairs) / len(pairs)


def _ends_open(example: Example) -> bool:
    return isinstance(example, ChatExample) and example.messages[-1]["role"] != "assistant"


def _personal(examples: Sequence[Example]) -> Mapping[str, Count]:
    places: dict[str, list[Place]] = {kind: [] for kind in KINDS}
    for example in examples:
        for kind in {found.kind for found in find_personal(whole_text(example))}:
            places[kind].append(example.place)
    return {kind: _count(found) for kind, found in places.items() if found}
