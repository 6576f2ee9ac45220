"""`/ofrep/v1/evaluate/flags`: any OpenFeature SDK can ask which variant or arm a unit gets.

A flag is a route or an experiment, its value the name of a variant. So a shop can show the button
that fits the arm its assistant is in. Whoever asks is exposed: the first assignment is logged.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kamerton.core.files import hash_json
from kamerton.core.requests import ServedModel
from kamerton.core.routing import Caller, Exposure
from kamerton.serving.callers import language_code, plain_id
from kamerton.serving.decisions import Explanation
from kamerton.serving.exposures import Exposures, exposure_of
from kamerton.serving.record import record_of
from kamerton.serving.resolving import models_for
from kamerton.serving.routing import Router
from kamerton.wire.ofrep import FlagError, FlagReason, flag_answer, read_context

__all__ = ["evaluate_flag", "evaluate_flags"]


async def evaluate_flag(request: Request) -> Response:
    """Evaluate one flag: `POST /ofrep/v1/evaluate/flags/{key}`.

    Args:
        request: The HTTP request; its context has the unit as `targetingKey`.

    Returns:
        Value, variant, reason and metadata; or an error of the protocol.
    """
    key = request.path_params["key"]
    try:
        caller = await _caller(request)
        answer, exposure = _evaluate(request, key, caller)
    except FlagError as error:
        return JSONResponse(error.body(key), error.status)
    _note(request, exposure)
    return JSONResponse(answer)


async def evaluate_flags(request: Request) -> Response:
    """Evaluate all flags: `POST /ofrep/v1/evaluate/flags`.

    Args:
        request: The HTTP request, with `If-None-Match` where the client has an answer already.

    Returns:
        All routes and experiments, each with its value or its error; 304 where nothing changed.
    """
    try:
        caller = await _caller(request)
    except FlagError as error:
        return JSONResponse(error.body(), error.status)
    router: Router = request.app.state.router
    flags, exposures = [], []
    for key in dict.fromkeys([*router.rules.routes, *router.rules.experiments]):
        try:
            answer, exposure = _evaluate(request, key, caller)
        except FlagError as error:
            # What is not for this caller is not there.
            if error.code != "FLAG_NOT_FOUND":
                flags.append(error.body(key))
            continue
        flags.append(answer)
        exposures.append(exposure)
    tag = f'"{hash_json(flags)[:32]}"'
    known = request.headers.get("if-none-match", "").split(",")
    if tag in [one.strip().removeprefix("W/") for one in known]:
        return Response(status_code=304, headers={"ETag": tag})
    for exposure in exposures:
        _note(request, exposure)
    metadata = {"version": router.rules.version}
    return JSONResponse({"flags": flags, "metadata": metadata}, headers={"ETag": tag})


def _evaluate(request: Request, key: str, caller: Caller) -> tuple[dict[str, Any], Exposure | None]:
    router: Router = request.app.state.router
    found = router.explain(key, caller) or router.explain_experiment(key, caller)
    usable = models_for(request.app.state.engine, caller)
    if found is None or found.decision.variant not in usable:
        raise FlagError("FLAG_NOT_FOUND", "there is no route and no experiment of this name")
    if found.lacks:
        where = "targetingKey" if found.lacks == "unit" else found.lacks
        raise FlagError("TARGETING_KEY_MISSING", f"the context must have {where}")
    decision = found.decision
    answer = flag_answer(
        key,
        decision.variant,
        decision.arm or decision.variant,
        _reason(found),
        _metadata(found, usable[decision.variant]),
    )
    return answer, exposure_of(router.rules, decision, caller)


def _reason(found: Explanation) -> FlagReason:
    if found.is_stopped:
        return "DISABLED"
    if found.decision.reason in ("split", "canary", "experiment"):
        return "SPLIT"
    return "TARGETING_MATCH" if found.decision.reason == "rule" else "STATIC"


def _metadata(found: Explanation, model: ServedModel) -> Mapping[str, str | float]:
    decision = found.decision
    said: dict[str, str | float] = {
        "route": decision.route,
        "rule": decision.rule,
        "experiment": decision.experiment,
        "arm": decision.arm,
        "artefact": model.content_hash,
        "version": decision.version,
    }
    metadata = {name: value for name, value in said.items() if value}
    return metadata | {"propensity": decision.propensity}


async def _caller(request: Request) -> Caller:
    """Say who is asked about: the context first, then the headers of the request."""
    context = read_context(await request.body())
    caller = record_of(request).caller
    texts = {name: plain_id(value) for name, value in context.items() if isinstance(value, str)}
    if caller.tenant and texts.get("tenant", caller.tenant) != caller.tenant:
        raise FlagError("INVALID_CONTEXT", "the tenant is another one than this request's")
    said = {name: texts[name] for name in ("segment", "tenant", "conversation") if texts.get(name)}
    language = language_code(texts.get("language", "")) or caller.language
    unit = texts.get("targetingKey") or caller.unit
    # Rules that ask for a header find it in the context too.
    headers = {**caller.headers, **{name.lower(): text for name, text in texts.items()}}
    return replace(caller, unit=unit, language=language, headers=headers, **said)


def _note(request: Request, exposure: Exposure | None) -> None:
    exposures: Exposures = request.app.state.exposures
    exposures.note(exposure)
