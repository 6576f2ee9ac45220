import pytest

from kamerton.data.audit.audit import audit
from kamerton.data.examples import PreferenceExample, SourceLocation
from kamerton.data.formats.detection import settle_schema
from kamerton.data.formats.parsing import parse_row
from kamerton.data.formats.rankings import number_of, order_pairs
from kamerton.data.rows import Rejection, Row
from tests.unit.data.files import load

LOCATION = SourceLocation("a.jsonl", 1)
Q = {"role": "user", "content": "q"}
A = {"role": "assistant", "content": "a"}
S = {"role": "system", "content": "s"}


def parse(fields, **options):
    schema = settle_schema([fields], name="a", **options)
    return parse_row(Row(LOCATION, fields), schema)


def compared(fields, **options):
    """Pairs as "better>worse"."""
    outcome = parse(fields, **options)
    assert isinstance(outcome, tuple), outcome
    return [f"{e.chosen[-1]['content']}>{e.rejected[-1]['content']}" for e in outcome]


@pytest.mark.parametrize(
    ("which", "pairs"),
    [
        ("all", [(2, 0), (2, 3), (2, 1), (0, 1), (3, 1)]),
        ("neighbours", [(2, 0), (2, 3), (0, 1), (3, 1)]),
        ("best-worst", [(2, 1)]),
    ],
)
def test_which_pairs(which, pairs):
    assert order_pairs([3, 1, 5, 3], which) == pairs
    assert order_pairs([3, 3], which) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"answers": ["a", "b", "c"]},
        {"responses": [[A], [{**A, "content": "b"}], {"from": "gpt", "value": "c"}]},
        {"completions": ["c", "a", "b"], "ranks": [3, 1, 2]},
        {"answers": ["c", "a", "b"], "ranking": [2.5, 1, "2"]},
        {"answers": '["c", "a", "b"]', "scores": "[0, 1, 0.5]"},
        {"answers": ["c", "a", "b"], "ratings": ["1", "5", "4.5"]},
        {"candidates": [{"text": t, "score": s} for t, s in (("b", 0), ("a", 1), ("c", -1))]},
        {"answers": [{"answer": t, "rank": r} for t, r in (("b", 2.0), ("a", 1.0), ("c", 7.0))]},
        {"answers": [{"content": t, "rating": r} for t, r in (("b", 2), ("a", 3), ("c", 1))]},
        {
            "answers": [
                {**A, "score": 3},
                {**A, "content": "b", "score": 2},
                {"text": "c", "score": 1},
            ]
        },
    ],
)
def test_lists_in_every_form(fields):
    assert compared({"prompt": "q", **fields}) == ["a>b", "a>c", "b>c"]


@pytest.mark.parametrize("name", ["rank", "ranks"])
def test_a_list_of_ranks_counts_before_the_order(name):
    assert compared({"prompt": "q", "answers": ["b", "a"], name: [2, 1]}) == ["a>b"]


@pytest.mark.parametrize("name", ["score", "rating", "scores"])
def test_a_list_of_scores_counts_before_the_order(name):
    assert compared({"prompt": "q", "answers": ["b", "a"], name: "[1, 2]"}) == ["a>b"]


def test_one_score_of_a_whole_row_is_no_list():
    assert compared({"prompt": "q", "answers": ["a", "b"], "score": 3}) == ["a>b"]


@pytest.mark.parametrize("name", ["winner", "preference"])
def test_a_judgement_that_nothing_reads_is_named(tmp_path, name):
    rows = [{"prompt": f"q{n}", "chosen": f"a{n}", "rejected": f"b{n}", name: 2} for n in range(3)]
    [warning] = [w for w in audit(load(tmp_path, rows)).warnings if "nothing reads" in w]
    assert warning == f"nothing reads '{name}': does it say that another answer is the better one?"


def test_beside_ranks_no_judgement_is_missed(tmp_path):
    rows = [{"prompt": f"q{n}", "answers": ["a", "b"], "rank": [2, 1], "best": 1} for n in range(3)]
    assert not any("nothing reads" in warning for warning in audit(load(tmp_path, rows)).warnings)


