"""Where a router's rules come from: a file that is read again while requests are answered."""

from collections.abc import Callable, Mapping
from pathlib import Path

from kamerton.core.errors import SettingsError
from kamerton.core.requests import ServedModel
from kamerton.serving.routes import Rules, check_rules, read_rules
from kamerton.serving.routing import Router

__all__ = ["RouteSource"]


class RouteSource:
    """Reads rules anew; wrong ones change nothing.

    Args:
        place: The file of routes.
        router: Decides by its rules.
        served: Gives what is served now, by name.
    """

    def __init__(
        self, place: Path, router: Router, served: Callable[[], Mapping[str, ServedModel]]
    ) -> None:
        self.router = router
        self._place, self._served = place, served

    def check(self) -> Rules:
        """Read the file and see whether its rules could decide.

        Returns:
            The rules.

        Raises:
            SettingsError: If anything in it is wrong; it lists every problem.
        """
        rules = read_rules(self._place)
        check_rules(rules, self._served())
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
        return rules
