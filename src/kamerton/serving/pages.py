"""What a server says of itself: models, health, and a page for people."""

from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from kamerton.core.requests import ServedModel
from kamerton.serving.admission import ensure_ready
from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import ApiError
from kamerton.serving.record import record_of
from kamerton.serving.resolving import models_for
from kamerton.serving.routing import Router

__all__ = ["list_models", "say_live", "say_ready", "show_model", "show_page"]


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
    """Show people what is served and how to call it: `GET /`.

    Args:
        request: The HTTP request.

    Returns:
        A page; where keys are needed it names no model, as it needs none itself.
    """
    engine: ServingEngine = request.app.state.engine
    has_keys: bool = request.app.state.has_keys
    usable = {} if has_keys else models_for(engine, record_of(request).caller)
    rows = "".join(
        f"<tr><td><code>{escape(model.name)}</code></td><td>{escape(model.kind)}</td>"
        f"<td>{_size(model)}</td>"
        f"<td><code>{escape(model.content_hash[:12])}</code></td></tr>"
        for model in usable.values()
    )
    address = escape(str(request.base_url).rstrip("/"))
    first = "NAME" if has_keys else escape(next(iter(usable), "NAME"))
    key = " -H 'Authorization: Bearer KEY'" if has_keys else ""
    table = _TABLE.format(rows=rows) if rows else _HIDDEN
    return HTMLResponse(_PAGE.format(table=table, address=address, name=first, key=key))


def _size(model: ServedModel) -> str:
    return f"{model.num_bytes / 2**20:,.1f} MiB" if model.num_bytes else "–"


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


_TABLE = (
    "<table><tr><th>model</th><th>kind</th><th>adapter</th><th>artefact</th></tr>{rows}</table>"
)
_HIDDEN = "<p>A key is needed: <code>/v1/models</code> lists what is served.</p>"
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Kamerton</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c1c1c; background: #fff }}
table {{ border-collapse: collapse; width: 100% }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.1rem }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd }}
pre {{ background: #f4f4f4; padding: .8rem; overflow-x: auto }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #e8e8e8; background: #1b1b1b }} pre {{ background: #2a2a2a }}
  th, td {{ border-color: #444 }} }}
</style>
<h1>Kamerton serves one base and its variants</h1>
{table}
<h2>Call it</h2>
<pre>curl {address}/v1/chat/completions{key} -H 'Content-Type: application/json' \\
  -d '{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello"}}]}}'</pre>
<pre>from openai import OpenAI
client = OpenAI(base_url="{address}/v1", api_key="none")
answer = client.chat.completions.create(
    model="{name}", messages=[{{"role": "user", "content": "Hello"}}])
print(answer.choices[0].message.content)</pre>
</html>
"""
