"""The gateway as an ASGI application: routes, middleware and error handlers in one place."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Lifespan

from kamerton.core.routing import Exposure
from kamerton.serving.admission import Admission
from kamerton.serving.completions import answer_chat, answer_completion
from kamerton.serving.embeddings import answer_embeddings
from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import (
    ApiError,
    answer_error,
    answer_fault,
    answer_http_error,
    answer_nobody,
)
from kamerton.serving.exposures import Exposures
from kamerton.serving.feedback import FeedbackIntake, take_feedback
from kamerton.serving.guard import Guard
from kamerton.serving.keys import ApiKey, Keys
from kamerton.serving.live_pages import show_feedback_script, show_live_metrics
from kamerton.serving.metrics import Metrics, show_metrics
from kamerton.serving.ofrep import evaluate_flag, evaluate_flags
from kamerton.serving.openapi import show_openapi
from kamerton.serving.pages import (
    PAGE_PATHS,
    list_models,
    say_live,
    say_ready,
    show_model,
    show_page,
)
from kamerton.serving.record import Headers, Recorder, RequestRecord
from kamerton.serving.resolving import decision_headers
from kamerton.serving.routes import Rules
from kamerton.serving.routing import Router
from kamerton.serving.shadows import Shadows
from kamerton.serving.tokenizing import detokenize, show_tokenizer, tokenize

if TYPE_CHECKING:
    from kamerton.serving.recording import Recording

__all__ = ["make_app"]


def make_app(
    engine: ServingEngine,
    *,
    keys: Sequence[ApiKey] = (),
    limit_open: int = 256,
    limit_bytes: int = 1 << 22,
    timeout_s: float = 600.0,
    stall_s: float = 30.0,
    ping_s: float = 15.0,
    router: Router | None = None,
    log_exposure: Callable[[Exposure], None] | None = None,
    most_open_beside_shadows: int = 8,
    record_shadow: Callable[[RequestRecord, str], None] | None = None,
    write_access: Callable[[RequestRecord], None] = lambda record: None,
    recording: "Recording | None" = None,
    feedback: FeedbackIntake | None = None,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """Make the application.

    Args:
        engine: Answers the requests.
        keys: Those that are let in; without any, everybody is let in.
        limit_open: Most answers that may be open at once, waiting ones included.
        limit_bytes: Largest body of a request.
        timeout_s: Seconds after which an answer ends, finished or not.
        stall_s: Seconds that a client may take nothing of its answer, or send a body.
        ping_s: Seconds of silence after which a streamed answer sends a comment.
        router: Chooses variants for names that are routes; None where there is none.
        log_exposure: Called when a unit's arm is decided; `recording` takes it where this is None.
        most_open_beside_shadows: Clients' answers that may be open while shadows are computed.
        record_shadow: Called with the record of each shadow's answer, and the id of the
            completion that the client got; `recording` takes it where this is None.
        write_access: Called with what is known of each request that is over.
        recording: Takes the row of each answered request; None records nothing.
        feedback: Takes judgements of answers; None takes none.
        lifespan: What happens when the server starts and stops.

    Returns:
        An ASGI application.
    """
    metrics, admission = Metrics(), Admission(limit_open)
    router = router or Router(Rules())
    shadows = Shadows(
        engine,
        admission,
        router.counts,
        most_open=most_open_beside_shadows,
        timeout_s=timeout_s,
        record=record_shadow or (recording.add_shadow if recording else _take_nothing),
    )

    def end(record: RequestRecord) -> None:
        metrics.end(record)
        if record.decision is not None and record.answers:
            router.count(record.decision)
        shadows.release(record)
        write_access(record)
        if recording is not None:
            recording.ended(record)

    def headers_of(record: RequestRecord) -> Headers:
        tokens = () if feedback is None else feedback.headers_of(record)
        return (*decision_headers(record), *tokens)

    app = Starlette(
        routes=[
            *(Route(path, show_page) for path in PAGE_PATHS),
            Route("/health", say_live),
            Route("/live", say_live),
            Route("/ready", say_ready),
            Route("/metrics", show_metrics),
            Route("/openapi.json", show_openapi),
            Route("/v1/models", list_models),
            Route("/v1/models/{name:path}", show_model),
            Route("/v1/chat/completions", answer_chat, methods=["POST"]),
            Route("/v1/completions", answer_completion, methods=["POST"]),
            Route("/v1/feedback", take_feedback, methods=["POST", "OPTIONS"]),
            Route("/v1/metrics", show_live_metrics),
            Route("/feedback.js", show_feedback_script),
            Route("/v1/embeddings", answer_embeddings, methods=["POST"]),
            Route("/tokenize", tokenize, methods=["POST"]),
            Route("/detokenize", detokenize, methods=["POST"]),
            Route("/tokenizer_info", show_tokenizer),
            Route("/ofrep/v1/evaluate/flags", evaluate_flags, methods=["POST"]),
            Route("/ofrep/v1/evaluate/flags/{key}", evaluate_flag, methods=["POST"]),
        ],
        middleware=[
            Middleware(
                Recorder,
                begin=metrics.begin,
                end=end,
                stall_s=stall_s,
                answered=None if recording is None else recording.answered,
                headers_of=headers_of,
            ),
            Middleware(Guard, keys=Keys(keys), limit_bytes=limit_bytes, stall_s=stall_s),
        ],
        exception_handlers={
            ApiError: answer_error,
            HTTPException: answer_http_error,
            ClientDisconnect: answer_nobody,
            Exception: answer_fault,
        },
        lifespan=lifespan,
    )
    app.state.engine = engine
    app.state.timeout_s, app.state.ping_s = timeout_s, ping_s
    app.state.metrics, app.state.recording, app.state.feedback = metrics, recording, feedback
    app.state.exposures = Exposures(
        log_exposure or (recording.expose if recording else _take_nothing)
    )
    app.state.router, app.state.shadows = router, shadows
    app.state.admission, app.state.measuring = admission, asyncio.Lock()
    return app


def _take_nothing(*_what: object) -> None:
    pass
