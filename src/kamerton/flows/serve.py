"""`kamerton serve`: the gateway in this process, the engine in another. Torch stays out of here."""

import socket
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kamerton.core.errors import MissingExtraError, SettingsError
from kamerton.core.events import Sink
from kamerton.core.requests import ServedModel

__all__ = ["EngineOptions", "Listening", "serve"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engine process opens.

    Attributes:
        names: Variants of the project, or one base; all variants of the project when empty.
        project: Folder of the project.
        base: Where the base is; empty for where the variants found it.
        device: What it computes on; empty for what the variants say.
        dtype: Of weights and computation; empty for what the variants say.
        num_slots: Most answers computed at once.
        tokens_per_step: Most tokens computed in a step.
        cache_mib: Memory for keys and values of what is computed at once.
    """

    names: tuple[str, ...]
    project: Path
    base: str = ""
    device: str = ""
    dtype: str = ""
    num_slots: int = 16
    tokens_per_step: int = 512
    cache_mib: int = 2048


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that is about to answer.

    Attributes:
        address: Its URL.
        models: What can be asked for.
    """

    address: str
    models: Sequence[ServedModel]


def serve(
    options: EngineOptions,
    *,
    host: str,
    port: int,
    keys: Sequence[str] = (),
    limit_open: int = 256,
    sink: Sink,
    say: Callable[[Listening], None],
) -> None:
    """Serve until the process is told to stop; then finish what was begun.

    Args:
        options: What the engine opens.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        keys: Keys that are let in; everybody is where there are none.
        limit_open: Most answers that may be waited for at once.
        sink: Receives notices while the engine loads.
        say: Called once, when requests are answered.

    Raises:
        SettingsError: If the port is taken, or other machines could reach a server without keys.
        MissingExtraError: If the extra "serve" is not installed.
        KamertonError: If base or variants cannot be opened.
    """
    try:
        import uvicorn

        from kamerton.serving.app import make_app
        from kamerton.serving.engine_process import EngineProcess
        from kamerton.serving.guard import hash_key
    except ImportError as error:
        raise MissingExtraError(error.name or "starlette", "serve", "kamerton serve") from None
    if host not in ("127.0.0.1", "localhost", "::1") and not keys:
        raise SettingsError(
            f"--host {host} lets other machines in, and there is no key",
            hint="set KAMERTON_API_KEY, or --api-key; or listen on 127.0.0.1",
        )
    listener = _listen(host, port)
    address = f"http://{host}:{listener.getsockname()[1]}"
    engine = EngineProcess(_work, options)
    try:
        engine.start(sink)

        @asynccontextmanager
        async def lifespan(_app: Any) -> Any:
            engine.watch()
            say(Listening(address, list(engine.models.values())))
            yield
            # uvicorn ends the process by the signal that it got, past any finally.
            engine.stop()

        app = make_app(
            engine,
            key_hashes=[hash_key(key) for key in keys],
            limit_open=limit_open,
            lifespan=lifespan,
        )
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=30, server_header=False
        )
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        engine.stop()
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}",
            hint="another server may run there: --port 0 takes a free port",
        ) from None
    return listener


def _work(connection: Connection, options: EngineOptions) -> None:
    """Main function of the engine process."""
    import signal

    # Ctrl-C reaches both processes: the gateway decides when the engine ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from kamerton.flows.served_engine import open_engine
    from kamerton.inference.worker import work

    work(connection, partial(open_engine, options, connection.send))
