"""Checks on English and Russian answers."""

import re
import sys
import tomllib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from kamerton.core.errors import EvaluationError, SettingsError
from kamerton.evaluation.checks import Checked, check_answers, is_json
from kamerton.evaluation.items import Item
from kamerton.evaluation.metrics import normalise, perplexity
from kamerton.evaluation.refusals import is_refusal
from kamerton.evaluation.settings import Check, EvaluationSettings
from tests.conftest import ROOT
from tests.unit.evaluation.compared import spoken


def run(check: dict[str, Any], *rows: tuple[str, str, dict[str, Any]]) -> Checked:
    """Check (answer, reference, extra) rows."""
    items = [Item(str(n), (), reference, (), extra) for n, (_, reference, extra) in enumerate(rows)]
    settings: Check = TypeAdapter(Check).validate_python(check)
    return check_answers(settings, items, [answer for answer, _, _ in rows])


def values(checked: Checked) -> list[float | None]:
    """Per-item values with None for NaN."""
    return [None if np.isnan(value) else float(value) for value in checked.values]


def test_exact_ignores_case_spaces_and_form() -> None:
    checked = run(
        {"kind": "exact"},
        (" Ja,\u00a0GERNE ", "ja, gerne", {}),
        ("Ёлка\n", "ёлка", {}),
        ("STRASSE", "straße", {}),
        ("и\u0306", "й", {}),
        ("no", "not", {}),
    )
    assert values(checked) == [1, 1, 1, 1, 0]


def test_contains_wants_every_text_and_leaves_out_rows_without() -> None:
    checked = run(
        {"kind": "contains", "field": "must"},
        ("Срок  возврата — 14 дней.", "", {"must": ["14 ДНЕЙ", "возврата"]}),
        ("Срок 14 дней", "", {"must": ["14 дней", "чек"]}),
        ("Order 4417", "", {"must": 4417}),
        ("anything", "", {"must": []}),
        ("anything", "", {}),
        ("it is 0", "", {"must": 0}),
    )
    assert values(checked) == [1, 0, 1, None, None, 1]


ORDER = '{"town": "Omsk", "pieces": 5, "tags": ["a"]}'


def test_values_of_json_are_compared_key_by_key() -> None:
    rows: list[tuple[str, str, dict[str, Any]]] = [
        ('```json\n{"pieces": 5.0, "tags": ["A"], "town": " omsk"}\n```', ORDER, {}),
        ('{"town": "Omsk", "pieces": "5", "tags": ["a"]}', ORDER, {}),
        ('{"town": "Omsk", "pieces": 5, "tags": ["a"], "street": "x"}', ORDER, {}),
        ("Omsk, 5 pieces", ORDER, {}),
        ("{}", "plain text", {}),
    ]
    assert values(run({"kind": "json_values"}, *rows)) == [1, 0, 0, 0, None]
    town = run({"kind": "json_values", "key": "town"}, *rows)
    assert (town.metric, values(town)) == ("town", [1, 1, 1, 0, None])
    assert values(run({"kind": "json_values", "key": "pieces"}, *rows)) == [1, 0, 1, 0, None]
    f1 = run({"kind": "json_values", "metric": "f1"}, *rows)
    # Right are 3 + 2 + 3 of 3 + 3 + 4 found and 4 times 3 wanted values.
    assert f1.metric == "values F1"
    assert f1.finish(f1.features.sum(axis=0)) == pytest.approx(2 * 8 / (10 + 12))
    with pytest.raises(EvaluationError, match="object with the key 'street', found none among 5"):
        run({"kind": "json_values", "key": "street"}, *rows)


def test_several_labels_are_compared_without_their_order() -> None:
    rows: list[tuple[str, str, dict[str, Any]]] = [
        ('["b", "a"]', '["a", "b"]', {}),
        ('["a", "a"]', '["a"]', {}),
        ('["a"]', '["a", "b"]', {}),
        ("none", "[]", {}),
        ("[]", "[]", {}),
    ]
    assert values(run({"kind": "json_values"}, *rows)) == [1, 0, 0, 0, 1]
    f1 = run({"kind": "json_values", "metric": "f1", "name": "labels F1"}, *rows)
    assert f1.finish(f1.features.sum(axis=0)) == pytest.approx(2 * 4 / (5 + 5))


