"""How reports on experiments name what they find: verdicts, decisions, metrics, units, events.

All are worded in the language that is spoken now (`core.language`). Sentences that stand in one
place are worded there.
"""

from typing import Literal

from kamerton.core.language import translated
from kamerton.experiments.guardrails import GuardrailVerdict
from kamerton.experiments.settings import UnitKind
from kamerton.experiments.verdict import Aspect, Decision, Verdict

__all__ = ["Advice", "advice_text", "aspect_text", "decision_word", "event_text"]
__all__ += ["guardrail_word", "known_text", "metric_name", "unit_word", "verdict_word"]

Advice = Decision | Literal["stopped arm", "ended"]
"""What a headline says to do; the last two are for what is done already."""


def verdict_word(verdict: Verdict) -> str:
    """Name a verdict about a metric.

    Args:
        verdict: The verdict.

    Returns:
        Its words.
    """
    return {
        "better": translated("better"),
        "worse": translated("worse"),
        "about the same": translated("about the same"),
        "undecided": translated("undecided"),
        "hidden": translated("hidden"),
    }[verdict]


def guardrail_word(verdict: GuardrailVerdict) -> str:
    """Name a verdict about a guardrail.

    Args:
        verdict: The verdict.

    Returns:
        Its word.
    """
    return {
        "fine": translated("fine"),
        "harmed": translated("harmed"),
        "undecided": translated("undecided"),
    }[verdict]


def decision_word(decision: Decision) -> str:
    """Name what is to be done with an arm.

    Args:
        decision: The decision.

    Returns:
        A verb, in Russian an infinitive.
    """
    return {
        "promote": translated("promote"),
        "roll back": translated("roll back"),
        "keep the control": translated("keep the control"),
        "choose": translated("choose"),
        "go on": translated("go on"),
        "investigate": translated("investigate"),
    }[decision]


def advice_text(advice: Advice, *, variant: str, control: str, answering: str) -> str:
    """Say what is to be done with an arm.

    Args:
        advice: The decision, or what was done already.
        variant: What the arm answers with.
        control: What the control answers with.
        answering: What answers everybody after the experiment.

    Returns:
        A sentence without a full stop.
    """
    names = {"variant": variant, "control": control}
    return {
        "promote": translated("Switch to {variant}", **names),
        "roll back": translated("Take {variant} back, as it does harm", **names),
        "keep the control": translated("Keep {control}: nothing speaks for {variant}", **names),
        "choose": translated("A person has to choose between {control} and {variant}", **names),
        "go on": translated("Wait: it is too early to switch to {variant}", **names),
        "investigate": translated(
            "Do not decide yet: the groups are not comparable, so no effect is shown"
        ),
        "stopped arm": translated("{variant} was taken back", **names),
        "ended": translated(
            "The experiment is over, and {answering} answers everybody", answering=answering
        ),
    }[advice]


def aspect_text(aspect: Aspect, verdict: str) -> str:
    """Say what a metric is about, and the verdict about it.

    Args:
        aspect: Quality, cost or latency.
        verdict: Words of the verdict.

    Returns:
        Such as "quality undecided".
    """
    return {
        "quality": translated("quality {verdict}", verdict=verdict),
        "cost": translated("cost {verdict}", verdict=verdict),
        "latency": translated("latency {verdict}", verdict=verdict),
    }[aspect]


def known_text(aspect: Aspect, verdict: Verdict, difference: str) -> str:
    """Say in a clause what is known of quality, cost or latency.

    Args:
        aspect: What the metric is about.
        verdict: What is known; effects that are hidden have no clause.
        difference: The difference of quality, with its unit.

    Returns:
        The clause.
    """
    return {
        ("quality", "better"): translated(
            "quality is better ({difference})", difference=difference
        ),
        ("quality", "worse"): translated("quality is worse ({difference})", difference=difference),
        ("quality", "about the same"): translated("quality is about the same"),
        ("quality", "undecided"): translated("quality is undecided"),
        ("cost", "better"): translated("it costs less"),
        ("cost", "worse"): translated("it costs more"),
        ("cost", "about the same"): translated("cost is about the same"),
        ("cost", "undecided"): translated("cost is undecided"),
        ("latency", "better"): translated("it is faster"),
        ("latency", "worse"): translated("it is slower"),
        ("latency", "about the same"): translated("latency is about the same"),
        ("latency", "undecided"): translated("latency is undecided"),
    }[aspect, verdict]


def unit_word(unit: UnitKind) -> str:
    """Name what an arm is given to.

    Args:
        unit: The kind of unit.

    Returns:
        Its plural.
    """
    return {
        "unit": translated("units"),
        "conversation": translated("conversations"),
        "tenant": translated("customers"),
        "key": translated("API keys"),
    }[unit]


def metric_name(metric: str) -> str:
    """Give the name of a metric that people understand.

    Args:
        metric: A built-in or a declared metric.

    Returns:
        Its words; the name itself where it was declared.
    """
    return {
        "thumbs": translated("thumbs up"),
        "rating": translated("rating, 1 to 5"),
        "refusal": translated("refusals"),
        "accuracy": translated("all checks pass"),
        "invalid_format": translated("wrong format"),
        "error": translated("errors"),
        "latency": translated("latency"),
        "time_to_first_token": translated("time to first token"),
        "cost": translated("cost of an answer"),
        "asked_again": translated("asked again"),
        "edited": translated("share of the answer that was edited"),
        "escalation": translated("a person had to take over"),
    }.get(metric, metric)


def event_text(event: str, arm: str) -> str:
    """Say what was done to an experiment.

    Args:
        event: As it was recorded.
        arm: The arm that it was done to; may be empty.

    Returns:
        Its words; the event itself where it is none of ours.
    """
    return {
        "started": translated("started"),
        "stopped": translated("ended"),
        "arm stopped": translated("arm {arm} taken back", arm=arm),
        "arm resumed": translated("arm {arm} resumed", arm=arm),
    }.get(event, event)
