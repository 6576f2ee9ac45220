"""Comparing variants that answered the same items."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from kamerton.core.errors import EvaluationError
from kamerton.core.seeds import derive_seed
from kamerton.evaluation.checks import Checked, check_all
from kamerton.evaluation.metrics import perplexity
from kamerton.evaluation.results import Comparison, Cost, Difference, Measured
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.evaluation.statistics import (
    Floats,
    Interval,
    bootstrap,
    bootstrap_interval,
    holm,
    mcnemar,
    paired_interval,
    permutation_p,
    sum_groups,
    wilson,
)
from kamerton.evaluation.task import Answers, Item

__all__ = ["Comparison", "Cost", "Difference", "Measured", "compare"]


def compare(
    items: Sequence[Item],
    answers: Sequence[Answers],
    settings: EvaluationSettings,
    *,
    against: Sequence[str] = (),
) -> Comparison:
    """Compare variants on the same items.

    Shares get Wilson's interval, their differences McNemar's mid-p test and Bonett and Price's
    interval. F1 gets bootstrap intervals and a permutation test. Where items share a group,
    everything is resampled by group instead.

    Args:
        items: The questions.
        answers: One per variant, to these very items; all scored or all generated.
        settings: Checks, level, resamples.
        against: Baselines, most basic first. Every other variant is compared with each of them,
            and a baseline with those before it.

    Returns:
        Values, intervals, differences with corrected p-values, and costs.

    Raises:
        EvaluationError: If the variants answered different items, or a check counts no item.
    """
    against = tuple(dict.fromkeys(against))
    _verify(items, answers, against)
    names = tuple(answer.variant for answer in answers)
    groups = [item.group or f"\0{place}" for place, item in enumerate(items)]
    table = [check_all(settings.checks, items, answer) for answer in answers]
    measured: list[Measured] = []
    differences: list[Difference] = []
    pairs = [(v, b) for v in names for b in _opponents(v, against)]
    for column in zip(*table, strict=True):
        judged = _Judged(dict(zip(names, column, strict=True)), groups, settings)
        measured += [judged.measure(name) for name in names]
        differences += [judged.difference(variant, other) for variant, other in pairs]
    corrected = holm([difference.p_value for difference in differences])
    return Comparison(
        variants=names,
        against=against,
        metrics=tuple(checked.metric for checked in table[0]),
        better=tuple(checked.better for checked in table[0]),
        num_items=len(items),
        num_groups=len(set(groups)),
        level=settings.level,
        resamples=settings.resamples,
        measured=tuple(measured),
        differences=tuple(
            dataclasses.replace(difference, p_corrected=p)
            for difference, p in zip(differences, corrected, strict=True)
        ),
        costs=tuple(_cost(answer) for answer in answers),
    )


class _Judged:
    """One metric of all variants; resamples are drawn once."""

    def __init__(
        self, checked: dict[str, Checked], groups: Sequence[str], settings: EvaluationSettings
    ) -> None:
        first = next(iter(checked.values()))
        self._checked, self._settings = checked, settings
        self._finish, self._metric = first.finish, first.metric
        self._counted = ~np.isnan(first.values)
        self._groups = [g for g, wanted in zip(groups, self._counted, strict=True) if wanted]
        self._num_groups = len(set(self._groups))
        # The closed forms need independent zeros and ones.
        self._closed_form = first.is_share and self._num_groups == len(self._groups)
        self._seed = derive_seed(settings.seed, first.metric)
        self._features = {n: self._by_group(c.features) for n, c in checked.items()}
        self._values = {n: self._value(f) for n, f in self._features.items()}
        self._samples: dict[str, Floats] = {}
        if not self._closed_form:
            columns = bootstrap(
                list(self._features.values()), self._finish, settings.resamples, self._seed
            )
            self._samples = dict(zip(checked, columns.T, strict=True))

    def measure(self, name: str) -> Measured:
        """Value and interval of one variant."""
        value, n = self._values[name], len(self._groups)
        level = self._settings.level
        if self._closed_form:
            right = self._checked[name].values[self._counted]
            interval = wilson(int(right.sum()), n, level)
        elif value in (0.0, 1.0) and _constant(self._samples[name]):
            # No resample varies, which says nothing: bound it as a share of what could have.
            num = int(np.count_nonzero(self._features[name].any(axis=1)))
            interval = wilson(round(value) * num, num, level) if num else Interval(0.0, 1.0)
        else:
            interval = bootstrap_interval(self._samples[name], value, level)
        return Measured(self._metric, name, value, interval.low, interval.high, n)

    def difference(self, name: str, other: str) -> Difference:
        """Difference of two variants; its p-value is corrected later."""
        value = self._values[name] - self._values[other]
        level = self._settings.level
        if self._closed_form:
            a = self._checked[name].values[self._counted] == 1
            b = self._checked[other].values[self._counted] == 1
            result = mcnemar(a, b)
            p_value, test = result.p_value, "McNemar mid-p"
            interval = paired_interval(result.only_a, result.only_b, len(a), level)
        else:
            samples = self._samples[name] - self._samples[other]
            interval = bootstrap_interval(samples, value, level)
            if value == 0 and _constant(samples):
                interval = paired_interval(0, 0, self._num_groups, level)
            p_value = permutation_p(
                self._features[name],
                self._features[other],
                self._finish,
                self._settings.resamples,
                self._seed,
            )
            test = "permutation"
        return Difference(
            self._metric, name, other, value, interval.low, interval.high, p_value, p_value, test
        )

    def _by_group(self, features: Floats) -> Floats:
        return sum_groups(features[self._counted], self._groups)

    def _value(self, features: Floats) -> float:
        return float(self._finish(features.sum(axis=0)))


def _constant(samples: Floats) -> bool:
    # A resample without any item of a class says nothing.
    known = samples[~np.isnan(samples)]
    return bool((known == known[:1]).all())


def _verify(items: Sequence[Item], answers: Sequence[Answers], against: Sequence[str]) -> None:
    names = [answer.variant for answer in answers]
    if not items or not answers:
        raise EvaluationError(
            f"a comparison needs items and variants, found {len(items)} and {len(answers)}"
        )
    if len(set(names)) < len(names):
        raise EvaluationError(f"variants must have different names, found {', '.join(names)}")
    unknown = [name for name in against if name not in names]
    if unknown:
        raise EvaluationError(
            f"baselines must be among the variants, found '{unknown[0]}' among {', '.join(names)}"
        )
    expected = tuple(item.id for item in items)
    for answer in answers:
        if answer.item_ids != expected or len(answer.texts) != len(items):
            raise EvaluationError(
                f"all variants must answer the same {len(items)} items in the same order; "
                f"'{answer.variant}' answered others",
                hint="run every variant on one list of items: same holdout, same limit",
            )
        if (answer.kind == "scored") != bool(items[0].labels):
            raise EvaluationError(
                f"variants must all score labels or all generate; '{answer.variant}' differs"
            )


def _opponents(name: str, against: tuple[str, ...]) -> tuple[str, ...]:
    return against[: against.index(name)] if name in against else against


def _cost(answer: Answers) -> Cost:
    loss = answer.holdout_loss
    return Cost(
        variant=answer.variant,
        seconds_mean=float(np.mean(answer.seconds)),
        seconds_p95=float(np.quantile(answer.seconds, 0.95)),
        tokens_mean=float(np.mean(answer.num_tokens)),
        cut_off=float(np.mean([reason == "length" for reason in answer.finish_reasons])),
        holdout_loss=loss,
        perplexity=None if loss is None else perplexity(loss),
        holdout_tokens=answer.holdout_tokens,
        general_loss=answer.general_loss,
        reward_accuracy=answer.reward_accuracy,
    )
