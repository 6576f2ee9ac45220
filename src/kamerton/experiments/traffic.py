"""Made-up traffic for simulations: users who come, come back, and are alike with themselves.

Units arrive at random, are assigned to an arm at once, and send their requests over some days. How
good the answers to a unit are on average is drawn once per unit from a Beta distribution whose
spread gives the wanted intra-class correlation; each request is then right or wrong at that rate.
"""

from dataclasses import dataclass

import numpy as np

from kamerton.experiments.design import Rows

__all__ = ["CONTROL", "METRIC", "TREATED", "Traffic", "draw_rows"]

CONTROL, TREATED, METRIC = "control", "treated", "right"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Traffic of an experiment with two arms.

    Attributes:
        units_per_day: New units a day, on average.
        days: How long it goes on.
        rate: Share of right answers of the control.
        difference: How much higher it is in the other arm; 0 for an A/A run.
        requests_per_unit: Requests of each unit.
        icc: Intra-class correlation of a unit's outcomes, from 0 to below 1.
        stay_days: Over how many days a unit's requests are spread.
        share: The other arm's share of the units.
        arrival_days: Until when new units come; None for all the time. A company's regular users
            all come in the first days, and then come back.
    """

    units_per_day: float = 50.0
    days: int = 40
    rate: float = 0.8
    difference: float = 0.0
    requests_per_unit: int = 1
    icc: float = 0.2
    stay_days: float = 3.0
    share: float = 0.5
    arrival_days: float | None = None


def draw_rows(traffic: Traffic, rng: np.random.Generator) -> Rows:
    """Draw one experiment.

    Args:
        traffic: What to draw.
        rng: Where chance comes from.

    Returns:
        Its requests in the order of time, with one metric, `METRIC`.
    """
    until = traffic.days if traffic.arrival_days is None else traffic.arrival_days
    num = int(rng.poisson(traffic.units_per_day * until))
    arrival = rng.random(num) * until
    treated = rng.random(num) < traffic.share
    rate = traffic.rate + traffic.difference * treated
    level = rate
    if traffic.icc > 0:
        alike = 1 / traffic.icc - 1
        level = rng.beta(rate * alike, (1 - rate) * alike)
    later = rng.random((num, traffic.requests_per_unit)) * traffic.stay_days
    later[:, 0] = 0.0
    times = (arrival[:, None] + later).ravel()
    order = np.argsort(times)
    order = order[times[order] < traffic.days]
    units = order // traffic.requests_per_unit
    right = rng.random(len(order)) < level[units]
    return Rows(
        units,
        np.where(treated[units], TREATED, CONTROL),
        np.floor(times[order]).astype(np.int64),
        {METRIC: right.astype(np.float64)},
    )
