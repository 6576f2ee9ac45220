"""Conversations of messengers and help desks: who is who, and what nobody said."""

import json

import pytest

from kamerton.core.errors import DataError, SettingsError
from kamerton.data.dataset import load_examples
from kamerton.data.settings import DataSettings
from tests.unit.data.files import load, write

QA = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SHOP = {"user": "Ольга", "assistant": "Лавка"}


def chat(*turns, key="role", text="content", **others):
    return {"messages": [{key: who, text: said, **others} for who, said in turns]}


def telegram(*turns):
    return [
        {"id": i, "type": "message", "date": "2025-03-01T10:00:00", "from": who, "text": said}
        for i, (who, said) in enumerate(turns)
    ]


def loaded_json(folder, value, **settings):
    path = write(folder, "result.json", json.dumps(value, ensure_ascii=False))
    return load_examples(DataSettings(train=str(path), **settings))


def messages(loaded):
    return [[dict(message) for message in example.messages] for example in loaded.examples]


@pytest.mark.parametrize(
    ("asks", "answers"),
    [
        ("Покупатель", "Поддержка"),
        ("Клиент", "Менеджер"),
        ("end-user", "agent"),
        ("visitor", "Support"),
        ("requester", "representative"),
    ],
)
def test_usual_words_for_roles_are_known(tmp_path, asks, answers):
    assert messages(load(tmp_path, [chat((asks, "q"), (answers, "a"))])) == [QA]


def test_roles_say_who_is_who(tmp_path):
    rows = [chat(("Ольга", "q"), ("Лавка", "a")), chat(("Ольга", "q"), ("Кассир", "a"))]
    roles = {"user": "ольга", "assistant": ["Лавка", "Кассир"]}
    assert messages(load(tmp_path, rows, roles=roles)) == [QA, QA]


def test_roles_of_the_recipe_count_before_known_words(tmp_path):
    rows = [chat(("Operator", "q"), ("Client", "a"))]
    assert messages(load(tmp_path, rows, roles={"user": "operator", "assistant": "client"})) == [QA]


def test_everyone_else_has_a_role(tmp_path):
    rows = [chat((f"customer {i}", "q"), ("Shop", "a"), key="from") for i in range(4)]
    assert messages(load(tmp_path, rows, roles={"assistant": "Shop", "user": "*"})) == [QA] * 4


def test_everyone_else_does_not_take_a_known_role(tmp_path):
    rows = [chat(("system", "s"), ("Olga", "q"), ("assistant", "a"))]
    found = messages(load(tmp_path, rows, roles={"user": "*"}))
    assert found == [[{"role": "system", "content": "s"}, *QA]]


def test_ignored_speakers_are_left_out_and_counted(tmp_path):
    rows = [chat(("user", "q"), ("Autoreply", "wait"), ("assistant", "a"))]
    loaded = load(tmp_path, rows, roles={"ignore": "autoreply"})
    assert messages(loaded) == [QA]
    assert loaded.notices == ("1 turns of speakers that data.roles ignores are left out",)


def test_unknown_speakers_are_named_with_the_setting_to_write(tmp_path):
    rows = [chat(("Ольга П.", "q"), ('ООО "Лавка"', "a")) for _ in range(3)]
    with pytest.raises(DataError, match=r"to be told apart: 'Ольга П\.', 'ООО \"Лавка\"'") as e:
        load(tmp_path, rows)
    assert e.value.hint is not None
    wanted = 'data.roles = { user = "Ольга П.", assistant = "ООО \\"Лавка\\"" }'
    assert e.value.hint.endswith(wanted)


def test_a_third_speaker_beside_known_roles_is_for_the_user_to_decide(tmp_path):
    third = {"from": "Супервайзер", "value": "checked"}
    turns = [{"from": "Клиент", "value": "q"}, {"from": "Оператор", "value": "a"}, third]
    with pytest.raises(DataError, match="to be told apart: 'Супервайзер'") as error:
        load(tmp_path, [{"conversations": turns}])
    assert 'data.roles = { ignore = "Супервайзер" }, or user or assistant' in str(error.value.hint)
    assert messages(
        load(tmp_path, [{"conversations": turns}], roles={"ignore": "Супервайзер"})
    ) == [QA]


def test_many_customers_are_proposed_as_everyone_else(tmp_path):
    rows = [chat((f"customer {i}", "q"), ("Shop", "a"), key="from") for i in range(9)]
    with pytest.raises(DataError) as error:
        load(tmp_path, rows)
    assert str(error.value.hint).endswith('{ user = "*", assistant = "Shop" }')


