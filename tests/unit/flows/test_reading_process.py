"""Experiments are read in a process of their own, and looked at early where many rows come."""

import asyncio
import os
import signal
from datetime import timedelta

import pytest

from kamerton.core.errors import StoreError
from kamerton.evaluation.live_metrics import BUILT_IN
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.experiments.settings import ExperimentSettings
from kamerton.flows.experiment.keeper import ExperimentKeeper
from kamerton.flows.experiment.reading import read_registered
from kamerton.flows.experiment.reading_process import ReadingProcess
from kamerton.flows.routing import new_router
from kamerton.store.database import open_store
from kamerton.store.traffic import RequestRow, add_requests, now

SETTINGS = ExperimentSettings.parse(
    {
        "name": "tone",
        "control": "a",
        "arms": {"a": {"variant": "shop-a"}, "b": {"variant": "shop-b"}},
        "primary": {"metric": "refusal", "better": "down", "smallest_effect": 0.1},
        "guardrails": [{"metric": "refusal", "margin": 0.05}],
    }
)


def rows(start):
    for number in range(400):
        arm = "ab"[number % 2]
        yield RequestRow(
            f"r{number}", f"shop-{arm}", created=start + timedelta(minutes=number),
            experiment="tone", arm=arm, unit=f"u{number % 200}", refusal=number % 3 == 0,
        )  # fmt: skip


def test_another_process_reads_the_same_and_may_die(tmp_path):
    place, start = tmp_path / "kamerton.db", now() - timedelta(days=2)
    experiment = RegisteredExperiment(SETTINGS, "1", 400, 100.0, start)
    process = ReadingProcess(place, BUILT_IN)
    try:
        with open_store(place) as store, store.begin() as connection:
            add_requests(connection, list(rows(start)))
        with store.begin() as connection:
            here = read_registered(connection, experiment, BUILT_IN, stopped={"b"})
        assert process.read(experiment, {"b"}) == here
        assert here.num_units == (100, 100)
        first = process.pid
        assert first not in (None, os.getpid())
        os.kill(first, signal.SIGKILL)
        with pytest.raises(StoreError, match="has ended"):
            process.read(experiment)
        assert process.read(experiment) is not None
        assert process.pid != first
    finally:
        process.stop()
    with pytest.raises(StoreError, match="has ended"):
        process.read(experiment)
    assert process.pid is None


def test_a_store_that_cannot_be_read_is_an_error_of_the_store(tmp_path):
    process = ReadingProcess("postgresql+psycopg://nobody@127.0.0.1:1/none", BUILT_IN)
    try:
        with pytest.raises(StoreError):
            process.read(RegisteredExperiment(SETTINGS, "1", 400, 100.0, now()))
    finally:
        process.stop()


def test_many_new_rows_are_looked_at_early(tmp_path):
    looks, written = [], [0]

    class Looks(ExperimentKeeper):
        async def look(self):
            looks.append(written[0])

    async def keep(store):
        keeper = Looks(
            store, new_router(tmp_path), BUILT_IN, every_s=60.0, num_rows=lambda: written[0]
        )
        keeping = asyncio.create_task(keeper.keep())
        await asyncio.sleep(0.3)
        few = len(looks)
        written[0] = 199
        await asyncio.sleep(0.3)
        still = len(looks)
        written[0] = 200
        async with asyncio.timeout(10):
            while len(looks) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        keeping.cancel()
        return few, still, len(looks)

    with open_store(tmp_path / "kamerton.db") as store:
        assert asyncio.run(keep(store)) == (1, 1, 2)
