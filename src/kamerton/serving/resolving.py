"""The one place where the name that a request gives becomes the model that answers it."""

from dataclasses import replace

from starlette.requests import Request

from kamerton.core.requests import ServedModel
from kamerton.core.routing import Caller, Decision
from kamerton.serving.admission import ensure_ready
from kamerton.serving.callers import plain_id
from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import ApiError
from kamerton.serving.record import Headers, RequestRecord, record_of
from kamerton.serving.routing import Router

__all__ = ["decision_headers", "models_for", "resolve_model", "shadow_models", "variant_headers"]


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
    record.caller = replace(record.caller, unit=unit)
    decision = router.decide(name, record.caller) or Decision(name)
    found = _usable(engine, decision.variant, record.caller)
    if found is None and decision.route and decision.variant not in engine.models:
        raise ApiError(
            503,
            f"the route '{name}' leads to '{decision.variant}', which is not served now",
            "model",
            headers={"Retry-After": "10"},
        )
    if found is None:
        # While the engine loads, no name is known yet.
        ensure_ready(engine)
        served = ", ".join([*router.rules.routes, *models_for(engine, record.caller)])
        raise ApiError(404, f"the model '{name}' does not exist; served are: {served}", "model")
    shadows = tuple(one for one in decision.shadows if _usable(engine, one, record.caller))
    if shadows != decision.shadows:
        decision = replace(decision, shadows=shadows)
    record.decision, record.model = decision, found.name
    return found


def _usable(engine: ServingEngine, name: str, caller: Caller) -> ServedModel | None:
    """Give a model; for whom it is not, it is not there."""
    found = engine.models.get(name)
    return found if found is not None and found.audience.admits(caller) else None


def models_for(engine: ServingEngine, caller: Caller) -> dict[str, ServedModel]:
    """Give what a caller may use.

    Args:
        engine: Says what is served.
        caller: Who asks.

    Returns:
        Models by name.
    """
    return {name: one for name, one in engine.models.items() if one.audience.admits(caller)}


def shadow_models(request: Request) -> list[ServedModel]:
    """Give the models that get a copy of a request.

    Args:
        request: The HTTP request, whose model was resolved.

    Returns:
        Those of its route that its caller may use.
    """
    engine: ServingEngine = request.app.state.engine
    decision = record_of(request).decision
    return [engine.models[name] for name in decision.shadows] if decision else []


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
