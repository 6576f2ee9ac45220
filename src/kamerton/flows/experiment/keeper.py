"""Looks after experiments while the server answers: who runs, and which arm does harm."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

from kamerton.core.errors import KamertonError
from kamerton.core.events import Notice, Sink
from kamerton.core.routing import Exposure, RoutingEvent
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.experiments.reading import ExperimentReading
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.flows.experiment.adaptive import read_adaptive
from kamerton.flows.experiment.reading import list_registered, read_registered
from kamerton.serving.routing import Router
from kamerton.store.database import Store
from kamerton.store.experiments import ExperimentEvent, add_experiment_event
from kamerton.store.traffic import exposures_of

__all__ = ["ExperimentKeeper", "Harm"]

_REST = 10.0
"""Looking takes at most one part in so many of the time, unless many rows come meanwhile."""
_MANY_ROWS = 200
"""So many new rows are looked at early: harm must not wait where traffic is dense."""
_GLANCE_S = 0.1
"""How often rows are counted."""


@dataclass(frozen=True, slots=True)
class Harm:
    """A guardrail that an arm has broken.

    Attributes:
        experiment: The experiment.
        arm: The arm.
        metric: The guardrail's metric.
        harm: How much worse than the control it is, in the metric's unit; None where the arms
            are not comparable, so that no effect is told.
        margin: How much worse it may be.
    """

    experiment: str
    arm: str
    metric: str
    harm: float | None
    margin: float

    @property
    def why(self) -> str:
        """The reason to stop the arm."""
        if self.harm is None:
            return f"{self.metric} is more than the allowed {self.margin:.3g} worse"
        return f"{self.metric} is {self.harm:.3g} worse, and {self.margin:.3g} is allowed"


@dataclass(eq=False)
class ExperimentKeeper:
    """Tells the router which experiments run, and stops arms that do harm.

    What is done to experiments is written to the store too, at the next look.

    Attributes:
        store: Where requests are recorded.
        router: Assigns units.
        metrics: Known metrics.
        tell: Receives what was done.
        every_s: Seconds from one look to the next, at least.
        read: Reads an experiment, of which some arms are stopped; from the store, in a thread of
            this process, where it is not given.
        num_rows: Counts the rows that were written since the server started.
        shares_every_s: Seconds from one change of adaptive shares to the next, at least.
    """

    store: Store
    router: Router
    metrics: Mapping[str, LiveMetric]
    tell: Sink = lambda event: None
    every_s: float = 2.0
    read: Callable[[RegisteredExperiment, Collection[str]], ExperimentReading | None] | None = None
    num_rows: Callable[[], int] = lambda: 0
    shares_every_s: float = 60.0
    _shared: dict[str, float] = field(default_factory=dict, init=False)
    _problem: str = field(default="", init=False)
    _changes: deque[RoutingEvent] = field(default_factory=deque, init=False)
    _writing: Lock = field(default_factory=Lock, init=False)

    def __post_init__(self) -> None:
        self.router.follow(self._note)

    async def keep(self) -> None:
        """Look again and again, until the task is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began, num_rows = loop.time(), self.num_rows()
            try:
                await self.look()
                self._problem = ""
            except Exception as error:
                # A store that is away comes back; until then all stays as it is.
                message = error.message if isinstance(error, KamertonError) else str(error)
                if message != self._problem:
                    self.tell(Notice(f"experiments cannot be looked at: {message}", "warning"))
                self._problem = message
            await self._rest(loop.time() - began, num_rows)

    async def look(self) -> None:
        """Look once; what takes time is done in a thread.

        Raises:
            Exception: What went wrong with the first experiment that could not be looked at, after
                all others were.
        """
        registered = await asyncio.to_thread(self._registered)
        self.router.registered = registered
        running = [one for one in registered.values() if one.is_running]
        named = set(self.router.rules.experiments)
        problems = []
        for experiment in running:
            if experiment.settings.name not in named:
                continue
            try:
                await self._look_at(experiment)
            except Exception as error:
                # One that cannot be read must not keep the others from being guarded.
                problems.append(error)
        await self.write_changes()
        if problems:
            raise problems[0]

    async def _look_at(self, experiment: RegisteredExperiment) -> None:
        if experiment.settings.guardrails:
            for harm in await asyncio.to_thread(self._harms, experiment):
                self._stop(harm)
        if experiment.settings.shares == "adaptive":
            await self._share(experiment)

    async def write_changes(self) -> None:
        """Write to the store what was done to experiments since the last time."""
        if self._changes:
            await asyncio.to_thread(self._write)

    async def _share(self, experiment: RegisteredExperiment) -> None:
        name, moment = experiment.settings.name, time.monotonic()
        if moment - self._shared.get(name, float("-inf")) < self.shares_every_s:
            return
        shares, exposures = await asyncio.to_thread(self._next_shares, experiment)
        # The router decides in this thread, so units are told to it here.
        self.router.adaptive.remember(exposures)
        self.router.adaptive.shares[name] = shares
        self._shared[name] = moment

    def _next_shares(
        self, experiment: RegisteredExperiment
    ) -> tuple[dict[str, float], list[Exposure]]:
        stopped = self._stopped_arms(experiment)
        with self.store.begin() as connection:
            arms = read_adaptive(connection, experiment, self.metrics, stopped=stopped)
            exposures = exposures_of(connection, experiment.settings.name)
        return {arm.arm: arm.share for arm in arms}, exposures

    def _stopped_arms(self, experiment: RegisteredExperiment) -> set[str]:
        settings = experiment.settings
        return {
            one.arm
            for one in list(self.router.stopped)
            if (one.name, one.phase) == (settings.name, settings.phase)
        }

    def _note(self, event: RoutingEvent) -> None:
        if event.experiment:
            self._changes.append(event)

    def _write(self) -> None:
        # At the end of the server the last look may still write.
        with self._writing:
            noted = list(self._changes)
            with self.store.begin() as connection:
                for one in noted:
                    event = ExperimentEvent(
                        one.experiment, one.what, one.by_whom, one.detail, one.created
                    )
                    add_experiment_event(connection, event)
            # Those that came meanwhile stay for the next time, and all do where the store is away.
            for _ in noted:
                self._changes.popleft()

    async def _rest(self, took_s: float, num_rows: int) -> None:
        """Wait for the next look: less long where many rows have come since the last one began."""
        least_s, most_s, waited_s = took_s, max(self.every_s, took_s * _REST), 0.0
        while waited_s < most_s:
            if waited_s >= least_s and self.num_rows() - num_rows >= _MANY_ROWS:
                return
            glance_s = min(_GLANCE_S, most_s - waited_s)
            await asyncio.sleep(glance_s)
            waited_s += glance_s

    def _registered(self) -> dict[str, RegisteredExperiment]:
        with self.store.begin() as connection:
            return {one.settings.name: one for one in list_registered(connection)}

    def _harms(self, experiment: RegisteredExperiment) -> list[Harm]:
        stopped = self._stopped_arms(experiment)
        if self.read is not None:
            reading = self.read(experiment, stopped)
        else:
            with self.store.begin() as connection:
                reading = read_registered(connection, experiment, self.metrics, stopped=stopped)
        return [
            Harm(
                experiment.settings.name,
                arm.arm,
                one.guardrail.metric,
                one.harm,
                one.guardrail.margin,
            )
            for arm in (reading.arms if reading else ())
            for one in arm.guardrails
            if one.verdict == "harmed"
        ]

    def _stop(self, harm: Harm) -> None:
        before = len(self.router.stopped)
        # The file of routes may have another arm by now, or none.
        with suppress(KamertonError):
            self.router.stop_arm(
                harm.experiment, harm.arm, by_whom=f"guardrail {harm.metric}", why=harm.why
            )
        if len(self.router.stopped) > before:
            self.tell(
                Notice(
                    f"experiment {harm.experiment}: the arm '{harm.arm}' was stopped, as "
                    f"{harm.why}; its units get the control",
                    "warning",
                )
            )
