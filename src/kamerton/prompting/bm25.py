"""BM25: how well texts fit a query by the words that they share with it.

Robertson and Zaragoza 2009, with k1 = 1.2, b = 0.75 and an idf that is never negative (as Lucene's:
ln(1 + (N - n + 0.5) / (n + 0.5))).
"""

import re
from collections import Counter
from collections.abc import Sequence
from math import log

__all__ = ["Bm25", "words_of"]

_K1 = 1.2
_B = 0.75
_WORD = re.compile(r"\w+")
_STEM = 6


def words_of(text: str) -> list[str]:
    """Split a text into words for comparison.

    Args:
        text: Any text.

    Returns:
        Words in small letters, cut after six letters: endings say little, most of all in Russian.
    """
    return [word[:_STEM] for word in _WORD.findall(text.casefold())]


class Bm25:
    """Texts that can be ranked by a query.

    Args:
        texts: The texts, in an order that decides among equals.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(words_of(text)) for text in texts]
        lengths = [count.total() for count in counts]
        mean = sum(lengths) / max(len(lengths), 1) or 1.0
        self._num = len(texts)
        self._weights: dict[str, dict[int, float]] = {}
        for number, (count, length) in enumerate(zip(counts, lengths, strict=True)):
            norm = _K1 * (1 - _B + _B * length / mean)
            for word, times in count.items():
                weight = times * (_K1 + 1) / (times + norm)
                self._weights.setdefault(word, {})[number] = weight

    def scores(self, query: str) -> list[float]:
        """Score all texts.

        Args:
            query: The query; a word that stands twice in it counts once.

        Returns:
            A score per text, 0 or more, larger where it fits better.
        """
        found = [0.0] * self._num
        for word in dict.fromkeys(words_of(query)):
            weights = self._weights.get(word, {})
            idf = log(1 + (self._num - len(weights) + 0.5) / (len(weights) + 0.5))
            for number, weight in weights.items():
                found[number] += idf * weight
        return found

    def nearest(self, query: str, k: int) -> list[int]:
        """Choose the texts that fit best.

        Args:
            query: The query.
            k: How many, 0 or more.

        Returns:
            Places of texts, the best first; of equals the first first.
        """
        scores = self.scores(query)
        return sorted(range(self._num), key=lambda number: -scores[number])[:k]
