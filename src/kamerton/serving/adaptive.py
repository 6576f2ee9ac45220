"""Arms of experiments whose shares follow the outcomes: the shares now, and what units got."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kamerton.core.routing import Exposure
from kamerton.experiments.assignment import Assignment, assign
from kamerton.experiments.settings import ExperimentSettings

__all__ = ["AdaptiveArms"]


def _as_sent(unit: str) -> str:
    return unit


@dataclass(eq=False)
class AdaptiveArms:
    """Gives a new unit an arm by the shares of the moment, and a known unit its first arm.

    Attributes:
        shares: Share of each arm by name of the experiment; the weights hold where none are known.
        hide: Gives the id of a unit that exposures are stored under.
        most_remembered: Units that are remembered, of all experiments together. One that was
            forgotten is drawn again: the same hash decides, so it moves only where the share of
            another arm has grown.
    """

    shares: dict[str, Mapping[str, float]] = field(default_factory=dict)
    hide: Callable[[str], str] = _as_sent
    most_remembered: int = 100_000
    _kept: dict[tuple[str, str], Assignment] = field(default_factory=dict, repr=False)

    def arm_of(self, experiment: ExperimentSettings, unit: str) -> Assignment:
        """Give a unit its arm, and remember it.

        Args:
            experiment: The experiment.
            unit: As the client sent it.

        Returns:
            The arm with the share that it had when the unit got it.
        """
        if experiment.shares == "fixed":
            return assign(experiment.weights, experiment.key, unit)
        key = experiment.name, self.hide(unit)
        found = self._kept.get(key)
        if found is None:
            shares = self.shares.get(experiment.name, experiment.weights)
            found = assign(shares, experiment.key, unit)
            self._keep(key, found)
        return found

    def remember(self, exposures: Sequence[Exposure]) -> None:
        """Remember what units got before; what this process has drawn stays.

        Args:
            exposures: From the store, the oldest first.
        """
        # More than fit would push out units that were drawn just now and are not stored yet.
        for one in exposures[-self.most_remembered :]:
            key = one.experiment, one.unit
            if key not in self._kept:
                self._keep(key, Assignment(one.arm, one.propensity))

    def _keep(self, key: tuple[str, str], found: Assignment) -> None:
        self._kept[key] = found
        if len(self._kept) > self.most_remembered:
            del self._kept[next(iter(self._kept))]
