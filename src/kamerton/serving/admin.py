"""The admin API: an application of its own, on a port and with a key of its own."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kamerton.core.requests import HeldVariant, ServedModel
from kamerton.serving.admin_routes import ROUTES
from kamerton.serving.errors import ApiError, answer_error, answer_http_error
from kamerton.serving.guard import Guard, refuse_pages
from kamerton.serving.keys import ApiKey, Keys
from kamerton.serving.route_source import RouteSource
from kamerton.serving.switching import Switching
from kamerton.wire.admin import LoadAdapter, PutModel, UnloadAdapter

__all__ = [
    "delete_model",
    "list_versions",
    "load_adapter",
    "make_admin_app",
    "put_model",
    "roll_back",
    "unload_adapter",
]

_Body = TypeVar("_Body", bound=BaseModel)


def make_admin_app(
    switching: Switching,
    *,
    routes: RouteSource | None = None,
    keys: Sequence[ApiKey] = (),
    limit_bytes: int = 1 << 16,
) -> Starlette:
    """Make the application.

    Args:
        switching: Loads and unloads.
        routes: Reads routes again; None where there are none.
        keys: The keys that are let in; without any, everybody is let in.
        limit_bytes: Largest body of a request.

    Returns:
        An ASGI application.
    """
    app = Starlette(
        routes=[
            Route("/v1/load_lora_adapter", load_adapter, methods=["POST"]),
            Route("/v1/unload_lora_adapter", unload_adapter, methods=["POST"]),
            Route("/admin/models", list_versions),
            Route("/admin/models/{name}", put_model, methods=["PUT"]),
            Route("/admin/models/{name}", delete_model, methods=["DELETE"]),
            Route("/admin/models/{name}/rollback", roll_back, methods=["POST"]),
            *ROUTES,
        ],
        middleware=[Middleware(Guard, keys=Keys(keys), limit_bytes=limit_bytes, scope="admin")],
        exception_handlers={ApiError: answer_error, HTTPException: answer_http_error},
    )
    app.state.switching, app.state.route_source = switching, routes
    return app


async def load_adapter(request: Request) -> Response:
    """Load a variant of any kind, as vLLM loads a LoRA: `POST /v1/load_lora_adapter`.

    Args:
        request: The HTTP request.

    Returns:
        A sentence.

    Raises:
        ApiError: If the name is taken, or the variant is nowhere or cannot be served.
    """
    switching = _switching(request)
    body = await _read(request, LoadAdapter)
    await switching.load(body.lora_name, body.lora_path, may_replace=body.load_inplace)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")


async def unload_adapter(request: Request) -> Response:
    """Forget a name, as vLLM does: `POST /v1/unload_lora_adapter`.

    Args:
        request: The HTTP request.

    Returns:
        A sentence.

    Raises:
        ApiError: If the name is unknown, or the base.
    """
    body = await _read(request, UnloadAdapter)
    await _switching(request).unload(body.lora_name)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


async def list_versions(request: Request) -> Response:
    """List names with all their versions and their memory: `GET /admin/models`.

    Args:
        request: The HTTP request.

    Returns:
        Names and versions, and what all adapters take together.
    """
    switching = _switching(request)
    held = await switching.held()
    models = [
        {
            "name": name,
            "artefact": current.content_hash,
            "kind": current.kind,
            "versions": [_version(one, held) for one in switching.versions(name)],
        }
        for name, current in switching.models.items()
    ]
    resident = sum(one.num_bytes for one in held.values() if one.is_resident)
    leaving = [_held(one) for one in held.values() if one.is_leaving]
    return JSONResponse({"bytes": resident, "models": models, "leaving": leaving})


async def put_model(request: Request) -> Response:
    """Say what a name means from now on: `PUT /admin/models/{name}`.

    Args:
        request: The HTTP request; its body has the path of a variant to load, or the content hash
            of a version that is held already.

    Returns:
        The version.

    Raises:
        ApiError: If it is nowhere or cannot be served.
    """
    switching, name = _switching(request), request.path_params["name"]
    body = await _read(request, PutModel)
    if body.path is not None:
        model = await switching.load(name, body.path, may_replace=True)
    else:
        model = await switching.point(name, body.artefact or "")
    return JSONResponse(_model(model))


async def roll_back(request: Request) -> Response:
    """Let a name mean its earlier version again: `POST /admin/models/{name}/rollback`.

    Args:
        request: The HTTP request.

    Returns:
        The version.

    Raises:
        ApiError: If there is none.
    """
    model = await _switching(request).roll_back(request.path_params["name"])
    return JSONResponse(_model(model))


async def delete_model(request: Request) -> Response:
    """Forget a name: `DELETE /admin/models/{name}`.

    Args:
        request: The HTTP request.

    Returns:
        Status 204.

    Raises:
        ApiError: If the name is unknown, or the base.
    """
    await _switching(request).unload(request.path_params["name"])
    return Response(status_code=204)


def _switching(request: Request) -> Switching:
    refuse_pages(request)
    switching: Switching = request.app.state.switching
    return switching


async def _read(request: Request, kind: type[_Body]) -> _Body:
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        raise ApiError.of_validation(error) from None


def _version(model: ServedModel, held: dict[str, HeldVariant]) -> dict[str, Any]:
    found = held.get(model.content_hash)
    return {**_model(model), **(_held(found) if found else {})}


def _model(model: ServedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "artefact": model.content_hash,
        "kind": model.kind,
        "bytes": model.num_bytes,
    }


def _held(one: HeldVariant) -> dict[str, Any]:
    return {
        "artefact": one.content_hash,
        "bytes": one.num_bytes,
        "resident": one.is_resident,
        "requests": one.num_requests,
    }
