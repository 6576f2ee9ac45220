"""The one place where the name that a request gives becomes the model that answers it."""

from dataclasses import replace

from starlette.requests import Request

from kamerton.core.requests import ServedModel
from kamerton.core.routing import Decision
from kamerton.serving.admission import ensure_ready
from kamerton.serving.callers import plain_id
from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import ApiError
from kamerton.serving.record import Headers, RequestRecord, record_of
from kamerton.serving.routing import Router

__all__ = ["decision_headers", "resolve_model", "variant_headers"]


def resolve_model(request: Request, name: str) -> ServedModel:
    """Find the model that answers a request, and note in the request's record how it was chosen.

    Args:
        request: The HTTP request.
        name: What the client wrote: a route, a variant or the base.

    Returns:
        The model.

    Raises:
        ApiError: If there is none of that name, a route leads to one that is gone, or nothing can
            be asked yet.
    """
    engine: ServingEngine = request.app.state.engine
    router: Router = request.app.state.router
    record = record_of(request)
    user = getattr(request.state, "user", None)
    unit = record.caller.unit or plain_id(user if isinstance(user, str) else "")
    record.caller = replace(record.caller, key=record.key, unit=unit)
    decision = router.decide(name, record.caller) or Decision(name)
    found = engine.models.get(decision.variant)
    if found is None and decision.route:
        raise ApiError(
            503,
            f"the route '{name}' leads to '{decision.variant}', which is not served now",
            "model",
            headers={"Retry-After": "10"},
        )
    if found is None:
        # While the engine loads, no name is known yet.
        ensure_ready(engine)
        served = ", ".join([*router.rules.routes, *engine.models])
        raise ApiError(404, f"the model '{name}' does not exist; served are: {served}", "model")
    record.decision, record.model = decision, found.name
    return found


def variant_headers(model: ServedModel) -> dict[str, str]:
    """Write the headers of a response that say who answered.

    Args:
        model: Who answered.

    Returns:
        Headers.
    """
    return {"x-kamerton-variant": model.name, "x-kamerton-artefact": model.content_hash}


def decision_headers(record: RequestRecord) -> Headers:
    """Write the headers of a response that say how its variant was chosen.

    Args:
        record: Of the request.

    Returns:
        Headers; their values are plain ASCII, as the settings of routes and experiments require.
    """
    if record.decision is None:
        return ()
    found = {
        b"x-kamerton-route": record.decision.route,
        b"x-kamerton-experiment": record.decision.experiment,
        b"x-kamerton-arm": record.decision.arm,
    }
    return [(name, value.encode()) for name, value in found.items() if value]