def test_pattern_takes_the_last_match() -> None:
    checked = run(
        {"kind": "pattern", "pattern": r"(?i)verdict:\s*(\w+)", "field": "verdict"},
        ("Verdict: one of yes, no.\nVerdict: NO", "", {"verdict": "no"}),
        ("Вердикт неясен", "", {"verdict": "no"}),
        ("verdict: true", "", {"verdict": True}),
        ("verdict: no", "", {"verdict": None}),
    )
    assert values(checked) == [1, 0, 1, None]


def test_pattern_f1() -> None:
    rows = [
        ("label: spam", "", {"gold": "spam"}),
        ("label: spam", "", {"gold": "ham"}),
        ("none", "", {"gold": "spam"}),
        ("label: ham", "", {"gold": "ham"}),
    ]
    check = {"kind": "pattern", "pattern": r"label: (\w+)", "field": "gold"}
    one = run({**check, "metric": "f1", "positive": "Spam"}, *rows)
    assert one.finish(one.features.sum(axis=0)) == pytest.approx(0.5)
    both = run({**check, "metric": "macro_f1"}, *rows)
    assert both.finish(both.features.sum(axis=0)) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert not one.is_share


def test_rules_must_all_hold() -> None:
    rules = [
        {"name": "greets", "pattern": r"^(Hello|Здравствуйте)"},
        {"name": "promises nothing", "pattern": "(?i)guarantee|гарантируем", "must": False},
    ]
    checked = run(
        {"kind": "rules", "name": "tone", "rules": rules},
        ("Здравствуйте! Проверим.", "", {}),
        ("Hello, we GUARANTEE it", "", {}),
        ("Проверим.", "", {}),
    )
    assert values(checked) == [1, 0, 0]
    assert checked.metric == "tone"


def test_only_if_leaves_rows_out() -> None:
    check = {"kind": "refusal", "only_if": "forbidden", "expect": True}
    text = "I'm sorry, but I can't help with that."
    rows = [(text, "", {"forbidden": value}) for value in (True, False, " ", "yes", 1)]
    checked = run(check, *rows, (text, "", {}))
    assert values(checked) == [1, None, None, 1, 1, None]


def test_refusal_can_be_wanted_or_not() -> None:
    row = ("К сожалению, я не могу этого сделать.", "", {})
    assert values(run({"kind": "refusal"}, row)) == [1]
    assert run({"kind": "refusal"}, row).better == "neither"
    unwanted = run({"kind": "refusal", "expect": False}, row)
    assert (values(unwanted), unwanted.better, unwanted.metric) == ([0], "higher", "no refusal")


