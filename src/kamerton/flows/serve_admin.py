"""The admin API beside `kamerton serve`: a second server in the same process and event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn

from kamerton.serving.admin import make_admin_app
from kamerton.serving.keys import plain_keys
from kamerton.serving.route_source import RouteSource
from kamerton.serving.switching import Switching, SwitchingEngine

__all__ = ["serve_admin"]


class _ServerBeside(uvicorn.Server):
    """A server that leaves signals to the one it stands beside."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal over."""
        yield


@asynccontextmanager
async def serve_admin(
    engine: SwitchingEngine,
    folder: Path,
    listener: socket.socket | None,
    keys: Sequence[str],
    routes: RouteSource | None = None,
) -> AsyncIterator[str]:
    """Serve the admin API for a while.

    Args:
        engine: Holds the variants.
        folder: The project's variants.
        listener: Where to listen; None serves nothing.
        keys: Keys that are let in; without any, everybody is let in.
        routes: Reads routes again; None where there are none.

    Yields:
        Its address; empty without a listener.
    """
    if listener is None:
        yield ""
        return
    switching = Switching(engine, folder, routes.router if routes else None)
    app = make_admin_app(switching, routes=routes, keys=plain_keys(keys, "admin"))
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=5, server_header=False, lifespan="off"
    )
    server = _ServerBeside(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    host, port = listener.getsockname()[:2]
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        server.should_exit = True
        await serving
