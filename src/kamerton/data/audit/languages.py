"""Guess the language of a text: by its script and letters, by py3langid for the Latin script.

Short texts decide the design: a general detector calls "Привет" Bulgarian and "hi" anything.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

__all__ = ["UNKNOWN", "language_guesser"]

UNKNOWN = "unknown"

# Languages that business data comes in and that py3langid tells apart well.
_LATIN = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "cs", "ro", "sv", "tr", "id", "vi")
_SCRIPTS: Sequence[tuple[str, str]] = (
    ("cyrillic", "Ѐ-ӿ"),
    ("latin", "A-Za-zÀ-ɏḀ-ỿ"),
    ("ja", "぀-ヿ"),
    ("zh", "一-鿿"),
    ("ko", "가-힣"),
    ("ar", "؀-ۿ"),
    ("he", "֐-׿"),
    ("el", "Ͱ-Ͽ"),
    ("hi", "ऀ-ॿ"),
    ("th", "฀-๿"),
    ("ka", "Ⴀ-ჿ"),
    ("hy", "԰-֏"),
)
_PATTERNS = [(language, re.compile(f"[{letters}]")) for language, letters in _SCRIPTS]
# Letters that only one of the languages has; Russian is what is left.
_CYRILLIC = (
    ("be", re.compile("[ўЎ]")),
    ("kk", re.compile("[әғқңөұүһӘҒҚҢӨҰҮҺ]")),
    ("sr", re.compile("[јљњђћџЈЉЊЂЋЏ]")),
)
_UKRAINIAN = re.compile("[іїєґІЇЄҐ]")
_RUSSIAN = re.compile("[ыэёЫЭЁ]")
_BULGARIAN = re.compile(r"[а-я]ъ[бвгджзклмнпрстфхцчшщ]")
_CHARACTERS = 300
_SHORT = 60


def language_guesser() -> Callable[[str], str]:
    """Make a function that guesses languages; it loads a model at the first text that needs one.

    Returns:
        A function from a text to an ISO 639-1 code, or to "unknown" for a text without letters.
    """
    model = cache(_latin_model)

    def guess(text: str) -> str:
        text = text[:_CHARACTERS]
        counts = {script: len(pattern.findall(text)) for script, pattern in _PATTERNS}
        script = max(counts, key=lambda script: counts[script])
        if not counts[script]:
            return UNKNOWN
        if script == "cyrillic":
            return _cyrillic(text)
        if script == "zh" and counts["ja"]:
            return "ja"
        if script != "latin":
            return script
        language, confidence = model().classify(text)
        return str(language) if confidence >= (0.9 if len(text) < _SHORT else 0.5) else "en"

    return guess


def _cyrillic(text: str) -> str:
    for language, letters in _CYRILLIC:
        if letters.search(text):
            return language
    if _RUSSIAN.search(text):
        return "ru"
    if _UKRAINIAN.search(text):
        return "uk"
    return "bg" if len(_BULGARIAN.findall(text)) > 1 else "ru"


def _latin_model() -> Any:
    from py3langid.langid import (
        MODEL_FILE,
        LanguageIdentifier,
    )

    # A model of our own, restricted once: the package's shared one is a global.
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages(_LATIN)
    return model
