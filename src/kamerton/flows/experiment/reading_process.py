"""Reads experiments in a process of its own: the server answers meanwhile as if nobody read.

A reading of 100,000 requests takes a second of one core. In a thread of the server it holds the
interpreter's lock for up to 0.2 s at a time, which every stream would notice.
"""

import multiprocessing
import os
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock

from kamerton.core.errors import StoreError
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.experiments.reading import ExperimentReading
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.flows.experiment.reading import read_registered
from kamerton.store.database import open_store

__all__ = ["ReadingProcess"]

_NICENESS = 10
"""Answers go first where there are few cores."""


class ReadingProcess:
    """A process that reads experiments; it starts with the first one.

    Args:
        address: Of the store, for `open_store`.
        metrics: Known metrics.
    """

    def __init__(self, address: Path | str, metrics: Mapping[str, LiveMetric]) -> None:
        self._address, self._metrics = address, dict(metrics)
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._lock, self._is_stopped = Lock(), False

    @property
    def pid(self) -> int | None:
        """Id of the process; None while there is none."""
        return self._process.pid if self._process is not None else None

    def read(
        self, experiment: RegisteredExperiment, stopped: Collection[str] = ()
    ) -> ExperimentReading | None:
        """Read an experiment as it stands now; the calling thread waits.

        Args:
            experiment: As it was registered.
            stopped: Arms that get no units any more.

        Returns:
            The reading; None while no request has come.

        Raises:
            StoreError: If the store cannot be read, or the process ends; the next call starts
                another one.
        """
        try:
            connection = self._open()
            connection.send((experiment, set(stopped)))
            problem, reading = connection.recv()
        except (EOFError, OSError):
            self._close()
            raise StoreError(
                "the process that reads experiments has ended", hint="another one is started"
            ) from None
        if problem:
            raise StoreError(problem)
        found: ExperimentReading | None = reading
        return found

    def stop(self) -> None:
        """End the process; a call that waits for it fails."""
        self._is_stopped = True
        self._close()

    def _open(self) -> Connection:
        with self._lock:
            if self._is_stopped:
                raise EOFError
            if self._connection is None:
                context = multiprocessing.get_context("spawn")
                self._connection, other = context.Pipe()
                self._process = context.Process(
                    target=_work,
                    args=(other, self._address, self._metrics),
                    name="experiments",
                    daemon=True,
                )
                self._process.start()
                other.close()
            return self._connection

    def _close(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.join()
            self._process = self._connection = None


def _work(connection: Connection, address: Path | str, metrics: Mapping[str, LiveMetric]) -> None:
    """Main function of the process: it ends when the server does, however that ends."""
    # Ctrl-C reaches both processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    with suppress(EOFError, OSError):
        while True:
            experiment, stopped = connection.recv()
            try:
                with open_store(address) as store, store.begin() as opened:
                    reading = read_registered(opened, experiment, metrics, stopped=stopped)
                connection.send(("", reading))
            except OSError:
                raise
            except Exception as error:
                connection.send((str(error) or type(error).__name__, None))
