"""What training says about rows that hang together."""

import json
from pathlib import Path

from kamerton.core.events import Event, Notice
from kamerton.data.prepared import prepare
from kamerton.data.settings import DataSettings
from kamerton.data.ties import say_ties


def said(folder: Path, rows: list[dict[str, str]], **settings: object) -> list[str]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataSettings.parse({"train": str(path), **settings})
    events: list[Event] = []
    say_ties(prepare(data), data, events.append)
    return [event.message for event in events if isinstance(event, Notice)]


def turns(groups: int, text: str) -> list[dict[str, str]]:
    return [
        {"text": text if n == 1 else f"I want {g}.{n}", "label": "a", "customer": f"c{g}"}
        for g in range(groups)
        for n in range(4)
    ]


def test_cut_ties_and_large_clusters_are_named(tmp_path: Path) -> None:
    (cut,) = said(tmp_path, turns(30, "Yes, please."), group="customer")
    assert cut.startswith("equal short questions of different groups may stand on both sides")
    large = [{"text": f"own {n}", "label": "a", "customer": "big"} for n in range(90)]
    (named,) = said(tmp_path, [*large, *turns(15, "one")][:150], group="customer")[-1:]
    assert named.startswith("90 of 150 rows of 1 group, such as 'big', hang together")
    assert "rows.jsonl:1 ('own 0')" in named


def test_without_groups_equal_questions_are_named_where_they_take_the_share(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "a"} for n in range(100)]
    assert said(tmp_path, rows) == []
    (named,) = said(tmp_path, [{"text": "same", "label": "a"} for _ in range(97)] + rows[:3])
    assert named.startswith("97 of 100 rows hang together")
    assert said(tmp_path, rows, holdout=0) == []
    (of_test,) = said(
        tmp_path, [{"text": "same", "label": "a"}] * 97 + rows[:3], holdout=0, test=0.1
    )
    assert of_test == named
    assert said(tmp_path, rows[:3]) == []


def test_the_holdout_is_compared_with_the_rows_that_the_test_set_leaves(tmp_path: Path) -> None:
    large = [{"text": f"own {n}", "label": "a", "customer": "big"} for n in range(24)]
    others = [{"text": f"other {n}", "label": "a", "customer": f"c{n}"} for n in range(76)]
    assert said(tmp_path, [*large, *others], group="customer") == []
    (named,) = said(tmp_path, [*large, *others], group="customer", test=0.2)
    assert named.startswith("24 of 80 rows of 1 group, such as 'big', hang together")
