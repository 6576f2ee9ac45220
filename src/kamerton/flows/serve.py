"""`kamerton serve`: the gateway in this process, the engine in another. Torch stays out of here."""

import asyncio
import gc
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamerton.core.errors import MissingExtraError, SettingsError
from kamerton.core.events import Event, Notice, Progress, Sink
from kamerton.core.requests import ServedModel
from kamerton.flows.recording import (
    RecordOptions,
    open_recording,
    project_metrics,
    store_address,
)
from kamerton.flows.workspace import Workspace

if TYPE_CHECKING:
    from kamerton.flows.experiment.keeper import ExperimentKeeper
    from kamerton.serving.recording import Recording
    from kamerton.serving.routing import Router
    from kamerton.serving.upstream_engine import UpstreamEngine

__all__ = ["AdminOptions", "EngineOptions", "Listening", "serve"]

_FLUSH_S = 5
"""Seconds in which the last bytes of finished answers must leave."""


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
        limit_bytes: Most memory of adapters; None sets no limit.
        quantise: The form of the base's linear layers; empty for what the variants say.
        restored: What an engine held that has crashed; None for what `names` say.
        engines: Addresses of other engines that compute instead of one here.
        engine_keys: What these ask for: none, one for all, or one for each.
        engine_slots: Most answers that each of these has at once; None sets no limit.
    """

    names: tuple[str, ...]
    project: Path
    base: str = ""
    device: str = ""
    dtype: str = ""
    num_slots: int = 16
    tokens_per_step: int = 512
    cache_mib: int = 2048
    limit_bytes: int | None = None
    quantise: str = ""
    restored: tuple[ServedModel, ...] | None = None
    engines: tuple[str, ...] = ()
    engine_keys: tuple[str, ...] = field(default=(), repr=False)
    engine_slots: int | None = None


@dataclass(frozen=True, slots=True)
class AdminOptions:
    """Where variants are loaded and unloaded.

    Attributes:
        port: Port; 0 takes a free one. None leaves the admin API out.
        keys: Keys that are let in. Without one, only this machine reaches the port.
    """

    port: int | None = None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that answers.

    Attributes:
        address: Its URL.
        models: What can be asked for.
        admin: URL of the admin API; empty without it.
        num_keys: Keys that are let in; without any, everybody is.
        engines: Addresses of the engines that compute; empty where that is done here.
        routes: Names that rules map to models.
        records: Whether answers are recorded.
    """

    address: str
    models: Sequence[ServedModel]
    admin: str = ""
    num_keys: int = 0
    engines: Sequence[str] = ()
    routes: Sequence[str] = ()
    records: bool = False


def serve(
    options: EngineOptions,
    *,
    host: str,
    port: int,
    keys: Sequence[str] = (),
    keys_file: Path | None = None,
    limit_open: int = 256,
    timeout_s: float = 600.0,
    drain_s: float = 30.0,
    access: Path = Path("-"),
    routes: Path | None = None,
    admin: AdminOptions | None = None,
    record: RecordOptions | None = None,
    sink: Sink,
    say: Callable[[Listening], None],
) -> None:
    """Serve until the process is told to stop; then finish what was begun.

    The port answers while the base loads: that it is not ready.

    Args:
        options: What the engine opens.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        keys: Keys that are let in; without any, everybody is let in.
        keys_file: Further keys, with names, scopes and limits.
        limit_open: Most answers that may be open at once, waiting ones included.
        timeout_s: Seconds after which an answer ends, finished or not.
        drain_s: Seconds that open answers have when the server is told to stop.
        access: File that gets a line for each request; "-" is standard error.
        routes: File of routes: names that clients ask for and that rules map to variants.
        admin: Where variants are loaded and unloaded; nowhere when None.
        record: Where requests and feedback are recorded; nowhere when None.
        sink: Receives how far the loading is, and notices as long as the server runs.
        say: Called once, when requests are answered.

    Raises:
        SettingsError: If the port is taken, the access log cannot be written, a route is wrong, or
            other machines could reach a server without keys.
        MissingExtraError: If the extra "serve" is not installed.
        KamertonError: If base or variants cannot be opened.
    """
    try:
        import uvicorn

        from kamerton.flows.experiment.reading import check_metrics
        from kamerton.flows.routing import new_router, reload_on_signal, route_source
        from kamerton.flows.serve_admin import serve_admin
        from kamerton.serving.access_log import access_log
        from kamerton.serving.app import make_app
        from kamerton.serving.draining import drain_on_signals
        from kamerton.serving.engine_process import EngineProcess
        from kamerton.serving.keys import plain_keys, read_keys
        from kamerton.serving.routes import read_rules
    except ImportError as error:
        raise MissingExtraError(error.name or "starlette", "serve", "kamerton serve") from None
    known = (*plain_keys(keys), *(read_keys(keys_file) if keys_file else ()))
    if host not in ("127.0.0.1", "localhost", "::1") and not known:
        raise SettingsError(
            f"--host {host} lets other machines in, and there is no key",
            hint="set KAMERTON_API_KEY, --api-key or --keys; or listen on 127.0.0.1",
        )
    admin = admin or AdminOptions()
    if routes:
        # Loading the base takes a while: what is wrong with the file is told before.
        known_metrics = project_metrics(options.project).metrics
        for experiment in read_rules(routes).experiments.values():
            check_metrics(experiment, known_metrics)
    engine = (
        _open_upstream(options, timeout_s, sink)
        if options.engines
        else EngineProcess(_work, options, _restored)
    )
    with access_log(access) as write_access, _listen(host, port) as listener, ExitStack() as stack:
        admin_listener = _listen_for_admin(admin, host, keys)
        if admin_listener is not None:
            stack.enter_context(admin_listener)
        stack.callback(engine.stop)
        recording, feedback = (
            stack.enter_context(open_recording(record, options.project)) if record else (None, None)
        )
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        failures: list[BaseException] = []

        async def load(beside: AsyncExitStack) -> None:
            folder = Workspace(options.project).variants
            try:
                await engine.open(sink)
                source = None
                if recording is not None and record is not None:
                    # Before rules decide: an experiment that was not started assigns nobody.
                    place = store_address(record.address, options.project)
                    await _keep_experiments(recording, place, router, options.project, sink, beside)
                if routes:
                    source = route_source(
                        routes,
                        router,
                        options.project,
                        lambda: engine.models,
                        [key.name for key in known],
                    )
                    source.reload("start")
                    reload_on_signal(source, sink)
                if recording is None and router.rules.experiments:
                    names = ", ".join(router.rules.experiments)
                    sink(Notice(f"without --record nobody learns what came of {names}", "warning"))
                admin_address = await beside.enter_async_context(
                    serve_admin(engine, folder, admin_listener, admin.keys, source)
                )
                models = list(engine.models.values())
                # What is there now stays: a search through it for garbage would hold up answers
                # again and again, by up to 0.2 s.
                gc.collect()
                gc.freeze()
                route_names = tuple(router.rules.routes)
                say(
                    Listening(
                        address, models, admin_address, len(known), options.engines, route_names,
                        recording is not None,
                    )
                )  # fmt: skip
            except Exception as error:
                failures.append(error)
                _stop(server, False)

        @asynccontextmanager
        async def lifespan(_app: Any) -> Any:
            drain_on_signals(
                app.state.admission, drain_s, cut=engine.fail_open, stop=partial(_stop, server)
            )
            async with AsyncExitStack() as beside:
                loading = asyncio.create_task(load(beside))
                try:
                    yield
                finally:
                    loading.cancel()
                    # A thread waits for an engine that still loads, and the loop for the thread.
                    engine.stop()

        router = new_router(options.project)
        app = make_app(
            engine,
            keys=known,
            limit_open=limit_open,
            timeout_s=timeout_s,
            router=router,
            # Half of the slots stay free for clients who come meanwhile.
            most_open_beside_shadows=options.num_slots // 2,
            write_access=write_access,
            recording=recording,
            feedback=feedback,
            lifespan=lifespan,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", timeout_graceful_shutdown=_FLUSH_S, server_header=False
            )
        )
        server.run(sockets=[listener])
        if failures:
            raise failures[0]


