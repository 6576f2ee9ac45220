"""What a comparison comes to, before its numbers: one sentence, and answers side by side."""

from rich.console import Console
from rich.text import Text

from kamerton.cli.answers import print_side_by_side
from kamerton.cli.console import harmless
from kamerton.core.language import translated, translated_count
from kamerton.evaluation.headline import in_words
from kamerton.evaluation.side_by_side import SideBySide

__all__ = ["print_headline", "print_pairs"]

_PAIRS = 3
_LONGEST_QUESTION = 300
_LONGEST_ANSWER = 240


def print_headline(out: Console, text: str) -> None:
    """Print the sentence that sums up a comparison.

    Args:
        out: Where.
        text: The sentence.
    """
    # In a file it stays one line, the first.
    out.print(Text(harmless(text), style="bold"), soft_wrap=not out.is_terminal)
    out.print()


def print_pairs(out: Console, found: SideBySide | None) -> None:
    """Print some pairs of answers, long ones shortened.

    Args:
        out: Where.
        found: The pairs; None prints nothing.
    """
    if found is None:
        return
    before, after = in_words(found.before), found.after
    for pair in found.pairs[:_PAIRS]:
        _print_line(out, translated("asked"), pair.question, _LONGEST_QUESTION)
        _print_line(out, translated("the answer in your data"), pair.reference, _LONGEST_ANSWER)
        answers = {before: pair.before, after: pair.after}
        print_side_by_side(
            out, {name: _short(text, _LONGEST_ANSWER) for name, text in answers.items()}
        )
        out.print()
    if len(found.pairs) <= _PAIRS:
        return
    told = translated(
        "{num} pairs were taken evenly from {items}; those that changed most are shown, and "
        "--report FILE shows all of them.",
        num=len(found.pairs),
        items=translated_count(found.num_items, "question"),
    )
    out.print(Text(told, style="dim"))
    out.print()


def _print_line(out: Console, name: str, text: str, longest: int) -> None:
    line = Text(f"{name}: ", style="dim")
    line.append(harmless(_short(text, longest)), style="not dim")
    out.print(line)


def _short(text: str, longest: int) -> str:
    """Cut a text where a word ends, and mark that."""
    text = text.strip()
    if len(text) <= longest:
        return text
    kept = text[:longest].rsplit(None, 1)[0]
    return f"{kept} …"
