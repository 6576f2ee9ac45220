"""Numbers for Prometheus: `GET /metrics`.

The names of time measures are OpenTelemetry's for generative AI, written as Prometheus writes
them: `gen_ai.server.time_to_first_token` is `gen_ai_server_time_to_first_token_seconds`, and the
bounds of their buckets are those that OpenTelemetry advises.
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response

from kamerton.serving.record import RequestRecord
from kamerton.serving.routing_counts import SILENT_AFTER, RoutingCounts

__all__ = ["Family", "Histogram", "Labels", "Metrics", "show_metrics"]

_FIRST_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
_EACH_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_WHOLE_S = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
_OPERATION, _MODEL = "gen_ai_operation_name", "gen_ai_response_model"

Labels = tuple[tuple[str, str], ...]
Family = tuple[str, str, str, Iterable[tuple[str, Labels, float]]]
"""Name, type, help, and suffix, labels and value of each sample."""


class Histogram:
    """Counts values by size, for each set of labels.

    Args:
        bounds: Upper bounds of the buckets, rising; a value on a bound is inside.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = defaultdict(float)

    def add(self, labels: Labels, value: float) -> None:
        """Count a value.

        Args:
            labels: Names and values.
            value: The value.
        """
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def samples(self) -> Iterator[tuple[str, Labels, float]]:
        """Give what Prometheus reads.

        Yields:
            Suffix of the name, labels, value.
        """
        for labels, counts in self._counts.items():
            total = 0
            for bound, count in zip([*map(str, self._bounds), "+Inf"], counts, strict=True):
                total += count
                yield "_bucket", (*labels, ("le", bound)), total
            yield "_sum", labels, self._sums[labels]
            yield "_count", labels, total


class Metrics:
    """Counts requests, answers, tokens and times. Labels are names of served models only."""

    def __init__(self) -> None:
        self._open: set[RequestRecord] = set()
        self._requests: dict[Labels, int] = defaultdict(int)
        self._tokens: dict[Labels, int] = defaultdict(int)
        self._first, self._each, self._whole = (
            Histogram(bounds) for bounds in (_FIRST_S, _EACH_S, _WHOLE_S)
        )

    def begin(self, record: RequestRecord) -> None:
        """Count a request that came.

        Args:
            record: Of the request.
        """
        self._open.add(record)

    def end(self, record: RequestRecord) -> None:
        """Count a request that is over.

        Args:
            record: Of the request.
        """
        self._open.discard(record)
        labels = ((_OPERATION, record.operation), (_MODEL, record.model))
        self._requests[*labels, ("status", str(record.status))] += 1
        if not record.answers:
            return
        self._tokens[*labels, ("gen_ai_token_type", "input")] += record.num_prompt_tokens
        self._tokens[*labels, ("gen_ai_token_type", "output")] += record.num_tokens
        self._whole.add(labels, record.duration_s)
        if (first := record.time_to_first_token_s) is not None:
            self._first.add(labels, first)
        for answer in record.answers:
            if (each := answer.time_per_output_token_s) is not None:
                self._each.add(labels, each)

    def text(
        self, *, num_open: int, num_restarts: int, is_ready: bool, more: Iterable[Family] = ()
    ) -> str:
        """Write all in Prometheus' text format, version 0.0.4.

        Args:
            num_open: Answers that clients wait for.
            num_restarts: How often the engine was started again.
            is_ready: Whether requests are answered now.
            more: Further families.

        Returns:
            The text.
        """
        waiting = sum(record.num_waiting for record in self._open)
        families: list[Family] = [
            ("kamerton_requests_total", "counter", "Requests that are over.",
             (("", labels, count) for labels, count in self._requests.items())),
            ("kamerton_tokens_total", "counter", "Tokens of prompts and of answers.",
             (("", labels, count) for labels, count in self._tokens.items())),
            ("kamerton_open_answers", "gauge", "Answers that clients wait for.",
             [("", (), num_open)]),
            ("kamerton_waiting_answers", "gauge", "Of these, answers without a first token.",
             [("", (), waiting)]),
            ("kamerton_engine_restarts_total", "counter", "Starts of the engine after a crash.",
             [("", (), num_restarts)]),
            ("kamerton_ready", "gauge", "Whether requests are answered now.",
             [("", (), int(is_ready))]),
            ("gen_ai_server_time_to_first_token_seconds", "histogram",
             "From a request's arrival to its first token.", self._first.samples()),
            ("gen_ai_server_time_per_output_token_seconds", "histogram",
             "Mean time of an answer from a token to the next.", self._each.samples()),
            ("gen_ai_server_request_duration_seconds", "histogram",
             "From a request's arrival to its end.", self._whole.samples()),
            *more,
        ]  # fmt: skip
        lines = []
        for name, kind, help_text, samples in families:
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{suffix}{_label_text(ls)} {value}" for suffix, ls, value in samples]
        return "\n".join(lines) + "\n"


async def show_metrics(request: Request) -> Response:
    """Give the numbers: `GET /metrics`.

    Args:
        request: The HTTP request.

    Returns:
        Prometheus' text format.
    """
    state = request.app.state
    text = state.metrics.text(
        num_open=state.admission.num_open,
        num_restarts=state.engine.num_restarts,
        is_ready=state.engine.is_ready and not state.admission.is_draining,
        more=[
            *_routing(state.router.counts),
            *([] if state.recording is None else state.recording.families()),
        ],
    )
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _routing(counts: RoutingCounts) -> Iterator[Family]:
    """Give what the router has decided, and what came of its shadows."""
    if counts.choices:
        yield (
            "kamerton_routed_requests_total", "counter", "Requests of routes that are over.",
            (("", tuple(one._asdict().items()), n) for one, n in counts.choices.items()),
        )  # fmt: skip
    if counts.shadows:
        yield (
            "kamerton_shadow_requests_total", "counter", "Copies of requests, by outcome.",
            (("", tuple(one._asdict().items()), n) for one, n in counts.shadows.items()),
        )  # fmt: skip
    if silent := list(counts.silent):
        yield (
            "kamerton_shadow_silent", "gauge",
            f"Whether the last {SILENT_AFTER} requests of a route had no answer of its shadow.",
            [("", (("route", route), ("variant", v)), int(is_one)) for route, v, is_one in silent],
        )  # fmt: skip


def _label_text(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
