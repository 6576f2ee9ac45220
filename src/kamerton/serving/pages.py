"""What a server says of itself: models, health, and a page for people."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kamerton.core.requests import ServedModel
from kamerton.serving.admission import ensure_ready
from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import ApiError
from kamerton.serving.record import record_of
from kamerton.serving.resolving import models_for
from kamerton.serving.routing import Router

__all__ = ["PAGE_PATHS", "list_models", "say_live", "say_ready", "show_model", "show_page"]

PAGE_PATHS = ("/", "/page.css", "/page.js")
"""What `show_page` answers; none of it tells what is served."""

_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    # Nothing is loaded from elsewhere, sent elsewhere or shown elsewhere, and no text is a script.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def list_models(request: Request) -> Response:
    """List what can be asked for: `GET /v1/models`.

    Args:
        request: The HTTP request.

    Returns:
        OpenAI's list, with `root` and `parent` as vLLM has them.

    Raises:
        ApiError: If the engine still loads.
    """
    engine: ServingEngine = request.app.state.engine
    if not engine.models:
        # An empty list would say that nothing is served, and clients keep it.
        ensure_ready(engine)
    router: Router = request.app.state.router
    usable = models_for(engine, record_of(request).caller)
    cards = [_card(model) for model in usable.values()]
    cards += [_route_card(name, router) for name in router.rules.routes]
    return JSONResponse({"object": "list", "data": cards})


async def show_model(request: Request) -> Response:
    """Show one model: `GET /v1/models/{name}`.

    Args:
        request: The HTTP request.

    Returns:
        Its card.

    Raises:
        ApiError: If it is unknown, or the engine still loads.
    """
    engine: ServingEngine = request.app.state.engine
    router: Router = request.app.state.router
    name = request.path_params["name"]
    if name in router.rules.routes:
        return JSONResponse(_route_card(name, router))
    usable = models_for(engine, record_of(request).caller)
    if name not in usable:
        ensure_ready(engine)
        raise ApiError(404, f"the model '{name}' does not exist", "model")
    return JSONResponse(_card(usable[name]))


async def say_live(_request: Request) -> Response:
    """Say that the gateway runs: `GET /live` and `GET /health`.

    Args:
        _request: The HTTP request.

    Returns:
        Status 200.
    """
    return JSONResponse({"status": "ok"})


async def say_ready(request: Request) -> Response:
    """Say whether requests are answered: `GET /ready`.

    Args:
        request: The HTTP request.

    Returns:
        Status 200, or 503 while the engine loads, has crashed, or the server stops.
    """
    state = request.app.state
    if state.engine.is_ready and not state.admission.is_draining:
        return JSONResponse({"status": "ok"})
    is_loading = not state.engine.models and not state.engine.problem
    return JSONResponse({"status": "loading" if is_loading else "not ready"}, 503)


async def show_page(request: Request) -> Response:
    """Give people a page that shows what is served, and talks to it: `GET /` and its two files.

    The files are the same for everybody: a script in them asks `/v1/models` what is served, with
    the key that the reader gives, where one is needed.

    Args:
        request: The HTTP request.

    Returns:
        The page, its script, or its style sheet.
    """
    name = request.url.path.rsplit("/", 1)[1] or "page.html"
    media_type = _PAGE_FILES[name]
    content = (_PAGE / name).read_bytes()
    return Response(content, media_type=media_type, headers=_PAGE_HEADERS)


def _card(model: ServedModel) -> dict[str, object]:
    is_base = model.kind == "base"
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "kamerton",
        "root": model.base if is_base else model.name,
        "parent": None if is_base else model.base,
        "kind": model.kind,
        "artefact": model.content_hash,
        "bytes": model.num_bytes,
    }


def _route_card(name: str, router: Router) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "kamerton",
        "root": name,
        "parent": None,
        "kind": "route",
        "artefact": router.rules.version,
        "bytes": 0,
    }