def test_a_row_of_ultrafeedback():
    def completion(text, overall, helpful):
        notes = {"helpfulness": {"Rating": helpful}}
        return {"model": "m", "response": text, "overall_score": overall, "annotations": notes}

    fields = {
        "source": "x",
        "instruction": "q",
        "models": ["m", "m"],
        "completions": [completion("a", 3.5, "5"), completion("b", 8.0, "2")],
        "correct_answers": ["None"],
    }
    assert compared(fields) == ["b>a"]
    columns = {"scores": "completions.annotations.helpfulness.Rating"}
    assert compared(fields, columns=columns) == ["a>b"]
    [example] = parse(fields)
    assert example.extra == {"source": "x", "models": ["m", "m"], "correct_answers": ["None"]}


def test_prompt_group_and_other_columns_go_to_every_pair():
    fields = {"prompt": [Q], "answers": ["a", "b", "c"], "system": "s", "customer": 7, "n": 1}
    for example in parse(fields, group="customer"):
        assert isinstance(example, PreferenceExample)
        assert (example.location, example.prompt, example.group) == (LOCATION, (S, Q), "7")
        assert example.extra == {"customer": 7, "n": 1}


def test_answers_may_repeat_the_prompt():
    asked = "\n\nHuman: q\n\nAssistant:"
    assert compared({"prompt": asked, "answers": [f"{asked} a", "b"]}) == ["a>b"]
    assert compared({"prompt": [Q], "answers": [[Q, A], "b"]}) == ["a>b"]


def test_ties_and_equal_texts_give_no_pair():
    fields = {"prompt": "q", "answers": ["a", "b", "c", "c"], "scores": [2, 2, 1, 0]}
    assert compared(fields) == ["a>c", "a>c", "b>c", "b>c"]
    assert compared(fields, pairs="best-worst") == ["a>c"]
    assert compared(fields, pairs="neighbours") == ["a>c", "b>c"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"answers": ["a"]}, "answers: must have at least two answers, got 1"),
        ({"answers": ["a", ""]}, "answers.1: is empty"),
        ({"answers": ["a", 7]}, "answers.1: must be text, got a number"),
        ({"answers": ["a", [Q]]}, "answers.1: must be the assistant's answer to the prompt"),
        ({"answers": ["a", "a"]}, "answers: the better and the worse answers are the same"),
        (
            {"answers": [{"text": "a"}, {"text": "b"}]},
            "answers: must have ranks or scores; name them, as in scores = 'answers.quality'",
        ),
        ({"answers": ["a", "b"], "scores": [1, 1.0]}, "scores: all answers are rated alike"),
        ({"answers": ["a", "b"], "ranks": [1, 1]}, "ranks: all answers are rated alike"),
        ({"answers": ["a", "b"], "scores": 3}, "scores: must be a list, got a number"),
        (
            {"answers": ["a", "b"], "ranks": [1]},
            "ranks: must have one number for each of 2 answers, got 1",
        ),
        ({"answers": ["a", "b"], "scores": [1, None]}, "scores.1: must be a number, got null"),
        ({"answers": ["a", "b"], "scores": [1, "N/A"]}, "scores.1: must be a number, got 'N/A'"),
        (
            {"answers": [{"text": "a", "score": 1}, {"text": "b"}]},
            "answers.score.1: must be a number, got null",
        ),
        (
            {"answers": [{"x": "a", "score": 1}, {"x": "b", "score": 2}]},
            "answers.0: must have the answer under one of the names text, answer",
        ),
        ({"prompt": [], "answers": ["a", "b"]}, "prompt: is empty"),
        ({"answers": [f"{i}" for i in range(101)]}, "answers: must have at most 100 answers"),
    ],
)
def test_unusable_rows_name_field_and_reason(fields, problem):
    outcome = parse({"prompt": "q", **fields}, format="ranking")
    assert isinstance(outcome, Rejection)
    assert str(outcome).startswith(f"a.jsonl:1: {problem}")


def test_long_lists_are_taken_where_pairs_grow_no_faster_than_answers():
    fields = {"prompt": "q", "answers": [f"{i}" for i in range(1000)]}
    assert len(compared(fields, pairs="neighbours")) == 999
    assert compared(fields, pairs="best-worst") == ["0>999"]


def test_numbers():
    assert (number_of(10**400, "f"), number_of("-1.5", "f"), number_of(2, "f")) == (
        10**400,
        -1.5,
        2,
    )