def test_one_unknown_role_among_known_ones_is_a_rejection(tmp_path):
    loaded = load(tmp_path, [chat(("user", "q"), ("assistant", "a"))] * 3 + [chat(("wizard", "q"))])
    (rejection,) = loaded.rejections
    assert rejection.field == "messages.0.role"
    assert rejection.reason.endswith("got 'wizard'; data.roles says who is who")


def test_a_service_message_does_not_turn_a_dialogue_into_texts(tmp_path):
    service = {"id": 9, "type": "service", "actor": "Лавка", "action": "phone_call", "text": ""}
    turns = telegram(("Ольга", "q"), ("Лавка", "a"))
    for place in (0, 1, 2):
        whole = {"name": "Ольга", "messages": [*turns[:place], service, *turns[place:]]}
        loaded = loaded_json(tmp_path, whole, roles=SHOP)
        assert messages(loaded) == [QA]
        assert loaded.notices == ("1 service messages are left out",)


def test_formatted_texts_are_joined(tmp_path):
    parts = ["есть, ", {"type": "bold", "text": "два"}, ": ", {"type": "link", "text": "t.me"}]
    loaded = loaded_json(
        tmp_path, {"messages": telegram(("Ольга", "q"), ("Лавка", parts))}, roles=SHOP
    )
    assert messages(loaded)[0][1]["content"] == "есть, два: t.me"


def test_an_export_of_all_chats_has_one_conversation_a_chat(tmp_path):
    chats = [{"name": "x", "messages": telegram((who, "q"), ("Лавка", "a"))} for who in "abc"]
    whole = {"about": "Here is", "chats": {"about": "all", "list": chats}}
    loaded = loaded_json(tmp_path, whole, roles={"assistant": "Лавка", "user": "*"})
    assert messages(loaded) == [QA] * 3


def test_messages_without_text_are_left_out_of_logs_only(tmp_path):
    photo = telegram(("Ольга", "q"), ("Ольга", ""), ("Лавка", "a"))
    loaded = loaded_json(tmp_path, {"messages": photo}, roles=SHOP)
    assert messages(loaded) == [QA]
    assert loaded.notices == ("1 messages without text are left out",)
    empty = load(tmp_path, [chat(("user", "q"), ("assistant", "a")), chat(("user", ""))])
    assert [rejection.reason for rejection in empty.rejections] == ["the user turn is empty"]


def test_comments_of_a_help_desk_are_turns_but_internal_notes_are_none(tmp_path):
    ticket = {
        "id": 1,
        "subject": "kettle",
        "comments": [
            {"author_id": 77, "public": True, "body": "q"},
            {"author_id": 5, "public": False, "body": "third case this week"},
            {"author_id": 5, "public": True, "body": "a"},
        ],
    }
    with pytest.raises(DataError, match="told apart: .77., .5."):
        load(tmp_path, [ticket])
    loaded = load(tmp_path, [ticket], roles={"assistant": 5, "user": "*"})
    assert messages(loaded) == [QA]
    assert loaded.examples[0].extra == {"id": 1, "subject": "kettle"}
    assert loaded.notices == ("1 internal notes are left out",)


def test_a_list_of_one_speaker_is_no_conversation(tmp_path):
    answer = [{"role": "assistant", "content": "a"}]
    row = {"asked": {"about": QA[:1]}, "preferred": answer, "other": answer}
    with pytest.raises(DataError, match="cannot tell what the rows are"):
        load(tmp_path, [row, row])


def test_columns_name_speaker_and_text_of_turns(tmp_path):
    turns = [{"who": {"kind": "client"}, "said": "q"}, {"who": {"kind": "agent"}, "said": "a"}]
    columns = {"messages": "thread", "role": "who.kind", "content": "said"}
    assert messages(load(tmp_path, [{"thread": turns}], columns=columns)) == [QA]


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ({"assistants": "x"}, "did you mean 'assistant'"),
        ({"user": "x", "assistant": ["y", "X"]}, "'x' must have one role"),
        ({"user": ""}, "empty text"),
    ],
)
def test_wrong_roles_are_refused(roles, words):
    with pytest.raises(SettingsError, match=words):
        DataSettings.parse({"train": "a.jsonl", "roles": roles})


def test_roles_survive_being_written_and_read():
    settings = DataSettings.parse({"train": "a", "roles": {"assistant": 5, "user": "*"}})
    assert settings.roles == {"assistant": ("5",), "user": ("*",)}
    assert DataSettings.parse(settings.model_dump(mode="json")) == settings
