"""The gateway as an ASGI application: routes, middleware and error handlers in one place."""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Lifespan

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
from kamerton.serving.guard import Guard
from kamerton.serving.keys import ApiKey, Keys
from kamerton.serving.metrics import Metrics, show_metrics
from kamerton.serving.openapi import show_openapi
from kamerton.serving.pages import (
    PAGE_PATHS,
    list_models,
    say_live,
    say_ready,
    show_model,
    show_page,
)
from kamerton.serving.record import Recorder, RequestRecord
from kamerton.serving.tokenizing import detokenize, show_tokenizer, tokenize

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
    write_access: Callable[[RequestRecord], None] = lambda record: None,
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
        write_access: Called with what is known of each request that is over.
        lifespan: What happens when the server starts and stops.

    Returns:
        An ASGI application.
    """
    metrics = Metrics()

    def end(record: RequestRecord) -> None:
        metrics.end(record)
        write_access(record)

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
            Route("/v1/embeddings", answer_embeddings, methods=["POST"]),
            Route("/tokenize", tokenize, methods=["POST"]),
            Route("/detokenize", detokenize, methods=["POST"]),
            Route("/tokenizer_info", show_tokenizer),
        ],
        middleware=[
            Middleware(Recorder, begin=metrics.begin, end=end, stall_s=stall_s),
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
    app.state.metrics = metrics
    app.state.admission = Admission(limit_open)
    return app
