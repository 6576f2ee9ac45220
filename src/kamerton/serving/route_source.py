"""Where a router's rules come from: a file that is read again while requests are answered."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from kamerton.core.errors import SettingsError
from kamerton.core.requests import ServedModel
from kamerton.experiments.settings import ExperimentSettings
from kamerton.serving.routes import Rules, check_rules, read_rules
from kamerton.serving.routing import Router

__all__ = ["Phase", "RouteSource"]


@dataclass(frozen=True, slots=True)
class Phase:
    """How an experiment assigned units when it was last read.

    Attributes:
        assignment: Hash of its arms, weights, control and unit.
        share: Share of units that took part.
    """

    assignment: str
    share: float


class RouteSource:
    """Reads rules anew; wrong ones change nothing.

    Args:
        place: The file of routes.
        router: Decides by its rules.
        served: Gives what is served now, by name.
        phases: What experiments were before the server was started, by name and phase.
        keys: Names of the server's API keys; None where they are not known.
    """

    def __init__(
        self,
        place: Path,
        router: Router,
        served: Callable[[], Mapping[str, ServedModel]],
        phases: Mapping[tuple[str, str], Phase] | None = None,
        keys: Collection[str] | None = None,
    ) -> None:
        self.router = router
        self._place, self._served = place, served
        self._phases, self._keys = dict(phases or {}), keys

    def check(self) -> Rules:
        """Read the file and see whether its rules could decide.

        Returns:
            The rules.

        Raises:
            SettingsError: If anything in it is wrong; it lists every problem.
        """
        rules = read_rules(self._place)
        check_rules(rules, self._served(), self._keys)
        self._check_phases(rules)
        return rules

    def reload(self, by_whom: str) -> Rules:
        """Decide by what the file says now; the audit has who wanted that, and whether it was.

        Args:
            by_whom: Who wants it.

        Returns:
            The rules that decide from now on.

        Raises:
            SettingsError: If anything in it is wrong; the rules before go on.
        """
        try:
            rules = self.check()
        except SettingsError as error:
            self.router.refuse(error.problems, by_whom)
            raise
        self.router.load(rules, by_whom)
        for name, one in rules.experiments.items():
            self._phases[name, one.phase] = Phase(one.assignment, one.share)
        return rules

    def _before(self, experiment: ExperimentSettings) -> Phase | None:
        """Say how units of an experiment are assigned already; None where it assigns nobody."""
        registered = self.router.registered
        if registered is None:
            return self._phases.get((experiment.name, experiment.phase))
        found = registered.get(experiment.name)
        if found is None or not found.is_running:
            return None
        return Phase(found.settings.assignment, found.settings.share)

    def _check_phases(self, rules: Rules) -> None:
        problems = []
        for name, one in rules.experiments.items():
            before = self._before(one)
            if before is not None and before.assignment != one.assignment:
                problems.append(
                    f"experiment {name}: arms, weights, control and unit must stay as they were "
                    "when it began"
                )
            elif before is not None and one.share < before.share:
                problems.append(
                    f"experiment {name}: share may only grow, found {one.share:g} after "
                    f"{before.share:g}"
                )
        if problems:
            raise SettingsError(
                problems,
                hint="units would change arms in the middle; an experiment of another name gives "
                "all units arms anew",
            )
