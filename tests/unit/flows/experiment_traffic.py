"""An experiment in a project's store with made-up requests: nothing is drawn, all is counted."""

from collections.abc import Mapping
from datetime import timedelta

from kamerton.evaluation.live_metrics import BUILT_IN
from kamerton.flows.experiment.planning import Guess, measure_baseline, plan_experiment
from kamerton.flows.experiment.registering import read_declared, start_experiment
from kamerton.store.database import Store
from kamerton.store.experiments import update_experiment
from kamerton.store.feedback import Feedback, add_feedback
from kamerton.store.traffic import RequestRow, add_requests, now

TONE = """
name = "tone"
hypothesis = "The LoRA knows our goods better"
control = "prefix"
[arms.prefix]
variant = "shop-prefix"
[arms.lora]
variant = "shop-lora"
[primary]
metric = "thumbs"
smallest_effect = 0.05
[[guardrails]]
metric = "refusal"
margin = 0.05
"""
METRICS = BUILT_IN
VARIANTS = {"prefix": "shop-prefix", "lora": "shop-lora"}


def declared(project, text=TONE, name="tone"):
    """Write the file of an experiment."""
    (project / "experiments").mkdir(exist_ok=True)
    place = project / "experiments" / f"{name}.toml"
    place.write_text(text, encoding="utf-8")
    return place


def started(store: Store, project, days_ago=20.0, text=TONE):
    """Start an experiment as if some days ago."""
    declared(project, text)
    settings = read_declared("tone", project, METRICS)
    primary = METRICS[settings.primary.metric]
    today = measure_baseline(store, settings, primary, guess=Guess(50, 0.8))
    planned = plan_experiment(settings, today, METRICS).planned_units
    found = start_experiment(store, settings, planned, 50.0)
    with store.begin() as connection:
        since = now() - timedelta(days=days_ago)
        update_experiment(connection, "tone", found.version, started=since)
    return found


def fill(
    store: Store,
    units: Mapping[str, int],
    *,
    thumbs: Mapping[str, float] = {},
    refusals: Mapping[str, float] = {},
    rated: Mapping[str, float] = {},
    days_ago=20.0,
    days=18.0,
    in_experiment=True,
    prefix="u",
):
    """Write one request of each unit: shares of thumbs, refusals and rated ones by arm."""
    since, rows, judgements = now() - timedelta(days=days_ago), [], []
    for arm, number in units.items():
        for each in range(number):
            part = each / number
            row = RequestRow(
                f"{prefix}-{arm}-{each}",
                VARIANTS.get(arm, arm),
                created=since + timedelta(days=days * part, seconds=1),
                experiment="tone" if in_experiment else "",
                arm=arm if in_experiment else "",
                propensity=0.5,
                unit=f"{prefix}-{arm}-{each}",
                segment=("retail", "wholesale")[each % 2],
                # Spread a little, and the same in no two requests.
                latency_s=(1.2 if arm == "prefix" else 0.8) + 0.2 * ((each * 7) % 11 - 5) / 5,
                cost=(0.002 if arm == "prefix" else 0.0012) * (1 + ((each * 5) % 13 - 6) / 20),
                refusal=_falls(each, refusals.get(arm, 0.04)),
            )
            rows.append(row)
            if _falls(each * 3 + 1, rated.get(arm, 1.0)):
                value = float(_falls(each * 7 + 3, thumbs.get(arm, 0.8)))
                judgements.append(Feedback(row.id, "thumbs", value, created=row.created))
    with store.begin() as connection:
        add_requests(connection, sorted(rows, key=lambda row: row.created))
        for one in judgements:
            add_feedback(connection, one)


def _falls(number: int, share: float) -> bool:
    """Say whether one of a hundred numbers belongs to a share, evenly spread."""
    return (number * 37) % 100 < share * 100
