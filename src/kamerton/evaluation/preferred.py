"""Which of two variants is preferred: the share of wins with its interval, ties counting half."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from kamerton.core.language import translated, translated_count
from kamerton.core.seeds import derive_seed
from kamerton.data.union_find import UnionFind
from kamerton.evaluation.jackknife import FEW_ROWS, FEWEST_ROWS, value_interval
from kamerton.evaluation.judge import Agreement
from kamerton.evaluation.metrics import mean, mean_features
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.evaluation.statistics import (
    Interval,
    bootstrap,
    bootstrap_interval,
    sum_groups,
    wilson,
)
from kamerton.evaluation.votes import Votes

__all__ = ["Preference", "measure_preference", "preference_of_votes", "preference_text"]

_POWER = 0.8
_WORTH_SAYING = 0.02
_MOST_SAID = 10_000
_MOST_TURNED = 0.5
"""A judge that changes its mind with the order more often than this says little about answers."""


@dataclass(frozen=True, slots=True)
class Preference:
    """How often one variant's answer was preferred to another's.

    Attributes:
        by: Who preferred: `votes`, or `judge` and its name.
        variant: The variant whose share it is.
        against: The other one.
        value: Wins and half of the ties, of all.
        low: Lower end of the interval; None where there is too little for one.
        high: Upper end, likewise.
        num_wins: Pairs in which the variant's answer was better.
        num_ties: Pairs in which neither was.
        num_losses: Pairs in which the other's was.
        num_groups: Independent groups, such as conversations.
        num_needed: About how many pairs would show a difference of this size in 80 of 100 cases;
            None where the interval shows one, or hardly any is seen.
        num_asked: Pairs that a judge was asked in both orders; None of votes.
        num_inconsistent: Of these, ties because the judge changed its mind with the order.
        num_unread: Pairs that are left out because the judge gave no verdict.
        agreement: How far a judge agrees with the votes; None where none was asked.
    """

    by: str
    variant: str
    against: str
    value: float
    low: float | None
    high: float | None
    num_wins: int
    num_ties: int
    num_losses: int
    num_groups: int
    num_needed: int | None = None
    num_asked: int | None = None
    num_inconsistent: int = 0
    num_unread: int = 0
    agreement: Agreement | None = None

    @property
    def num(self) -> int:
        """All pairs."""
        return self.num_wins + self.num_ties + self.num_losses

    @property
    def preferred(self) -> str:
        """The variant that is preferred; empty where that is not clear."""
        if self.low is not None and self.low > 0.5:
            return self.variant
        return self.against if self.high is not None and self.high < 0.5 else ""


def preference_of_votes(voted: Votes, settings: EvaluationSettings) -> Preference:
    """Measure votes; those of one conversation, or on one question, count as one group.

    Args:
        voted: The votes on two variants.
        settings: Coverage of the interval, resamples and seed.

    Returns:
        The preference.
    """
    joined: UnionFind[str] = UnionFind()
    for vote in voted.votes:
        if vote.conversation:
            joined.join(f"question {vote.question}", f"conversation {vote.conversation}")
    groups = [joined.name(f"question {vote.question}") for vote in voted.votes]
    return measure_preference("votes", voted.variant, voted.against, voted.values, groups, settings)


def measure_preference(
    by: str,
    variant: str,
    against: str,
    values: Sequence[float],
    groups: Sequence[str],
    settings: EvaluationSettings,
) -> Preference:
    """Measure how often one variant is preferred.

    A tie counts half, as in MT-Bench (arXiv 2306.05685) and AlpacaEval, and is reported apart.
    Without ties the interval of independent pairs is Wilson's; else groups are resampled, and
    below 30 groups the jackknife takes the bootstrap's place.

    Args:
        by: Who preferred.
        variant: The variant whose share it is.
        against: The other one.
        values: 1, 0 or 0.5 per pair; at least one.
        groups: What each pair belongs to.
        settings: Coverage of the interval, resamples and seed.

    Returns:
        The preference.
    """
    found = np.array(values, dtype=np.float64)
    wins, losses = int((found == 1).sum()), int((found == 0).sum())
    interval = _interval(found, groups, settings)
    value = float(found.mean())
    clear = interval is not None and not interval.low <= 0.5 <= interval.high
    return Preference(
        by=by,
        variant=variant,
        against=against,
        value=value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        num_wins=wins,
        num_ties=len(found) - wins - losses,
        num_losses=losses,
        num_groups=len(set(groups)),
        num_needed=None if clear else _needed(found, settings.confidence_level),
    )


def preference_text(preference: Preference) -> str:
    """Word a preference.

    Args:
        preference: What was measured.

    Returns:
        Two sentences: the numbers, and what follows from them.
    """
    share = f"{100 * preference.value:.1f} %"
    if preference.low is not None and preference.high is not None:
        share += f" [{100 * preference.low:.1f}, {100 * preference.high:.1f}]"
    said = translated(
        "{by}: {variant} was preferred to {against} in {share} of {num}: {wins} better, {ties} "
        "alike (each counts half), {losses} worse.",
        by=preference.by if preference.by != "votes" else translated("blind votes"),
        variant=preference.variant,
        against=preference.against,
        share=share,
        num=translated_count(preference.num, "pair of answers", "pairs of answers"),
        wins=preference.num_wins,
        ties=preference.num_ties,
        losses=preference.num_losses,
    )
    if preference.num_groups < preference.num:
        said += " " + translated(
            "They form {groups}, by conversation and question.",
            groups=translated_count(preference.num_groups, "independent group"),
        )
    return " ".join([said, *_about_judge(preference), _conclusion(preference)])


def _about_judge(preference: Preference) -> list[str]:
    said = []
    if preference.num_asked:
        said.append(
            translated(
                "In {share} % of the pairs that it was asked, another order of the two answers "
                "changed its verdict: these are ties.",
                share=f"{100 * preference.num_inconsistent / preference.num_asked:.0f}",
            )
        )
    if preference.num_unread:
        said.append(
            translated(
                "It gave no verdict on {num}, which are left out.",
                num=translated_count(preference.num_unread, "pair of answers", "pairs of answers"),
            )
        )
    if (found := preference.agreement) is not None:
        said.append(
            translated(
                "The judge {judge} agrees on {share} % of {num} (alpha {alpha}; 0 is chance).",
                judge=found.judge,
                share=f"{100 * found.share:.0f}",
                num=translated_count(found.num, "pair of answers", "pairs of answers"),
                alpha="-" if found.alpha is None else f"{found.alpha:.2f}",
            )
        )
    return said


def _conclusion(preference: Preference) -> str:
    if preference.low is None:
        return translated(
            "{least} independent votes are the fewest that say anything.", least=FEWEST_ROWS
        )
    if preference.num_asked and preference.num_inconsistent / preference.num_asked > _MOST_TURNED:
        return translated(
            "It judges by the order more than by the answers: decide by something else."
        )
    if preference.preferred:
        return translated("{name} is preferred.", name=preference.preferred)
    if preference.num_needed is None:
        return translated("Neither is clearly preferred.")
    return translated(
        "Neither is clearly preferred; about {num} would show a difference of this size.",
        num=translated_count(preference.num_needed, "pair of answers", "pairs of answers"),
    )


def _interval(
    values: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    groups: Sequence[str],
    settings: EvaluationSettings,
) -> Interval | None:
    num = len(set(groups))
    if num < FEWEST_ROWS:
        return None
    if num == len(values) and not (values == 0.5).any():
        return wilson(int(values.sum()), num, settings.confidence_level)
    items = mean_features(values)
    rows = sum_groups(items, groups)
    value = float(values.mean())
    if num >= FEW_ROWS:
        seed = derive_seed(settings.seed, "preference")
        samples = bootstrap([rows], mean, settings.resamples, seed)[:, 0]
        if np.ptp(samples) > 0:
            return bootstrap_interval(samples, value, settings.confidence_level)
    return value_interval(rows, items, mean, settings.confidence_level)


def _needed(
    values: "np.ndarray[tuple[int], np.dtype[np.float64]]", confidence_level: float
) -> int | None:
    """Plan a one-sample test of a mean against a half, by the normal approximation."""
    difference = abs(float(values.mean()) - 0.5)
    if difference < _WORTH_SAYING or len(values) < FEWEST_ROWS:
        return None
    both = float(ndtri((1 + confidence_level) / 2) + ndtri(_POWER))
    variance = max(float(values.var()), 0.01)
    needed = math.ceil(both**2 * variance / difference**2)
    return needed if len(values) < needed <= _MOST_SAID else None
