"""Transcripts: a whole conversation in one text, as "Human: ..." and "Assistant: ..." in turn."""

import re

from kamerton.data.examples import Message
from kamerton.data.formats.messages import Unusable, assistant, user

__all__ = ["is_open", "is_transcript", "turns_of"]

_MARK = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def is_transcript(text: str) -> bool:
    """Tell a transcript from a text of one turn.

    Args:
        text: Any.

    Returns:
        Whether it begins with "Human:" and has an "Assistant:" at the start of a later paragraph.
    """
    return text.lstrip().startswith("Human:") and "\n\nAssistant:" in text


def is_open(text: str) -> bool:
    """Tell a transcript that waits for its last answer.

    Args:
        text: Any.

    Returns:
        Whether it is a transcript that ends with "Assistant:".
    """
    return is_transcript(text) and text.rstrip().endswith("\n\nAssistant:")


def turns_of(text: str, field: str) -> tuple[Message, ...]:
    """Split a transcript into its turns.

    Args:
        text: A transcript; a last "Assistant:" of an open one is left out.
        field: Its name in errors.

    Returns:
        Turns; neighbours of one speaker are one turn with a blank line in between.

    Raises:
        Unusable: If a turn is empty.
    """
    _, *parts = _MARK.split(text)
    spoken: list[tuple[str, str]] = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        if spoken and spoken[-1][0] == speaker:
            said = f"{spoken.pop()[1]}\n\n{said.strip()}"
        spoken.append((speaker, said.strip()))
    if is_open(text):
        spoken[-1:] = [("Assistant", spoken[-1][1].strip())] if spoken[-1][1].strip() else []
    for number, (_, said) in enumerate(spoken, 1):
        if not said:
            raise Unusable(field, f"turn {number} is empty")
    return tuple(user(said) if speaker == "Human" else assistant(said) for speaker, said in spoken)
