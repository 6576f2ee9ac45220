"""The one place where the name that a request gives becomes the model that answers it."""

from starlette.requests import Request

from kamerton.core.requests import ServedModel
from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import ApiError
from kamerton.serving.record import record_of

__all__ = ["resolve_model", "variant_headers"]


def resolve_model(request: Request, name: str) -> ServedModel:
    """Find the model that answers a request, and note it in the request's record.

    Args:
        request: The HTTP request.
        name: What the client wrote.

    Returns:
        The model.

    Raises:
        ApiError: If there is none of that name.
    """
    engine: ServingEngine = request.app.state.engine
    found = engine.models.get(name)
    if found is None:
        served = ", ".join(engine.models)
        raise ApiError(404, f"the model '{name}' does not exist; served are: {served}", "model")
    record_of(request).model = found.name
    return found


def variant_headers(model: ServedModel) -> dict[str, str]:
    """Write the headers of a response that say who answered.

    Args:
        model: Who answered.

    Returns:
        Headers.
    """
    return {"x-kamerton-variant": model.name, "x-kamerton-artefact": model.content_hash}
