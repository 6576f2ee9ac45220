"""What is sent as feedback, checked against the metrics that are known."""

from collections.abc import Mapping

from kamerton.evaluation.live_metrics import LiveMetric, metric_problem
from kamerton.evaluation.settings import JsonCheck
from kamerton.store.feedback import Feedback
from kamerton.wire.feedback import FeedbackBody

__all__ = ["CORRECTION", "correction_problem", "judgement_of"]

CORRECTION, COMMENT = "correction", "comment"
"""Names under which a correction or a comment alone is stored."""


def judgement_of(body: FeedbackBody, metrics: Mapping[str, LiveMetric]) -> Feedback | str:
    """Check what was sent.

    Args:
        body: What was sent.
        metrics: The known ones.

    Returns:
        What may be stored; else what is wrong, "FIELD: what must hold and what was found".
    """
    name = body.name
    if not name and body.value is None and body.label is None:
        name = CORRECTION if body.correction is not None else COMMENT
    if name in (CORRECTION, COMMENT):
        if body.value is not None or body.label is not None:
            return f"value: '{name}' takes no value and no label"
        if getattr(body, name) is None:
            return f"{name}: must be given, or the name of a metric"
    elif problem := metric_problem(metrics, name, body.value, body.label):
        return problem
    return Feedback(
        completion_id=body.id,
        name=name,
        value=None if body.value is None else float(body.value),
        label=_stored(body.label),
        rater=_stored(body.rater) or "",
        comment=_stored(body.comment),
        correction=_stored(body.correction),
        source=body.source,
        idempotency_key=_stored(body.idempotency_key),
    )


def correction_problem(
    correction: str | None, variant: str | None, metrics: Mapping[str, LiveMetric]
) -> str | None:
    """Say whether a correction has another format than what is declared for its variant.

    Args:
        correction: What the answer should have been; None without one.
        variant: Who answered; None where that is not known yet.
        metrics: Those with a "json" check say what the format is.

    Returns:
        What must hold; None where all is well.
    """
    if correction is None:
        return None
    for metric in metrics.values():
        check = metric.check
        if isinstance(check, JsonCheck) and (not metric.variants or variant in metric.variants):
            from kamerton.evaluation.checks import worth_of_text

            if not worth_of_text(check, correction):
                return f"correction: must be JSON that passes the check '{metric.name}'"
    return None


def _stored(text: str | None) -> str | None:
    # PostgreSQL takes no zero byte.
    return None if text is None else text.replace("\x00", "")
