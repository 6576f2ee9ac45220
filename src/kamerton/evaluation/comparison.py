"""Comparing variants that answered the same items."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from kamerton.core.errors import EvaluationError
from kamerton.core.many_tests import holm
from kamerton.core.seeds import derive_seed
from kamerton.evaluation.checked import Checked
from kamerton.evaluation.checks import check_all, kind_of
from kamerton.evaluation.items import Answers, Item
from kamerton.evaluation.jackknife import (
    FEW_ROWS,
    FEWEST_ROWS,
    difference_interval,
    value_interval,
)
from kamerton.evaluation.metrics import perplexity
from kamerton.evaluation.results import Comparison, Cost, Difference, Measured
from kamerton.evaluation.settings import Check, EvaluationSettings
from kamerton.evaluation.statistics import (
    Floats,
    Interval,
    bootstrap,
    bootstrap_interval,
    mcnemar,
    paired_interval,
    permutation_p,
    sum_groups,
    wilson,
)
from kamerton.evaluation.style import FittedStyle

__all__ = ["Comparison", "Cost", "Difference", "Measured", "compare"]


def compare(
    items: Sequence[Item],
    answers: Sequence[Answers],
    settings: EvaluationSettings,
    *,
    against: Sequence[str] = (),
    only_for: Mapping[str, Collection[str]] | None = None,
    measured_on: str = "",
    checks: Sequence[Check | FittedStyle] | None = None,
) -> Comparison:
    """Compare variants on the same items.

    Shares get Wilson's interval, their differences McNemar's mid-p test and Bonett and Price's
    interval. F1, losses, chrF and lengths get bootstrap intervals and a permutation test. Where
    items share a group,
    everything is resampled by group instead. Below 30 groups (of F1: items) the jackknife and
    Student's t take the bootstrap's place; below 5 there are no intervals and no differences.

    Args:
        items: The questions.
        answers: One per variant, to these very items; all scored or all generated.
        settings: Checks, confidence_level, resamples.
        against: Baselines, most basic first. Every other variant is compared with each of them,
            and a baseline with those before it.
        only_for: A baseline to those that are compared with it, where that is not everybody: each
            further test would make the correction stricter for all.
        measured_on: Origin of the items, such as `the test set`.
        checks: The checks of the settings, those of style fitted; None where none is of style.

    Returns:
        Values, intervals, differences with corrected p-values, and costs.

    Raises:
        EvaluationError: If the variants answered different items, or a check counts no item.
    """
    against = tuple(dict.fromkeys(against))
    _verify(items, answers, against)
    names = tuple(answer.variant for answer in answers)
    groups = [item.group or f"\0{position}" for position, item in enumerate(items)]
    if not all(answer.losses for answer in answers):
        # A metric of some variants alone compares nothing.
        answers = [dataclasses.replace(answer, losses=()) for answer in answers]
    checks = settings.checks if checks is None else checks
    table = [check_all(checks, items, answer) for answer in answers]
    measured: list[Measured] = []
    differences: list[Difference] = []
    pairs = [(v, b) for v in names for b in _opponents(v, against, only_for or {})]
    for column in zip(*table, strict=True):
        compared = _ComparedMetric(dict(zip(names, column, strict=True)), groups, settings)
        measured += [compared.measure(name) for name in names]
        if compared.is_certain:
            differences += [compared.difference(variant, other) for variant, other in pairs]
    corrected = holm([difference.p_value for difference in differences])
    return Comparison(
        variants=names,
        against=against,
        metrics=tuple(checked.metric for checked in table[0]),
        better=tuple(checked.better for checked in table[0]),
        units=tuple(checked.unit for checked in table[0]),
        kind=kind_of(items, settings.checks),
        num_items=len(items),
        num_groups=len(set(groups)),
        confidence_level=settings.confidence_level,
        resamples=settings.resamples,
        measured=tuple(measured),
        differences=tuple(
            dataclasses.replace(difference, p_corrected=p)
            for difference, p in zip(differences, corrected, strict=True)
        ),
        costs=tuple(_cost(answer) for answer in answers),
        measured_on=measured_on,
        styles=tuple(one.reliability for one in checks if isinstance(one, FittedStyle)),
    )


class _ComparedMetric:
    """One metric of all variants; resamples are drawn once."""

    def __init__(
        self, checked: dict[str, Checked], groups: Sequence[str], settings: EvaluationSettings
    ) -> None:
        first = next(iter(checked.values()))
        self._checked, self._settings = checked, settings
        self._finish, self._metric = first.finish, first.metric
        self._ends_at_one = first.unit in ("share", "score")
        self._counted = ~np.isnan(first.values)
        self._groups = [g for g, wanted in zip(groups, self._counted, strict=True) if wanted]
        self._num_groups = len(set(self._groups))
        # The closed forms need independent zeros and ones.
        self._closed_form = first.is_share and self._num_groups == len(self._groups)
        self._seed = derive_seed(settings.seed, first.metric)
        self._items = {n: c.features[self._counted] for n, c in checked.items()}
        self._rows = {n: sum_groups(f, self._groups) for n, f in self._items.items()}
        self._values = {n: float(self._finish(f.sum(axis=0))) for n, f in self._rows.items()}
        self._samples: dict[str, Floats] = {}
        if not self._closed_form and self._num_groups >= FEW_ROWS:
            columns = bootstrap(
                list(self._rows.values()), self._finish, settings.resamples, self._seed
            )
            self._samples = dict(zip(checked, columns.T, strict=True))

    @property
    def is_certain(self) -> bool:
        """Whether there is enough to say how certain a value is."""
        return self._closed_form or self._num_groups >= FEWEST_ROWS

    def measure(self, name: str) -> Measured:
        """Value and interval of one variant."""
        value, n = self._values[name], len(self._groups)
        confidence_level = self._settings.confidence_level
        if not self.is_certain:
            return Measured(self._metric, name, value, None, None, n)
        if self._closed_form:
            right = self._checked[name].values[self._counted]
            interval = wilson(int(right.sum()), n, confidence_level)
        elif self._samples and not _constant(self._samples[name]):
            interval = bootstrap_interval(self._samples[name], value, confidence_level)
        else:
            interval = value_interval(
                self._rows[name], self._items[name], self._finish, confidence_level,
                ends_at_one=self._ends_at_one,
            )  # fmt: skip
        return Measured(self._metric, name, value, interval.low, interval.high, n)

    def difference(self, name: str, other: str) -> Difference:
        """Difference of two variants; its p-value is corrected later."""
        value = self._values[name] - self._values[other]
        confidence_level = self._settings.confidence_level
        if self._closed_form:
            a = self._checked[name].values[self._counted] == 1
            b = self._checked[other].values[self._counted] == 1
            result = mcnemar(a, b)
            p_value, test = result.p_value, "McNemar mid-p"
            interval = paired_interval(result.only_a, result.only_b, len(a), confidence_level)
        else:
            interval = self._resampled(name, other, value)
            p_value = permutation_p(
                self._rows[name],
                self._rows[other],
                self._finish,
                self._settings.resamples,
                self._seed,
            )
            test = "permutation"
        return Difference(
            self._metric, name, other, value, interval.low, interval.high, p_value, p_value, test
        )

    def _resampled(self, name: str, other: str, value: float) -> Interval:
        """Bound a difference: by the bootstrap, or of few rows by leaving out each in turn."""
        if self._samples:
            samples = self._samples[name] - self._samples[other]
            if not _constant(samples):
                return bootstrap_interval(samples, value, self._settings.confidence_level)
        return difference_interval(
            (self._rows[name], self._rows[other]),
            (self._items[name], self._items[other]),
            self._finish,
            self._settings.confidence_level,
            ends_at_one=self._ends_at_one,
        )


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


def _opponents(
    name: str, against: tuple[str, ...], only_for: Mapping[str, Collection[str]]
) -> tuple[str, ...]:
    before = against[: against.index(name)] if name in against else against
    return tuple(other for other in before if name in only_for.get(other, (name,)))


def _cost(answer: Answers) -> Cost:
    loss = answer.holdout_loss
    return Cost(
        variant=answer.variant,
        seconds_mean=float(np.mean(answer.seconds)),
        seconds_median=float(np.median(answer.seconds)),
        seconds_p95=float(np.quantile(answer.seconds, 0.95)),
        tokens_mean=float(np.mean(answer.num_tokens)),
        cut_off=float(np.mean([reason == "length" for reason in answer.finish_reasons])),
        holdout_loss=loss,
        perplexity=None if loss is None else perplexity(loss),
        holdout_tokens=answer.holdout_tokens,
        general_loss=answer.general_loss,
        reward_accuracy=answer.reward_accuracy,
    )
