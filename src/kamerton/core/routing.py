"""Who asks, and which variant answers: plain values that router, recorder and experiments share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

__all__ = ["Caller", "Decision", "Exposure", "Reason", "RoutingEvent", "now_utc"]

Reason = Literal["named", "rule", "default", "split", "canary", "experiment"]
"""Why a variant answers: it was asked for by name, a rule names it, nothing chose another, weights
chose it, the unit is in a canary's ramp, an experiment assigned it."""


def now_utc() -> datetime:
    """Give the time as the store keeps it.

    Returns:
        UTC without a zone.
    """
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request says about who asks; empty where it says nothing.

    Attributes:
        key: Name of the API key.
        unit: Stable id of the user, shop or ticket that experiments assign: OpenAI's `user`, or the
            header `x-kamerton-unit`. Hashed before it is stored where the policy says so.
        conversation: Id of the conversation: header `x-kamerton-conversation`.
        segment: Audience segment: header `x-kamerton-segment`.
        tenant: Whose customer it is: header `x-kamerton-tenant`.
        language: "ru", "en" or another code: header `x-kamerton-language`, else `accept-language`.
        headers: All headers, names in lower case; values of `authorization` are never here.
    """

    key: str = ""
    unit: str = ""
    conversation: str = ""
    segment: str = ""
    tenant: str = ""
    language: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Which variant answers a request, and why.

    Attributes:
        variant: Name of the served model that answers.
        reason: Why.
        route: The route that the client asked for; empty where it named a variant.
        rule: Which rule of the route matched; empty without one.
        experiment: The experiment that assigned the unit; empty without one.
        arm: The unit's arm; empty outside of an experiment.
        propensity: Probability with which this arm was drawn, in (0, 1].
        shadows: Served models that get a copy of the request; their answers are recorded, not sent.
        version: Version of the routing rules that decided; empty without any.
    """

    variant: str
    reason: Reason = "named"
    route: str = ""
    rule: str = ""
    experiment: str = ""
    arm: str = ""
    propensity: float = 1.0
    shadows: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True)
class Exposure:
    """A unit's assignment in an experiment, at the moment when it was decided.

    Attributes:
        experiment: Name of the experiment.
        unit: The unit.
        arm: The arm that it got.
        propensity: Probability with which the arm was drawn.
        created: When, UTC without a zone.
    """

    experiment: str
    unit: str
    arm: str
    propensity: float = 1.0
    created: datetime = field(default_factory=now_utc)


@dataclass(frozen=True, slots=True)
class RoutingEvent:
    """A change of how requests are routed, for the audit.

    Attributes:
        what: "rules loaded", "rules refused", "arm stopped", "arm resumed", "canary stopped",
            "canary resumed" or "shadow silent".
        by_whom: Name of a key, a signal or a guardrail.
        experiment: Name of the experiment; empty where it is about none.
        detail: Plain values that JSON can hold.
        created: When, UTC without a zone.
    """

    what: str
    by_whom: str
    experiment: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    created: datetime = field(default_factory=now_utc)
