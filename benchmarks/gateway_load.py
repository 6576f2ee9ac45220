"""What the gateway costs under load, with a fake engine behind it: overhead, lost rows, memory.

    python benchmarks/gateway_load.py [--users 300] [--seconds 300] [--rate 40] [--profile]

Users on this machine ask one after another over keep-alive connections, wait for the answer, and
think; half of the answers are streamed, and a third of them are rated. The fake engine sends its
pieces after fixed pauses, so that whatever an answer takes longer is the gateway, the client and
the machine. The server is a process of its own with an experiment in its routes. Sides: no
gateway at all, nothing recorded, SQLite, and PostgreSQL where KAMERTON_TEST_POSTGRES is its URL
(scripts/ci/with_postgres.sh starts one).
"""

import argparse
import asyncio
import cProfile
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.experiments.settings import ExperimentSettings
from kamerton.flows.recording import RecordOptions, open_recording
from kamerton.serving.access_log import access_log
from kamerton.serving.app import make_app
from kamerton.serving.routes import RouteSettings, Rules
from kamerton.serving.routing import Router
from kamerton.store.database import open_store
from kamerton.store.feedback import latest_feedback
from kamerton.store.traffic import requests_between

BARE, FILE = "bare", "file"
IN_MEMORY, MEMORY = "SQLite, no disk", Path("/dev/shm")
NUM_PIECES, PIECE_S = 8, 0.05
WARM_S = 5.0
KEPT_S = 4.0
"""The server closes a connection on which nothing came for 5 s."""
EXPERIMENT = ExperimentSettings.model_validate({
    "name": "a-against-b", "control": "a",
    "arms": {"a": {"variant": "a"}, "b": {"variant": "b"}},
    "primary": {"metric": "rating", "smallest_effect": 0.1},
})  # fmt: skip


async def pauses() -> AsyncIterator[int]:
    """Count pieces at fixed times: a real engine has a process of its own and falls not behind."""
    started = time.perf_counter()
    for number in range(1, NUM_PIECES + 1):
        await asyncio.sleep(started + number * PIECE_S - time.perf_counter())
        yield number


