"""`kamerton feedback`: tables in, training rows out, as `check` takes them."""

import json
from datetime import datetime

import pytest
from click.testing import CliRunner

from kamerton.cli.main import main
from kamerton.core.errors import DataError
from kamerton.data.dataset import load_examples
from kamerton.data.settings import DataSettings
from kamerton.evaluation.live_metrics import BUILT_IN, LiveMetric
from kamerton.flows.feedback import export_feedback, import_feedback, measure_agreement
from kamerton.store.database import open_store
from kamerton.store.feedback import Feedback, add_feedback, latest_feedback
from kamerton.store.traffic import RequestRow, add_requests


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "kamerton.db") as opened:
        yield opened


def asked(number, question="q", answer="a", **values):
    prompt = json.dumps([{"role": "user", "content": question}])
    return RequestRow(f"c{number}", "shop", prompt=prompt, answer=answer, **values)


def put(store, rows, judgements):
    with store.begin() as connection:
        add_requests(connection, rows)
        for each in judgements:
            add_feedback(connection, each)


def rows_in(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def test_a_table_is_stored_once_and_what_is_wrong_is_listed(store, tmp_path):
    put(store, [asked(1)], [])
    table = tmp_path / "votes.csv"
    table.write_text(
        "Ticket;Оценка;Комментарий\nc1;4,5;ok ann@example.com\nc2;5;\nc3;9;\n;4;\n", "cp1251"
    )
    columns = {"id": "Ticket", "value": "Оценка", "comment": "Комментарий"}
    told = import_feedback(store, table, BUILT_IN, columns=columns, name="rating")
    assert (told.num_new, told.num_known, told.num_early) == (2, 0, 1)
    assert [(one.location.line, one.field) for one in told.refused] == [(4, "value"), (5, "id")]
    events = []
    again = import_feedback(
        store, table, BUILT_IN, columns=columns, name="rating", sink=events.append
    )
    assert (again.num_new, again.num_known) == (0, 2)
    assert [(e.done, e.total) for e in events if e.unit == "rows"] == [(n, 4) for n in range(1, 5)]
    with store.begin() as connection:
        found = [
            (each.completion_id, each.value, each.comment, each.source)
            for each in latest_feedback(connection)
        ]
    assert found == [("c1", 4.5, "ok [EMAIL_1]", "import"), ("c2", 5.0, None, "import")]


def test_words_for_yes_and_no_are_truths_and_unknown_fields_are_refused(store, tmp_path):
    table = tmp_path / "votes.csv"
    table.write_text("completion_id,metric,value,rater\nc1,thumbs,да,ann\nc1,thumbs,👎,bob\n")
    assert import_feedback(store, table, BUILT_IN, columns={}).num_new == 2
    with store.begin() as connection:
        assert [each.value for each in latest_feedback(connection)] == [1.0, 0.0]
    with pytest.raises(DataError, match="variant"):
        import_feedback(store, table, BUILT_IN, columns={"variant": "x"})


def test_corrections_become_chats_that_check_takes(store, tmp_path):
    put(
        store,
        [
            asked(1, "where?"),
            asked(2, "same"),
            asked(3, "same"),
            asked(4, answer=None),
        ],
        [
            Feedback("c1", "correction", correction="On its way.", rater="ann"),
            Feedback("c1", "correction", correction="It is on its way.", rater="ann"),
            Feedback("c2", "correction", correction="one", rater="ann"),
            Feedback("c3", "correction", correction="two", rater="bob"),
            Feedback("c4", "correction", correction="no text", rater="bob"),
        ],
    )
    out = tmp_path / "sft.jsonl"
    found = export_feedback(store, "sft", out, per_rater=100)
    assert [row["messages"] for row in rows_in(out)] == [
        [user("where?"), assistant("It is on its way.")]
    ]
    apart = [row["messages"][1]["content"] for row in rows_in(tmp_path / "sft.conflicts.jsonl")]
    assert apart == ["one", "two"]
    assert found.num_without_text == 1
    (example,) = load_examples(DataSettings(train=str(out), holdout=0)).examples
    assert example.messages[1]["content"] == "It is on its way."


def test_pairs_prefer_corrections_and_good_answers(store, tmp_path):
    put(
        store,
        [asked(1, "p", "wrong"), asked(2, "q", "good"), asked(3, "q", "bad"), asked(4, "q", "x")],
        [
            Feedback("c1", "correction", correction="right"),
            Feedback("c2", "rating", 5.0, rater="ann"),
            Feedback("c3", "thumbs", 0.0, rater="ann"),
            Feedback("c4", "rating", 3.0, rater="ann"),
        ],
    )
    out = tmp_path / "pairs.jsonl"
    export_feedback(store, "pairs", out, per_rater=100)
    told = [
        (row["prompt"][0]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"])
        for row in rows_in(out)
    ]
    assert told == [("p", "right", "wrong"), ("q", "good", "bad")]
    examples = load_examples(DataSettings(train=str(out), holdout=0)).examples
    assert [type(one).__name__ for one in examples] == ["PreferenceExample"] * 2


def test_verdicts_of_raters_who_contradict_each_other_are_set_apart(store, tmp_path):
    put(
        store,
        [asked(1, "p", "yes"), asked(2, "q", "split"), asked(3, "r", "no")],
        [
            Feedback("c1", "thumbs", 1.0, rater="ann"),
            Feedback("c2", "thumbs", 1.0, rater="ann"),
            Feedback("c2", "rating", 1.0, rater="bob"),
            Feedback("c3", "rating", 2.0, rater="bob"),
        ],
    )
    out = tmp_path / "kto.jsonl"
    export_feedback(store, "kto", out, per_rater=100)
    told = [(row["completion"][0]["content"], row["label"]) for row in rows_in(out)]
    assert told == [("yes", True), ("no", False)]
    assert len(rows_in(tmp_path / "kto.conflicts.jsonl")) == 1
    examples = load_examples(DataSettings(train=str(out), holdout=0)).examples
    assert [one.is_desirable for one in examples] == [True, False]


def test_one_rater_gives_so_many_rows_and_pages_are_many_people(store, tmp_path):
    rows = [asked(n, f"q{n}", unit=f"u{n % 3}") for n in range(12)]
    named = [Feedback(f"c{n}", "thumbs", 1.0, rater="ann") for n in range(6)]
    pages = [Feedback(f"c{n}", "thumbs", 1.0, rater="page") for n in range(6, 12)]
    put(store, rows, [*named, *pages])
    out = tmp_path / "kto.jsonl"
    found = export_feedback(store, "kto", out, per_rater=1)
    # One of ann's, and one of each unit on pages.
    assert [row["completion_id"] for row in rows_in(out)] == ["c0", "c6", "c7", "c8"]
    assert found.num_over_cap == 8


def test_exports_hold_no_personal_data(store, tmp_path):
    put(
        store,
        [asked(1, "I am ann@example.com", "call +7 916 123-45-67")],
        [Feedback("c1", "correction", correction="write to ann@example.com")],
    )
    out = tmp_path / "pairs.jsonl"
    export_feedback(store, "pairs", out, per_rater=100)
    (row,) = rows_in(out)
    assert row["prompt"] == [user("I am [EMAIL_1]")]
    assert row["chosen"] == [assistant("write to [EMAIL_1]")]
    assert row["rejected"] == [assistant("call [PHONE_1]")]
    export_feedback(store, "pairs", out, per_rater=100, keeps_personal=True)
    assert "ann@example.com" in out.read_text()


def test_answers_that_call_functions_keep_their_calls(store, tmp_path):
    calls = [{"type": "function", "function": {"name": "find", "arguments": {"id": 1}}}]
    answer = json.dumps({"content": "", "tool_calls": calls})
    put(store, [asked(1, answer=answer)], [Feedback("c1", "thumbs", 1.0)])
    out = tmp_path / "kto.jsonl"
    export_feedback(store, "kto", out, per_rater=9)
    assert rows_in(out)[0]["completion"] == [{**assistant(""), "tool_calls": calls}]


def test_recorded_questions_come_once_and_the_newest_first(store, tmp_path):
    rows = [
        asked(number, question, answer, created=datetime(2026, 12, 1, number))
        for number, (question, answer) in enumerate(
            [("a", "1"), ("b", "2"), ("a", "3"), ("mail ann@example.com", "4"), ("c", "5")]
        )
    ]
    untold = RequestRow("c9", "shop", created=datetime(2026, 12, 1, 9))
    corrections = [Feedback("c0", "", correction="old"), Feedback("c1", "", correction="right")]
    put(store, [*rows, untold], corrections)
    place = tmp_path / "asked.jsonl"
    found = export_feedback(store, "prompts", place, limit=3)
    assert found.num_without_text == 1
    assert [row["messages"] for row in rows_in(place)] == [
        [user("c"), assistant("5")],
        [user("mail [EMAIL_1]"), assistant("4")],
        [user("a"), assistant("old")],
    ]
    assert [row["completion_id"] for row in rows_in(place)] == ["c4", "c3", "c2"]
    assert len(load_examples(DataSettings(train=str(place))).examples) == 3
    export_feedback(store, "prompts", place)
    assert rows_in(place)[-1]["messages"] == [user("b"), assistant("right")]


def test_agreement_is_that_of_each_raters_last_word(store):
    topic = LiveMetric.parse({"name": "topic", "type": "label"})
    put(
        store,
        [],
        [
            Feedback("c1", "topic", label="bill", rater="ann"),
            Feedback("c1", "topic", label="lost", rater="ann"),
            Feedback("c1", "topic", label="lost", rater="bob"),
            Feedback("c2", "topic", label="bill", rater="ann"),
            Feedback("c2", "topic", label="bill", rater="bob"),
            Feedback("c3", "topic", label="bill", rater="bob"),
        ],
    )
    (found,) = measure_agreement(store, {"topic": topic})
    assert (found.metric, found.num_items, found.alpha) == ("topic", 2, 1.0)


def test_the_command_line_imports_exports_and_compares(store, tmp_path):
    put(store, [asked(1, "q", "a")], [])
    table = tmp_path / "votes.csv"
    table.write_text("id,name,value,rater\nc1,thumbs,yes,ann\nc1,thumbs,yes,bob\nc1,stars,2,bob\n")

    def run(*arguments):
        return CliRunner().invoke(main, ["feedback", *arguments, "--project", str(tmp_path)])

    imported = run("import", str(table))
    assert imported.exit_code == 1
    assert "2 new, 0 known before, 1 not usable" in imported.output
    assert "'stars' is no metric" in imported.output
    out = tmp_path / "kto.jsonl"
    assert "1 row in" in run("export", str(out), "--to", "kto").output
    assert rows_in(out)[0]["label"] is True
    (told,) = json.loads(run("agreement", "--json").stdout)
    assert told == {"metric": "thumbs", "num_items": 1, "alpha": None}


def test_what_a_table_lacks_is_said_once(store, tmp_path):
    table = tmp_path / "rated.csv"
    table.write_text("Ticket;Score\nchatcmpl-1;4\nchatcmpl-2;5\n")
    with pytest.raises(DataError, match="no column 'id'; found are 'Ticket', 'Score'"):
        import_feedback(store, table, BUILT_IN, columns={}, name="rating")
    with pytest.raises(DataError, match="no column 'Nr'; found"):
        import_feedback(store, table, BUILT_IN, columns={"id": "Nr"}, name="rating")
    with pytest.raises(DataError, match="no column says which metric"):
        import_feedback(store, table, BUILT_IN, columns={"id": "Ticket", "value": "Score"})
    table.write_text("")
    with pytest.raises(DataError, match="no row"):
        import_feedback(store, table, BUILT_IN, columns={}, name="rating")
    table.write_text("id,value\nchatcmpl-1,five\n")
    told = import_feedback(store, table, BUILT_IN, columns={}, name="rating")
    assert "must be a number, or true or false, got 'five'" in str(told.refused[0])


def test_a_store_that_is_not_there_is_not_made_by_reading(tmp_path):
    for verb in (["metrics"], ["experiment", "status"], ["feedback", "agreement"]):
        found = CliRunner().invoke(main, [*verb, "--project", str(tmp_path)])
        assert "nothing was recorded yet" in str(found.exception), verb
    assert list(tmp_path.iterdir()) == []
