"""Guess the language of a text: by its script first, by py3langid where the script leaves a choice.

Short texts decide the design: a general detector calls "Привет" Bulgarian and "hi" anything.
"""

import re
from collections.abc import Callable, Sequence

__all__ = ["UNKNOWN", "language_guesser"]

UNKNOWN = "unknown"

# Languages that business data comes in and that py3langid tells apart well.
_LATIN = ["en", "de", "fr", "es", "it", "pt", "nl", "pl", "cs", "ro", "sv", "tr", "id", "vi"]
_CYRILLIC = ["ru", "uk", "bg", "kk", "sr"]
_SCRIPTS: Sequence[tuple[str, str]] = (
    ("ru", "Ѐ-ӿ"),
    ("en", "A-Za-zÀ-ɏḀ-ỿ"),
    ("ja", "぀-ヿ"),
    ("ko", "가-힣"),
    ("zh", "一-鿿"),
    ("ar", "؀-ۿ"),
    ("he", "֐-׿"),
    ("el", "Ͱ-Ͽ"),
    ("hi", "ऀ-ॿ"),
    ("th", "฀-๿"),
    ("ka", "Ⴀ-ჿ"),
    ("hy", "԰-֏"),
)
_PATTERNS = [(language, re.compile(f"[{letters}]")) for language, letters in _SCRIPTS]
_UKRAINIAN = re.compile("[іїєґІЇЄҐ]")
_BELARUSIAN = re.compile("[ўЎ]")
_RUSSIAN = re.compile("[ыэёЫЭЁ]")
_CHARACTERS = 400
_SHORT = 60


def language_guesser() -> Callable[[str], str]:
    """Make a function that guesses languages.

    Returns:
        A function from a text to an ISO 639-1 code, or to "unknown" for a text without letters.
    """
    from py3langid.langid import (  # type: ignore[import-untyped]
        MODEL_FILE,
        LanguageIdentifier,
    )

    # One model of our own, restricted here: the package's shared one is a global.
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def among(text: str, languages: list[str], fallback: str) -> str:
        model.set_languages(languages)
        language, confidence = model.classify(text)
        sure = 0.9 if len(text) < _SHORT else 0.5
        return str(language) if confidence >= sure else fallback

    def guess(text: str) -> str:
        text = text[:_CHARACTERS]
        counts = {language: len(pattern.findall(text)) for language, pattern in _PATTERNS}
        script = max(counts, key=lambda language: counts[language])
        if not counts[script]:
            return UNKNOWN
        if counts["ja"]:
            return "ja" if script in ("ja", "zh") else script
        if script == "ru":
            if _BELARUSIAN.search(text):
                return "be"
            if _UKRAINIAN.search(text) and not _RUSSIAN.search(text):
                return "uk"
            if _RUSSIAN.search(text) or len(text) < _SHORT:
                return "ru"
            return among(text, _CYRILLIC, "ru")
        return among(text, _LATIN, "en") if script == "en" else script

    return guess
