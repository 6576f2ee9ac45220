"""What a judge says of a comparison's answers, and how far it agrees with people's votes."""

from collections.abc import Sequence
from dataclasses import replace

from kamerton.core.errors import EvaluationError
from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated, translated_count
from kamerton.data.privacy.personal import find_personal
from kamerton.evaluation.items import Answers, Item
from kamerton.evaluation.judge import Ask, Pair, agreement_with, judge_pairs
from kamerton.evaluation.preferred import Preference, measure_preference, preference_of_votes
from kamerton.evaluation.results import Comparison
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.evaluation.votes import Votes
from kamerton.flows.judge_engine import JudgeOptions

__all__ = ["best_baseline", "judge_answers", "say_what_is_sent", "with_preferences"]


def with_preferences(
    comparison: Comparison,
    items: Sequence[Item],
    answers: Sequence[Answers],
    names: Sequence[str],
    voted: Sequence[Votes],
    judge: JudgeOptions | None,
    ask: Ask | None,
    settings: EvaluationSettings,
    sink: Sink,
) -> Comparison:
    """Add whose answers people, and a judge, preferred.

    Args:
        comparison: The comparison without.
        items: The questions.
        answers: One per variant and baseline.
        names: The variants that are judged.
        voted: Votes on each two of them.
        judge: Who judges; None where nobody does.
        ask: Asks the judge.
        settings: Coverage of intervals.
        sink: Receives notices.

    Returns:
        The comparison with preferences.
    """
    preferences = [preference_of_votes(one, settings) for one in voted]
    if judge and ask:
        if not items[0].labels:
            say_what_is_sent(judge.elsewhere, items, answers, sink)
        preferences = [
            _with_agreement(one, votes, judge.name, ask, sink)
            for one, votes in zip(preferences, voted, strict=True)
        ]
        preferences += judge_answers(
            comparison, items, answers, names, judge.name, ask, settings, sink
        )
    return replace(comparison, preferences=tuple(preferences))


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


def _with_agreement(
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


def say_what_is_sent(
    host: str, items: Sequence[Item], answers: Sequence[Answers], sink: Sink
) -> None:
    """Say what leaves this machine for a judge.

    Args:
        host: The judge's machine; nothing is said where it is this one, which is empty.
        items: The questions.
        answers: What is sent with them.
        sink: Receives the notice.
    """
    if not host:
        return
    personal = sum(
        any(map(find_personal, (*(str(turn.get("content") or "") for turn in item.chat), *written)))
        for item, *written in zip(items, *(one.texts for one in answers), strict=True)
    )
    told = translated(
        "{host} is sent {num}; personal data was found in {personal} of them",
        host=host,
        num=translated_count(
            len(items), "question with its answers", "questions with their answers"
        ),
        personal=personal,
    )
    sink(Notice(told, "warning" if personal else "info"))


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
