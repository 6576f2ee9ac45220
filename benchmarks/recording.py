"""Rows per second of the row writer, and what an answer waits for its commit.

    python benchmarks/recording.py [DATABASE URL]

Without a URL a SQLite file in a temporary folder. A number of askers put a row each and wait until
it is committed, as answers do; then the same with nobody waiting.
"""

import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

from kamerton.serving.row_writer import RowWriter
from kamerton.store.database import open_store
from kamerton.store.traffic import RequestRow, now

NUM_ASKERS = (1, 16, 300)
SECONDS = 5.0
NUM_UNWAITED = 20_000


def row() -> RequestRow:
    return RequestRow(
        uuid.uuid4().hex, "shop", "a" * 64, now(), unit="user", latency_s=0.5, answer_tokens=80
    )


async def ask(writer: RowWriter, until: float, waits_ms: list[float]) -> None:
    while time.perf_counter() < until:
        started = time.perf_counter()
        await asyncio.wrap_future(writer.put(row()))
        waits_ms.append((time.perf_counter() - started) * 1e3)


async def measure(writer: RowWriter, num_askers: int) -> None:
    waits_ms: list[float] = []
    until = time.perf_counter() + SECONDS
    await asyncio.gather(*(ask(writer, until, waits_ms) for _ in range(num_askers)))
    p50, p95 = (statistics.quantiles(waits_ms, n=20)[at] for at in (9, 18))
    rate = len(waits_ms) / SECONDS
    print(f"{num_askers:4} askers: {rate:8,.0f} rows/s, wait p50 {p50:6.2f} ms, p95 {p95:6.2f} ms")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = sys.argv[1] if len(sys.argv) > 1 else Path(folder) / "kamerton.db"
        with open_store(place) as store:
            writer = RowWriter(store, limit_rows=NUM_UNWAITED)
            writer.start()
            for num_askers in NUM_ASKERS:
                asyncio.run(measure(writer, num_askers))
            started = time.perf_counter()
            done = [writer.put(row()) for _ in range(NUM_UNWAITED)]
            assert all(each.result() for each in done)
            rate = NUM_UNWAITED / (time.perf_counter() - started)
            print(f"nobody waits: {rate:8,.0f} rows/s; lost {writer.num_lost}")
            writer.stop()


if __name__ == "__main__":
    main()
