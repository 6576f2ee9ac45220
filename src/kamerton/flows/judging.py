"""What a judge says of a comparison's answers, and how far it agrees with people's votes."""

from collections.abc import Sequence
from dataclasses import replace

from kamerton.core.errors import EvaluationError
from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated, translated_count
from kamerton.evaluation.items import Answers, Item
from kamerton.evaluation.judge import Ask, Pair, agreement_with, judge_pairs
from kamerton.evaluation.preferred import Preference, measure_preference
from kamerton.evaluation.results import Comparison
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.evaluation.votes import Votes

__all__ = ["best_baseline", "judge_answers", "with_agreement"]


def judge_answers(
    comparison: Comparison,
    items: Sequence[Item],
    answers: Sequence[Answers],
    names: Sequence[str],
    judge: str,
    ask: Ask,
    settings: EvaluationSettings,
    sink: Sink,
) -> list[Preference]:
    """Let a judge compare each variant's answers with those of the best baseline.

    Args:
        comparison: Says which baseline is the best.
        items: The questions.
        answers: One per variant and baseline.
        names: The variants that are judged.
        judge: The judge's name.
        ask: Asks it.
        settings: Coverage of intervals.
        sink: Receives notices.

    Returns:
        A preference per variant that has a baseline; none where labels were chosen, and none
        after the judge failed.
    """
    if items[0].labels:
        told = translated("the judge is not asked: it compares written answers, not labels")
        sink(Notice(told, "warning"))
        return []
    texts = {answer.variant: answer.texts for answer in answers}
    jobs = [(name, best) for name in names if (best := best_baseline(comparison, name))]
    num = translated_count(len(items) * len(jobs), "pair of answers", "pairs of answers")
    sink(Notice(translated("{judge} judges {num}, each in both orders", judge=judge, num=num)))
    found: list[Preference] = []
    for name, best in jobs:
        pairs = [
            Pair(item.chat, own, other)
            for item, own, other in zip(items, texts[name], texts[best], strict=True)
        ]
        try:
            judged = judge_pairs(pairs, ask)
        except EvaluationError as error:
            # An hour of answers is worth showing without the judge.
            sink(Notice(error.message, "warning"))
            return found
        read = [n for n, value in enumerate(judged.values) if value is not None]
        if not read:
            told = translated("{judge} gave no verdict that could be read", judge=judge)
            sink(Notice(told, "warning"))
            continue
        preference = measure_preference(
            translated("judge {judge}", judge=judge),
            name,
            best,
            [value for value in judged.values if value is not None],
            [items[n].group or f"\0{n}" for n in read],
            settings,
        )
        found.append(
            replace(
                preference,
                num_asked=judged.num_asked,
                num_inconsistent=judged.num_inconsistent,
                num_unread=len(pairs) - len(read),
            )
        )
    return found


def with_agreement(
    preference: Preference, voted: Votes, judge: str, ask: Ask, sink: Sink
) -> Preference:
    """Ask a judge about the answers that people voted on.

    Args:
        preference: What the votes say.
        voted: The votes.
        judge: The judge's name.
        ask: Asks it.
        sink: Receives notices.

    Returns:
        The same with how far the judge agrees.
    """
    pairs = [Pair(vote.prompt, *voted.sides(vote)) for vote in voted.votes]
    try:
        judged = judge_pairs(pairs, ask)
    except EvaluationError as error:
        sink(Notice(error.message, "warning"))
        return preference
    found = agreement_with(judge, judged.values, voted.values)
    return replace(preference, agreement=found)


def best_baseline(comparison: Comparison, name: str) -> str | None:
    """Find the baseline that is best by the first metric.

    Args:
        comparison: The comparison.
        name: The variant that is compared with it.

    Returns:
        Its name, of equals the last; None where there is no other.
    """
    others = [other for other in comparison.against if other != name]
    sign = -1 if comparison.better[0] == "lower" else 1
    values = [sign * comparison.measure(comparison.metrics[0], other).value for other in others]
    ranked = sorted(zip(values, range(len(others)), strict=True))
    return others[ranked[-1][1]] if others else None
