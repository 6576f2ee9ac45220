"""Routes in the admin API: what decides now, reading the file again, stopping arms and canaries."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kamerton.core.errors import SettingsError
from kamerton.serving.errors import ApiError
from kamerton.serving.guard import refuse_pages
from kamerton.serving.request_body import read_body
from kamerton.serving.route_source import RouteSource
from kamerton.serving.routing import Router
from kamerton.wire.admin import ReloadRoutes, StopArm

__all__ = ["ROUTES", "change_arm", "change_canary", "reload_routes", "show_routes"]

_Body = TypeVar("_Body", bound=BaseModel)


async def show_routes(request: Request) -> Response:
    """Say what decides now: `GET /admin/routes`.

    Args:
        request: The HTTP request.

    Returns:
        Version, routes, experiments with their arms, and what is stopped.

    Raises:
        ApiError: If there are no routes.
    """
    return JSONResponse(_plain(_source(request).router))


async def reload_routes(request: Request) -> Response:
    """Read the file again: `POST /admin/routes/reload`.

    Args:
        request: The HTTP request; with `dry_run` in its body the file is only checked.

    Returns:
        The version of the file's rules, and whether it differs from what decided before.

    Raises:
        ApiError: If the file is wrong; nothing has changed then.
    """
    source = _source(request)
    body = await _read(request, ReloadRoutes)
    before = source.router.rules.version
    try:
        rules = source.check() if body.dry_run else source.reload(_who(request))
    except SettingsError as error:
        raise ApiError(400, error.message) from None
    return JSONResponse(
        {"version": rules.version, "changed": rules.version != before, "dry_run": body.dry_run}
    )


async def change_arm(request: Request) -> Response:
    """Stop or resume an arm: `POST /admin/experiments/{name}/arms/{arm}/stop` or `/resume`.

    Args:
        request: The HTTP request; its body may say why.

    Returns:
        What decides now.

    Raises:
        ApiError: If there is no such arm, or it is the control.
    """
    router, given = _source(request).router, request.path_params
    change = _way(request, {"stop": router.stop_arm, "resume": router.resume_arm})
    return await _change(request, router, partial(change, given["name"], given["arm"]))


async def change_canary(request: Request) -> Response:
    """Stop or resume a canary: `POST /admin/routes/{name}/canary/stop` or `/resume`.

    Args:
        request: The HTTP request; its body may say why.

    Returns:
        What decides now.

    Raises:
        ApiError: If there is no such route, or it has no canary.
    """
    router = _source(request).router
    change = _way(request, {"stop": router.stop_canary, "resume": router.resume_canary})
    return await _change(request, router, partial(change, request.path_params["name"]))


ROUTES = (
    Route("/admin/routes", show_routes),
    Route("/admin/routes/reload", reload_routes, methods=["POST"]),
    Route("/admin/experiments/{name}/arms/{arm}/{what}", change_arm, methods=["POST"]),
    Route("/admin/routes/{name}/canary/{what}", change_canary, methods=["POST"]),
)


def _way(request: Request, ways: Mapping[str, Callable[..., None]]) -> Callable[..., None]:
    what = request.path_params["what"]
    if what not in ways:
        raise ApiError(404, f"must be {' or '.join(ways)}, got '{what}'")
    return ways[what]


async def _change(request: Request, router: Router, change: Callable[..., None]) -> Response:
    body = await _read(request, StopArm)
    try:
        change(by_whom=_who(request), why=body.why)
    except SettingsError as error:
        raise ApiError(404, error.message) from None
    return JSONResponse(_plain(router))


async def _read(request: Request, kind: type[_Body]) -> _Body:
    # Every field has a default: no body is a body too.
    return await read_body(request, kind) if await request.body() else kind()


def _source(request: Request) -> RouteSource:
    refuse_pages(request)
    source: RouteSource | None = request.app.state.route_source
    if source is None:
        raise ApiError(404, "there are no routes: the server was started without --routes")
    return source


def _who(request: Request) -> str:
    key = getattr(request.state, "key", "")
    return f"admin {key}" if key else "admin"


def _plain(router: Router) -> dict[str, Any]:
    rules = router.rules
    stopped = sorted(router.stopped, key=lambda one: (one.name, one.phase, one.arm))
    return {
        "version": rules.version,
        "routes": sorted(rules.routes),
        "experiments": {
            name: {"control": one.control, "arms": list(one.arms), "phase": one.phase}
            for name, one in rules.experiments.items()
        },
        "stopped": [
            {"name": one.name, "arm": one.arm, "phase": one.phase, "canary": one.is_canary}
            for one in stopped
        ],
        "requests": [{**one._asdict(), "count": n} for one, n in router.counts.choices.items()],
        "shadows": [{**one._asdict(), "count": n} for one, n in router.counts.shadows.items()],
        "silent": [[route, shadow] for route, shadow, is_one in router.counts.silent if is_one],
    }
