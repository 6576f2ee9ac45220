"""Which arm a unit gets: a keyed hash decides, so no draw is stored and none is ever repeated.

The same salt and unit give the same arm on every machine and after every restart. Two experiments
have different salts, so the arms of one say nothing about the arms of the other.
"""

import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Assignment", "assign", "position", "takes_part"]

_BITS = 53
"""Bits of a hash that become a number: as many as a float holds exactly."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a unit got.

    Attributes:
        arm: Name of the arm.
        propensity: Probability with which a unit gets this arm, in (0, 1].
    """

    arm: str
    propensity: float


def position(salt: str, unit: str, purpose: str = "") -> float:
    """Place a unit on a line, evenly over units.

    Args:
        salt: Key of the hash; another one gives places that are independent of these.
        unit: Stable id of the unit.
        purpose: What the place is for. Places for different purposes are independent. It has no
            zero character.

    Returns:
        A number in (0, 1): the middle of one of 2**53 equal parts.
    """
    digest = hmac.digest(salt.encode(), f"{purpose}\0{unit}".encode(), "sha256")
    return ((int.from_bytes(digest[:8]) >> (64 - _BITS)) + 0.5) / float(2**_BITS)


def takes_part(share: float, salt: str, unit: str) -> bool:
    """Tell whether a unit is among a share of all units; a larger share only adds units.

    Args:
        share: Share of units that take part, 0 to 1.
        salt: Key of the hash.
        unit: Stable id of the unit.

    Returns:
        Whether it is.
    """
    return position(salt, unit, "share") < share


def assign(weights: Mapping[str, float], salt: str, unit: str) -> Assignment:
    """Give a unit an arm, with probabilities in proportion to weights.

    Each arm draws a time from an exponential distribution whose rate is its weight, and the first
    arm wins (weighted rendezvous hashing: Thaler and Ravishankar 1998, the logarithm of
    Schindelhauer and Schomaker 2005). When weights change, units move only to arms whose weight
    has grown in proportion, and no more of them than must. Places on one line, cut into intervals,
    would move units between arms that were not touched.

    Args:
        weights: Weight of each arm, 0 or more, one of them above 0.
        salt: Key of the hash, one for each experiment.
        unit: Stable id of the unit.

    Returns:
        The arm, with its probability.
    """
    total = sum(weights.values())
    assert total > 0
    times = {
        arm: -math.log(position(salt, unit, f"arm {arm}")) / weight
        for arm, weight in weights.items()
        if weight > 0
    }
    first = min(times, key=times.__getitem__)
    return Assignment(first, weights[first] / total)
