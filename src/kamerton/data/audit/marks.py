"""Traces of another service in texts: turns that a template has written, stop texts of answers."""

import re
from collections import Counter

__all__ = ["StopTexts", "find_mark"]

_MARK = re.compile(
    r"\[/?INST\]|<</?SYS>>"  # Llama 2, Mistral
    r"|<(?:start|end)_of_turn>|<\|turn>|<turn\|>"  # Gemma
    # ChatML, Llama 3 and 4, Phi, DeepSeek, Command R, Granite, gpt-oss
    r"|<[|\uff5c][\w\u2581]{2,40}[|\uff5c]>"
    r"|^<s>\s?(?:user|bot|system|assistant)$"  # Saiga
    r"|^\[Round \d+\]$"  # ChatGLM
    r"|^### ?(?:Instruction|Response|Human|Assistant|User|Input)\b:?",  # Alpaca, Vicuna
    re.MULTILINE,
)
_TRANSCRIPT = re.compile(
    r"(?:\A\s*|\n)(Human|User): .*\nAssistant: "
    r"|(?:\A|\s)(USER): .*\sASSISTANT:"  # Vicuna
    r"|(?:\A|\s)(Пользователь): .*\s(?:Ассистент|Бот):",
    re.DOTALL,
)
_ANSWERS_BEGIN = ("\nAssistant: ", "ASSISTANT:", "Ассистент:", "Бот:")
_STOP = re.compile(r"END|STOP|DONE|EOS|EOT|</?\w+>|<\|\w+\|>|\[[A-Z/]{2,}\]|[#=~*|<>_-]{2,}|\w+:")
_AFTER_SENTENCE = re.compile(r"[A-Z]{2,12}")
_SENTENCE_ENDS = ".!?…"
_LEAST_ANSWERS = 10
_NEARLY_ALL = 0.9


def find_mark(text: str) -> str | None:
    """Find the mark of a turn that a chat template has written.

    Args:
        text: Any.

    Returns:
        The first mark, such as "[INST]"; None where there is none.
    """
    # Most texts have none of these characters, and need no search.
    if "[" in text or "<" in text or "###" in text:
        found = _MARK.search(text)
        if found:
            return found.group().strip()
    is_likely = any(begin in text for begin in _ANSWERS_BEGIN)
    transcript = _TRANSCRIPT.search(text) if is_likely else None
    return f"{transcript[transcript.lastindex or 0]}:" if transcript else None


class StopTexts:
    """Looks for a text that ends nearly all answers, as OpenAI's older format asked for."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()
        self._num_answers = 0

    def add(self, answer: str) -> None:
        """Look at an answer.

        Args:
            answer: Its text; a single word is a class, and no stop text.
        """
        self._num_answers += 1
        before, _, last = answer.rstrip().replace("\n", " ").rpartition(" ")
        ended = before.rstrip()[-1:]
        if not ended or len(last) > 20:
            return
        if _STOP.fullmatch(last) or (ended in _SENTENCE_ENDS and _AFTER_SENTENCE.fullmatch(last)):
            self._found[last] += 1

    @property
    def found(self) -> str:
        """The stop text; empty where fewer than nine in ten answers end with one."""
        [(text, number)] = self._found.most_common(1) or [("", 0)]
        enough = self._num_answers >= _LEAST_ANSWERS and number >= _NEARLY_ALL * self._num_answers
        return text if enough else ""