class FakeEngine:
    """Answers with a few words, each after a pause."""

    is_ready, problem, num_restarts = True, "", 0

    def __init__(self) -> None:
        self.models = {name: ServedModel(name, "lora", f"hash of {name}", "fake") for name in "ab"}

    async def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerUpdate]:
        async for number in pauses():
            yield AnswerUpdate(
                request.id,
                f"word {number} ",
                finish_reason="stop" if number == NUM_PIECES else None,
                num_prompt_tokens=20,
                num_tokens=number,
            )

    async def tokenize(self, question: TokenizerRequest) -> TokenizerReply:
        raise NotImplementedError


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application that answers as the gateway does, and does nothing else."""
    if scope["type"] != "http":
        return
    body = json.loads((await receive())["body"])
    text = json.dumps({"id": "none", "padding": "x" * 300}).encode()
    kind = (b"transfer-encoding", b"chunked")
    head = kind if body["stream"] else (b"content-length", str(len(text)).encode())
    if not body["stream"]:
        async for _ in pauses():
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [head]})
    if body["stream"]:
        async for _ in pauses():
            event = b"data: " + text + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": True})
        text = b"data: [DONE]\n\n"
    await send({"type": "http.response.body", "body": text})


def serve(store: str, folder: Path, is_profiled: bool) -> None:
    """Serve on a free port, which is printed, until standard input ends."""
    profile = cProfile.Profile()
    route = RouteSettings(default="a", experiment=EXPERIMENT.name)
    rules = Rules({"support": route}, {EXPERIMENT.name: EXPERIMENT}, "v1")
    with ExitStack() as stack:
        options = RecordOptions(store)
        recording, feedback = (
            stack.enter_context(open_recording(options, folder))
            if store not in ("", BARE)
            else (None, None)
        )
        app: ASGIApp = (
            bare
            if store == BARE
            else make_app(
                FakeEngine(),
                limit_open=1024,
                router=Router(rules),
                recording=recording,
                feedback=feedback,
                write_access=stack.enter_context(access_log(folder / "access.log")),
            )
        )
        config = uvicorn.Config(app, port=0, log_level="warning", server_header=False)
        listener = config.bind_socket()
        listener.listen(1024)
        print(listener.getsockname()[1], flush=True)
        server = uvicorn.Server(config)

        def stop_at_end() -> None:
            sys.stdin.read()
            server.should_exit = True

        threading.Thread(target=stop_at_end, daemon=True).start()
        # As `kamerton serve` does when it is ready.
        gc.collect()
        gc.freeze()
        if is_profiled:
            profile.enable()
        server.run(sockets=[listener])
        if is_profiled:
            profile.dump_stats("gateway_load.prof")


@dataclass
class Seen:
    """What the users saw.

    Attributes:
        over_ms: How much longer than the engine each answer took, by whether it was streamed.
        answered: Ids of completions.
        rated: Ids of those whose rating was taken.
    """

    over_ms: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    answered: list[str] = field(default_factory=list)
    rated: list[str] = field(default_factory=list)


class Client:
    """The least HTTP client: one connection, so that measuring costs little beside serving."""

    def __init__(self, port: int, unit: str) -> None:
        self._port, self._unit = port, unit
        self._reader: asyncio.StreamReader | None = None
        self._used_at = 0.0

    async def post(self, path: str, body: dict[str, object]) -> bytes:
        """Post JSON and read the whole response."""
        if self._reader is not None and time.perf_counter() - self._used_at > KEPT_S:
            self.close()
        if self._reader is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        plain = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"x-kamerton-unit: {self._unit}\r\ncontent-length: {len(plain)}\r\n\r\n"
        )
        self._writer.write(head.encode() + plain)
        headers = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        self._used_at = time.perf_counter() + NUM_PIECES * PIECE_S
        assert headers.startswith(b"http/1.1 200"), headers
        if b"transfer-encoding: chunked" in headers:
            parts = []
            while size := int(await self._reader.readline(), 16):
                parts.append(await self._reader.readexactly(size))
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
            return b"".join(parts)
        length = int(headers.split(b"content-length:")[1].split(b"\r\n")[0])
        return await self._reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._writer.close()
            self._reader = None


async def use(
    port: int, number: int, think_s: float, begin: float, end: float, seen: Seen, rates: bool
) -> None:
    """Ask, read, rate and think until the end; what comes before the begin is not measured."""
    draw = random.Random(number)
    client = Client(port, f"user-{number}")
    await asyncio.sleep(draw.random() * think_s)
    while time.perf_counter() < end:
        is_streamed = draw.random() < 0.5
        messages = [{"role": "user", "content": "Where is my parcel? It was sent a week ago."}]
        body = {"model": "support", "messages": messages, "stream": is_streamed}
        started = time.perf_counter()
        raw = await client.post("/v1/chat/completions", body)
        took_s = time.perf_counter() - started
        if is_streamed:
            assert raw.endswith(b"data: [DONE]\n\n"), raw[-200:]
            raw = raw.split(b"\n\n", 1)[0].removeprefix(b"data: ")
        completion = json.loads(raw)["id"]
        if started > begin:
            seen.over_ms[is_streamed].append((took_s - NUM_PIECES * PIECE_S) * 1e3)
        seen.answered.append(completion)
        if rates and draw.random() < 1 / 3:
            await asyncio.sleep(draw.random())
            await client.post("/v1/feedback", {"id": completion, "name": "rating", "value": 4})
            seen.rated.append(completion)
        thinks_s = draw.expovariate(1 / think_s)
        if time.perf_counter() + thinks_s > end:
            break
        await asyncio.sleep(thinks_s)
    client.close()


async def load(
    port: int, server: psutil.Process, options: argparse.Namespace, rates: bool
) -> tuple[Seen, list[float], float]:
    """Let all users ask; give what they saw, the server's MiB over time, its CPU seconds."""
    seen = Seen()
    begin = time.perf_counter() + WARM_S
    end = begin + options.seconds
    think_s = options.users / options.rate - NUM_PIECES * PIECE_S
    assert think_s > 0, f"{options.users} users cannot ask {options.rate} times a second"
    async with asyncio.TaskGroup() as users:
        for number in range(options.users):
            users.create_task(use(port, number, think_s, begin, end, seen, rates))
        await asyncio.sleep(WARM_S)
        before, sizes = server.cpu_times(), []
        while time.perf_counter() < end:
            sizes.append(server.memory_info().rss / (1 << 20))
            await asyncio.sleep(1)
        after = server.cpu_times()
    return seen, sizes, after.user + after.system - before.user - before.system


