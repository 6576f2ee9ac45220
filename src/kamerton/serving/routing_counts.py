"""How many requests each rule, arm and shadow has had: a mirror that fails silently is seen."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Literal, NamedTuple

from kamerton.core.routing import Decision

__all__ = ["SILENT_AFTER", "Choice", "Outcome", "RoutingCounts", "ShadowOutcome"]

Outcome = Literal["answered", "dropped", "failed"]
"""Of a shadow's request: it has an answer; the server was busy; the engine had an error."""

SILENT_AFTER = 100
"""Requests of a route without one answer of its shadow, after which the shadow is silent."""


class Choice(NamedTuple):
    """What requests are counted by; empty where there is none."""

    route: str
    rule: str
    reason: str
    experiment: str
    arm: str
    variant: str


class ShadowOutcome(NamedTuple):
    """What shadows' requests are counted by."""

    route: str
    variant: str
    outcome: Outcome


class RoutingCounts:
    """Counts since the server was started. All names come from rules, none from clients.

    Args:
        tell_silent: Called with a route and its shadow when the shadow becomes silent.
    """

    def __init__(self, tell_silent: Callable[[str, str], None]) -> None:
        self.choices: Counter[Choice] = Counter()
        self.shadows: Counter[ShadowOutcome] = Counter()
        self._unanswered: Counter[tuple[str, str]] = Counter()
        self._tell_silent = tell_silent

    def add(self, decision: Decision, shadows: Collection[str]) -> None:
        """Count a request that is over.

        Args:
            decision: Which variant answered it.
            shadows: Those of its route, whether they got a copy or not.
        """
        if not decision.route:
            return
        found = {name: getattr(decision, name) for name in Choice._fields}
        self.choices[Choice(**found)] += 1
        for shadow in shadows:
            key = decision.route, shadow
            self._unanswered[key] += 1
            if self._unanswered[key] == SILENT_AFTER:
                self._tell_silent(*key)

    def add_shadow(self, route: str, variant: str, outcome: Outcome) -> None:
        """Count a shadow's request.

        Args:
            route: The route.
            variant: The shadow.
            outcome: What came of it.
        """
        self.shadows[ShadowOutcome(route, variant, outcome)] += 1
        if outcome == "answered":
            self._unanswered[route, variant] = 0

    def keep_only(self, shadows: Collection[tuple[str, str]]) -> None:
        """Forget shadows that no route has any more.

        Args:
            shadows: Routes with their shadows.
        """
        for key in [key for key in self._unanswered if key not in shadows]:
            del self._unanswered[key]

    @property
    def silent(self) -> Iterator[tuple[str, str, bool]]:
        """Say of each shadow whether its route goes on without one answer of it.

        Yields:
            Route, shadow, whether it is silent.
        """
        for (route, shadow), number in self._unanswered.items():
            yield route, shadow, number >= SILENT_AFTER