async def _keep_experiments(
    recording: "Recording",
    place: Path | str,
    router: "Router",
    project: Path,
    tell: Sink,
    beside: AsyncExitStack,
) -> None:
    from kamerton.flows.experiment.keeper import ExperimentKeeper
    from kamerton.flows.experiment.reading_process import ReadingProcess

    metrics, writer = project_metrics(project).metrics, recording.writer
    process = ReadingProcess(place, metrics)
    beside.callback(process.stop)
    keeper = ExperimentKeeper(
        recording.store,
        router,
        metrics,
        tell,
        read=process.read,
        num_rows=lambda: writer.num_written,
    )
    # Exposures are stored under these ids, and known units are looked up by them.
    router.adaptive.hide = recording.policy.hidden
    await keeper.look()
    keeping = asyncio.create_task(keeper.keep())
    beside.push_async_callback(_write_last_changes, keeper)
    beside.callback(keeping.cancel)


async def _write_last_changes(keeper: "ExperimentKeeper") -> None:
    # The routing log has them in any case.
    with suppress(Exception):
        await keeper.write_changes()


def _open_upstream(options: EngineOptions, timeout_s: float, sink: Sink) -> "UpstreamEngine":
    try:
        from kamerton.flows.served_upstream import Offering, open_upstream
    except ImportError as error:
        name = error.name or "httpx"
        raise MissingExtraError(name, "serve", "kamerton serve --engine") from None
    offering = Offering(Workspace(options.project).variants, options.names, options.base, sink)
    return open_upstream(
        options.engines,
        options.engine_keys,
        offering,
        timeout_s=timeout_s,
        limit_open=options.engine_slots,
    )


def _stop(server: Any, at_once: bool) -> None:
    server.should_exit = True
    server.force_exit = server.force_exit or at_once


def _listen_for_admin(admin: AdminOptions, host: str, keys: Sequence[str]) -> socket.socket | None:
    if admin.port is None:
        if admin.keys:
            raise SettingsError("--admin-key needs --admin-port: there is no admin API to guard")
        return None
    if shared := set(admin.keys) & set(keys):
        raise SettingsError(
            f"{len(shared)} of the admin keys is an API key too",
            hint="whoever may ask a model should not be able to replace it: take another key",
        )
    return _listen(host if admin.keys else "127.0.0.1", admin.port)


def _restored(options: EngineOptions, models: Sequence[ServedModel]) -> EngineOptions:
    """Options for an engine that is to hold what a crashed one held."""
    return replace(options, restored=tuple(models))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Taken at once: another server on the port would only be found when the base is loaded.
        listener.listen()
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
    imports = "loading PyTorch"
    connection.send(Progress(imports, 0, None))
    from kamerton.flows.served_engine import open_engine
    from kamerton.inference.worker import work

    connection.send(Progress(imports, 1, 1))

    def tell(event: Event) -> None:
        # What is said of a run does not concern the gateway.
        if isinstance(event, Notice | Progress):
            connection.send(event)

    work(connection, partial(open_engine, options, tell))