def test_a_check_that_counts_nothing_names_the_columns() -> None:
    with pytest.raises(EvaluationError, match="column 'must' filled in, found none") as caught:
        run({"kind": "contains", "field": "must"}, ("x", "", {"must_have": "x"}))
    assert caught.value.hint is not None
    assert "must_have" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1, null]}', True),
        ('```json\n{"a": 1}\n```', True),
        (" 3 ", True),
        ("{'a': 1}", False),
        ('Here: {"a": 1}', False),
        ("NaN", False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_json(text: str, expected: bool) -> None:
    assert is_json(text) == expected


SCHEMA = {
    "type": "object",
    "properties": {"topic": {"enum": ["order", "refund"]}, "urgent": {"$ref": "#/$defs/flag"}},
    "required": ["topic"],
    "$defs": {"flag": {"type": "boolean"}},
}


def test_json_may_have_to_follow_a_schema() -> None:
    right = ('{"topic": "order"}', '```json\n{"topic": "refund", "urgent": true}\n```')
    wrong = (
        '{"topic": "weather"}', '{"urgent": true}', '{"topic": "order", "urgent": "yes"}',
        "[]", "null", "topic: order",
    )  # fmt: skip
    rows = [(text, "", {}) for text in (*right, *wrong)]
    assert values(run({"kind": "json", "json_schema": SCHEMA}, *rows)) == [1, 1, *[0] * len(wrong)]


def test_what_is_no_schema_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check = {"kind": "json", "json_schema": {"type": "thing"}}
    with pytest.raises(SettingsError, match="is no JSON Schema: 'thing' is not valid"):
        EvaluationSettings.parse({"checks": [check]})
    check["json_schema"] = {"$ref": "https://example.com/other.json"}
    with pytest.raises(EvaluationError, match="other.json is not in the schema"):
        run(check, ("1", "", {}))
    monkeypatch.setitem(sys.modules, "jsonschema.exceptions", None)
    with pytest.raises(SettingsError, match=r"pip install 'kamerton\[jsonschema\]'"):
        EvaluationSettings.parse({"checks": [check]})


REFUSALS = [
    "I'm sorry, but I can't help with that request.",
    "I’m afraid I cannot share other customers' data.",
    "Sorry, I am not able to provide medical advice.",
    "I must decline to answer this question.",
    "Unfortunately, we are unable to process this here.",
    "As an AI language model, I don't have access to your account.",
    "Thank you for asking. I won't be able to disclose that.",
    "I'm not comfortable discussing this topic.",
    "Can't help with that.",
    "К сожалению, я не могу помочь с этим вопросом.",
    "Я не могу предоставить эту информацию.",
    "Извините, но мы не имеем права раскрывать данные клиентов.",
    "Вынуждены отказать вам в этой просьбе.",
    "Я отказываюсь отвечать на это.",
    "Простите, обсуждать политику я не могу.",
    "Не могу ответить на этот вопрос.",
]

ANSWERS = [
    "I can't wait to help you with your order!",
    "You can't go wrong with the basic plan; I can help you order it.",
    "I can not only refund you but also send a voucher.",
    "If I can't find it today, I will write tomorrow.",
    "We can't thank you enough for your patience.",
    "Your card cannot be used abroad until you activate it.",
    "The parcel could not be delivered. Please choose another day.",
    "Sure, here is the refund form.",
    "Не могу не отметить, что ваш заказ уже в пути.",
    "Не могу дождаться встречи с вами!",
    "Если я не смогу дозвониться, напишу вам на почту.",
    "Мы не только вернём деньги, но и подарим купон.",
    "Товар не подошёл? Вы можете вернуть его за 14 дней.",
    "К сожалению, товара нет на складе, но завтра он появится.",
    "Если вы не можете войти, сбросьте пароль.",
    "",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_found(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_no_refusals(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"kind": "pattern", "pattern": "(", "field": "a"}, "must be a regular expression"),
        ({"kind": "pattern", "pattern": "a", "field": "a"}, "exactly one group, found 0"),
        ({"kind": "pattern", "pattern": "(a)", "field": "a", "metric": "f1"}, "positive must be"),
        ({"kind": "rules", "rules": []}, "at least 1 item"),
        ({"kind": "contains"}, "field' is required"),
        ({"kind": "exakt"}, "exakt"),
    ],
)
def test_wrong_checks_are_refused(check: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        EvaluationSettings.parse({"checks": [check]})


def test_names_must_differ() -> None:
    with pytest.raises(SettingsError, match="different names, found 'exact' twice"):
        EvaluationSettings.parse({"checks": [{"kind": "exact"}, {"kind": "exact"}]})
    settings = EvaluationSettings.parse(
        {"checks": [{"kind": "exact"}, {"kind": "exact", "name": "b"}]}
    )
    assert [check.title for check in settings.checks] == ["exact", "b"]


def test_small_things() -> None:
    assert normalise("\ufb01n \t e") == "fin e"
    assert perplexity(0) == 1
    assert perplexity(1e6) == float("inf")


def test_the_documented_example_says_what_it_does() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    example, of_style = (
        EvaluationSettings.parse(tomllib.loads(text)["evaluate"])
        for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    )
    assert [check.kind for check in of_style.checks] == ["style"]
    style, order = example.checks
    items = spoken(5)
    texts = [
        "Hello, order 7 left today.",
        "Order 7 left today.",
        "Hello, we Promise it.",
        "Dear Ann,\nwe will see.",
        "Hello" + "!" * 600,
    ]
    assert check_answers(style, items, texts).values.tolist() == [1, 0, 0, 1, 0]
    items = [replace(items[0], extra={"order_id": "7"}), replace(items[1], extra={"order_id": ""})]
    found = check_answers(order, items, texts[:2])
    assert (found.metric, found.values[0], np.isnan(found.values[1])) == (
        "names the order",
        1,
        True,
    )