def measure(side: str, store: str, options: argparse.Namespace) -> str:
    """Serve, load, look into the store; give a row of the table."""
    with tempfile.TemporaryDirectory(dir=MEMORY if side == IN_MEMORY else None) as name:
        folder = Path(name)
        if store == FILE:
            store = str(folder / "kamerton.db")
        more = ["--profile"] if options.profile else []
        process = subprocess.Popen(
            [sys.executable, __file__, "--serve", store, "--folder", name, *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            port = int(process.stdout.readline())
            is_recorded = store not in ("", BARE)
            found = load(port, psutil.Process(process.pid), options, rates=is_recorded)
            seen, sizes, cpu_s = asyncio.run(found)
        finally:
            process.stdin.close()
            process.wait(30)
        lost = "-"
        if is_recorded:
            place = store if "://" in store else Path(store)
            with open_store(place) as opened, opened.begin() as connection:
                rows = {row.id for row in requests_between(connection)}
                votes = {vote.completion_id for vote in latest_feedback(connection)}
            missing = len(set(seen.answered) - rows), len(set(seen.rated) - votes)
            lost = f"{missing[0]} of {len(seen.answered):,} / {missing[1]} of {len(seen.rated):,}"
    both = [value for values in seen.over_ms.values() for value in values]
    cells = [side, f"{len(both) / options.seconds:.1f}"]
    for values in (both, seen.over_ms[False], seen.over_ms[True]):
        cut = statistics.quantiles(values, n=20)
        cells.append(f"{cut[9]:.1f} / {cut[18]:.1f}")
    cells.append(f"{1e3 * cpu_s / len(both):.1f}")
    tenth = max(len(sizes) // 10, 1)
    at = (sizes[:tenth], sizes[len(sizes) // 2 :][:tenth], sizes[-tenth:])
    cells += [" / ".join(f"{statistics.mean(part):.0f}" for part in at), lost]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure all sides and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=300.0, help="of each side")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second, of all users")
    parser.add_argument(
        "--profile", action="store_true", help="writes gateway_load.prof of the last side"
    )
    parser.add_argument("--sides", nargs="+", help="only these")
    parser.add_argument("--serve", metavar="STORE", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.folder, options.profile)
        return
    # It imports PyTorch, which the server does not.
    import record

    sides = {"bare uvicorn": BARE, "nothing recorded": "", "SQLite": FILE}
    if MEMORY.exists():
        sides[IN_MEMORY] = FILE
    if postgres := os.environ.get("KAMERTON_TEST_POSTGRES"):
        sides["PostgreSQL"] = postgres
    text = record.header("The gateway under load, before a fake engine")
    text += (
        f"{options.users} users for {options.seconds:g} s a side; an answer has {NUM_PIECES} "
        f"pieces, one every {PIECE_S * 1e3:g} ms, half of them streamed; a third is rated; an "
        "experiment in the routes, an access log. Overhead is what an answer took longer than "
        "the engine's pauses, as the client saw it: gateway, client and machine together. The bare "
        "side answers with the same pauses and has no gateway. An answer waits for the "
        "commit of its row: without a disk that is computing alone.\n\n"
        "| side | answers/s | overhead ms, p50 / p95 | whole | streamed | CPU ms of the server an "
        "answer | MiB of the server, begin / middle / end | lost rows / ratings |\n"
        "| --- | --: | --: | --: | --: | --: | --: | --: |\n"
    )
    for side, store in sides.items():
        if side not in (options.sides or sides):
            continue
        line = measure(side, store, options)
        print(line, file=sys.stderr)
        text += line + "\n"
    busy = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    text += f"\nLoad averages at the end (1, 5, 15 minutes): {busy}; niceness {os.nice(0)}.\n"
    record.write("gateway_load", text)


if __name__ == "__main__":
    main()
