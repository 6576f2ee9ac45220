"""Routes of `kamerton serve`: the file, what was stopped, and a log of every change."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kamerton.core.errors import SettingsError
from kamerton.core.events import Notice, Sink
from kamerton.core.requests import ServedModel
from kamerton.core.routing import RoutingEvent
from kamerton.core.settings import suggestion
from kamerton.flows.experiment.reading import list_registered
from kamerton.flows.recording import store_address
from kamerton.flows.workspace import Workspace
from kamerton.serving.callers import caller_of
from kamerton.serving.decisions import Explanation, Stop
from kamerton.serving.route_source import Phase, RouteSource
from kamerton.serving.routes import Rules, read_rules
from kamerton.serving.routing import Router
from kamerton.store.database import open_store

__all__ = ["RoutingLog", "explain_route", "new_router", "reload_on_signal", "route_source"]


class RoutingLog:
    """A file to which every change of routing is appended: who, when and what.

    Args:
        place: The file, a JSON object in each line; it is made with the first change.
    """

    def __init__(self, place: Path) -> None:
        self._place = place

    def write(self, event: RoutingEvent) -> None:
        """Append a change; it is on disk when this returns, so that a stop outlives a crash.

        Args:
            event: The change.
        """
        plain = {**asdict(event), "created": f"{event.created.isoformat()}Z"}
        line = json.dumps(plain, ensure_ascii=False)
        with self._place.open("ab+") as file:
            # A crash may have left a part of a line.
            if file.tell() and not _ends_whole(self._place):
                line = f"\n{line}"
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def stopped(self) -> set[Stop]:
        """Say what was stopped and not resumed.

        Returns:
            Arms and canaries.

        Raises:
            SettingsError: If the file cannot be read.
        """
        found: set[Stop] = set()
        for event in self._events():
            kind, _, what = str(event.get("what", "")).partition(" ")
            if kind not in ("arm", "canary") or what not in ("stopped", "resumed"):
                continue
            said = event["detail"]
            stop = Stop(said["name"], said["phase"], said["arm"], is_canary=kind == "canary")
            (found.add if what == "stopped" else found.discard)(stop)
        return found

    def phases(self) -> dict[tuple[str, str], Phase]:
        """Say how experiments assigned units, so that no restart hides a change of their arms.

        Returns:
            The latest of each experiment and phase.

        Raises:
            SettingsError: If the file cannot be read.
        """
        found: dict[tuple[str, str], Phase] = {}
        for event in self._events():
            if event.get("what") == "rules loaded":
                for name, one in event["detail"].get("experiments", {}).items():
                    found[name, one["phase"]] = Phase(one["assignment"], one["share"])
        return found

    def _events(self) -> list[dict[str, Any]]:
        try:
            lines = self._place.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SettingsError(
                f"{self._place}: cannot be read: {error.strerror or error}"
            ) from None
        events = []
        for line in lines:
            with suppress(ValueError):
                events.append(json.loads(line))
        return [event for event in events if isinstance(event, dict)]


def _ends_whole(place: Path) -> bool:
    with place.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def route_source(
    place: Path,
    router: Router,
    project: Path,
    served: Callable[[], Mapping[str, ServedModel]],
    keys: Collection[str] | None = None,
) -> RouteSource:
    """Join a router to its file, which is not read yet.

    Args:
        place: The file of routes.
        router: As `new_router` made it.
        project: Folder of the project.
        served: Gives what is served now, by name.
        keys: Names of the server's API keys; None where they are not known.

    Returns:
        The source; `reload` reads the file.

    Raises:
        SettingsError: If what experiments were before cannot be read.
    """
    phases = RoutingLog(Workspace(project).routing_log).phases()
    return RouteSource(place, router, served, phases, keys)


def new_router(project: Path) -> Router:
    """Make a router that has no rules yet, and remembers what was stopped.

    Args:
        project: Folder of the project; `routing.jsonl` in it has every change.

    Returns:
        The router.

    Raises:
        SettingsError: If the changes cannot be read.
    """
    log = RoutingLog(Workspace(project).routing_log)
    return Router(Rules(), stopped=log.stopped(), audit=log.write)


def explain_route(
    place: Path,
    project: Path,
    name: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    key: str = "",
    now: datetime | None = None,
    store: str = "",
) -> Explanation:
    """Decide as a server would, and say why.

    Where the store is there, experiments run as they were registered in it, else all do.

    Args:
        place: The file of routes.
        project: Folder of the project; what was stopped there is stopped here.
        name: What a client asks for.
        headers: Of its request.
        key: Name of its API key.
        now: The moment, with its zone; None for now.
        store: URL of a database, or a SQLite file; empty for the project's store.

    Returns:
        The decision with its reasons.

    Raises:
        SettingsError: If a file is wrong, or no route has this name.
    """
    rules = read_rules(place)
    log = RoutingLog(Workspace(project).routing_log)
    moment = now or datetime.now(UTC)
    router = Router(rules, stopped=log.stopped(), clock=lambda: moment)
    address = store_address(store, project)
    if rules.experiments and (isinstance(address, str) or address.exists()):
        with open_store(address) as opened, opened.begin() as connection:
            router.registered = {one.settings.name: one for one in list_registered(connection)}
    caller = caller_of((one.lower().encode(), value.encode()) for one, value in headers)
    found = router.explain(name, replace(caller, key=key))
    if found is None:
        raise SettingsError(
            f"{place} has no route '{name}'{suggestion(name, rules.routes)}",
            hint="a name of a variant is asked for as it is: no rule touches it",
        )
    return found


def reload_on_signal(source: RouteSource, tell: Sink) -> None:
    """Read routes again at SIGHUP; call it in the server's event loop.

    Args:
        source: The router, with its file.
        tell: Receives what came of it.
    """

    def reload() -> None:
        try:
            rules = source.reload("SIGHUP")
        except SettingsError as error:
            kept = source.router.rules.version
            tell(Notice(f"routes are as before, version {kept}: {error.message}", "warning"))
        else:
            tell(Notice(f"routes are read again, version {rules.version}"))

    # Windows has no such signal; the admin API reads routes again there.
    with suppress(NotImplementedError, AttributeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
