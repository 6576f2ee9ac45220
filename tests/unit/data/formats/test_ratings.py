from kamerton.data.settings import DataSettings
from tests.unit.data.files import load


def row(prompt, answer, rating, **more):
    return {"prompt": prompt, "completion": answer, "rating": rating, **more}


def compared(loaded):
    return [
        f"{e.prompt[-1]['content']}: {e.chosen[0]['content']}>{e.rejected[0]['content']}"
        for e in loaded.examples
    ]


def test_rows_of_one_prompt_are_compared_wherever_they_stand(tmp_path):
    rows = [
        row("q", "a", 5),
        row("r", "a", 1),
        row("alone", "a", 5),
        row("q", "b", 1),
        row("tied", "a", 3),
        row("r", "b", "2", model="m"),
        row("tied", "b", 3.0),
        row("q", "c", None),
        row("q", "d", 3),
    ]
    loaded = load(tmp_path, rows, format="rating")
    assert compared(loaded) == ["q: a>d", "q: a>b", "q: d>b", "r: b>a"]
    assert [e.location.line for e in loaded.examples] == [1, 1, 1, 2]
    assert loaded.examples[3].extra == {"model": "m"}
    assert [(r.location.line, r.field, r.reason) for r in loaded.rejections] == [
        (8, "rating", "is missing or null"),
        (3, "prompt", "no other row has an answer to this prompt"),
        (5, "rating", "all answers are rated alike"),
        (7, "rating", "all answers are rated alike"),
    ]
    assert (loaded.num_rows, loaded.unusable) == (9, 4 / 9)


def test_which_pairs_and_groups(tmp_path):
    rows = [row("q", f"{i}", i, annotator=i // 3) for i in range(6)]
    options = {"columns": {"score": "rating"}, "pairs": "neighbours"}
    assert len(load(tmp_path, rows, **options).examples) == 5
    # Of one group only: else a row would stand on the other side of a split than its group.
    grouped = load(tmp_path, rows, group="annotator", **options)
    assert compared(grouped) == ["q: 2>1", "q: 1>0", "q: 5>4", "q: 4>3"]
    assert [e.group for e in grouped.examples] == ["0", "0", "1", "1"]


def test_too_many_answers_for_all_pairs_are_all_rejected(tmp_path):
    rows = [row("q", f"{i}", i) for i in range(101)]
    loaded = load(tmp_path, rows, format="rating")
    assert (len(loaded.examples), len(loaded.rejections)) == (0, 101)
    assert 'data.pairs = "neighbours" takes more' in loaded.rejections[0].reason


def test_a_score_alone_makes_no_pairs(tmp_path):
    loaded = load(tmp_path, [row("q", "a", 5), row("q", "b", 1)])
    assert loaded.schema.format == "prompt"
    assert loaded.examples[0].extra == {"rating": 5}
    assert DataSettings(train="a").pairs == "all"
