from kamerton.data.audit.audit import audit
from kamerton.data.formats.detection import settle_schema
from kamerton.data.formats.speakers import Speakers
from kamerton.data.formats.unused import UnusedTexts
from tests.unit.data.files import load

NOTE = "The customer has called three times about this."


def unused(*rows, **options):
    found = UnusedTexts(settle_schema(rows, name="a", **options))
    for row in rows:
        found.add(row)
    return found.found


def test_every_text_that_no_field_takes_is_named():
    row = {"prompt": "q", "completion": "a", "id": "x1", "number": 3, "meta": {"note": NOTE}}
    found = unused(row, {**row, "id": " ", "meta": None})
    assert found.columns == {"id": 1, "meta.note": 1}
    assert found.prose == ("meta.note",)
    assert found.named == "the columns id, meta.note"


def test_fields_and_groups_are_used():
    row = {"question": "q", "passage": NOTE, "reply": [{"text": "a", "by": "ann"}], "client": "c"}
    found = unused(row, columns={"completion": "reply.0.text"}, group="client")
    assert found.columns == {"reply.by": 1}
    alpaca = {"instruction": "q", "input": NOTE, "chosen": "a", "rejected": "b"}
    assert unused(alpaca).columns == {}


def test_classes_and_texts_have_no_system_text():
    assert unused({"text": "t", "label": "x", "system": NOTE}).columns == {"system": 1}
    assert unused({"text": "t", "tools": "f"}).columns == {"tools": 1}


def test_keys_of_turns_are_named():
    turns = [
        {"role": "user", "content": "q", "thinking": "hm", "weight": None},
        {"role": "assistant", "content": "a", "thinking": "hm", "text": "b", "mood": "kind"},
        {"from": "gpt", "value": "a", "text": "a", "mood": ""},
    ]
    found = unused({"messages": turns})
    assert found.keys == {"thinking": 1, "text": 1, "mood": 1}
    assert found.named == "the keys of turns thinking, text, mood"


def test_of_a_log_only_sentences_are_named():
    log = {
        "date": "2025-03-01T10:00:00",
        "id": 7,
        "from_id": "user1",
        "file": "(No file here at all)",
    }
    turns = [
        {**log, "from": "client", "text": "q", "reaction": "👍"},
        {**log, "from": "support", "text": "a", "note": NOTE, "html_body": f"<p>{NOTE}</p>"},
        {"type": "service", "date": "2025-03-01T10:00:00", "note": NOTE},
    ]
    assert unused({"messages": turns}).keys == {"note": 1}


def test_a_column_that_repeats_a_turn_is_used():
    turns = [{"role": "user", "content": NOTE}, {"role": "assistant", "content": "a"}]
    assert unused({"messages": turns, "description": f" {NOTE}"}).columns == {}


def test_what_named_speakers_say_is_used():
    turns = [{"who": "Ольга", "words": "q"}, {"who": "Лавка", "words": "a", "mood": "kind"}]
    names = {"role": "who", "content": "words"}
    speakers = Speakers({"user": ["Ольга"], "assistant": ["Лавка"]}, names)
    assert unused({"messages": turns}, speakers=speakers).keys == {"mood": 1}


def test_system_text_that_gives_way_is_named():
    own = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    answer = {"role": "assistant", "content": "a"}
    assert unused({"system": "other", "messages": [*own, answer]}).columns == {"system": 1}
    assert unused({"system": "s", "messages": [*own, answer]}).columns == {}
    assert unused({"system": "other", "messages": [own[1], answer]}).columns == {}


def test_the_audit_warns_of_sentences_and_of_keys(tmp_path):
    row = {"messages": [{"role": "user", "content": "q"}, {"from": "gpt", "value": "a", "x": 1}]}
    found = audit(load(tmp_path, [{**row, "note": NOTE, "id": "i", "score": 3}]))
    assert found.columns == {"messages": "messages"}
    assert found.unused_columns == ("id", "note", "score")
    assert found.unused_keys == {"x": 1}
    assert "nothing learns from the text in 'note'" in found.warnings
    assert "nothing takes the keys 'x' of turns" in found.warnings
    tree = audit(load(tmp_path, [{"role": "prompter", "text": "q", "parent_id": "u"}]))
    assert any("'role' says who speaks" in warning for warning in tree.warnings)


def test_texts_beside_what_may_be_classes_are_asked_about(tmp_path):
    rows = [{"text": f"text {n}", "topic": "tea", "source_url": "a", "id": n} for n in range(3)]
    [warning] = [w for w in audit(load(tmp_path, rows)).warnings if "word for word" in w]
    assert "nothing learns from 'topic'" in warning
    assert warning.endswith('data.columns = { label = "topic" }')
    rows = [{"text": f"text {n}", "source_url": "a", "id": n} for n in range(3)]
    assert not any("word for word" in w for w in audit(load(tmp_path, rows)).warnings)
