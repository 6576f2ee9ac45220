import itertools

import pytest

from kamerton.data.privacy.personal import find_personal


@pytest.mark.parametrize(
    ("text", "kind", "piece", "value"),
    [
        ("Write to ann.lee+shop@mail.example.org.", "email", "ann.lee+shop@mail.example.org", None),
        ("почта: Иван@пример.рф", "email", "Иван@пример.рф", "иван@пример.рф"),
        ("<A_B@x-y.co>", "email", "A_B@x-y.co", "a_b@x-y.co"),
        ("Call +7 (916) 123-45-67 now", "phone", "+7 (916) 123-45-67", "+79161234567"),
        ("мой номер 8 916 123 45 67", "phone", "8 916 123 45 67", "+79161234567"),
        ("89161234567", "phone", "89161234567", "+79161234567"),
        ("тел. (495) 123-45-67", "phone", "(495) 123-45-67", "+74951234567"),
        ("ring (202) 456-1111!", "phone", "(202) 456-1111", "+12024561111"),
        ("ring 202-456-1111, please", "phone", "202-456-1111", "+12024561111"),
        ("my phone number is 2024561111", "phone", "2024561111", "+12024561111"),
        ("office 020 7946 0018", "phone", "020 7946 0018", "+442079460018"),
        ("+49 30 901820", "phone", "+49 30 901820", "+4930901820"),
        ("Tel. 030 901820", "phone", "030 901820", "+4930901820"),
        ("Rufen Sie 0171 1234567 an", "phone", "0171 1234567", "+491711234567"),
        ("mobil 0151/23456789", "phone", "0151/23456789", "+4915123456789"),
        ("0049 30 901820", "phone", "0049 30 901820", "+4930901820"),
        ("Meine Nummer ist 01711234567", "phone", "01711234567", "+491711234567"),
        ("card 4111 1111 1111 1111, ok?", "card", "4111 1111 1111 1111", "4111111111111111"),
        ("карта 2200-0000-0000-0004", "card", "2200-0000-0000-0004", "2200000000000004"),
        ("amex 378282246310005", "card", "378282246310005", None),
        ("IBAN DE89 3704 0044 0532 0130 00 OK", "iban", "DE89 3704 0044 0532 0130 00", None),
        ("iban de89 3704 0044 0532 0130 00", "iban", "de89 3704 0044 0532 0130 00", None),
        ("GB82WEST12345698765432.", "iban", "GB82WEST12345698765432", None),
        ("паспорт серия 4508 номер 123456", "passport", "4508 номер 123456", "4508123456"),
        ("паспорт: 4508123456", "passport", "4508123456", "4508123456"),
        ("45 08 123456 выдан ОВД", "passport", "45 08 123456", "4508123456"),
        ("загранпаспорт 75 1234567", "passport", "75 1234567", "751234567"),
        ("112-233-445 95", "snils", "112-233-445 95", "11223344595"),
        ("СНИЛС: 11223344595", "snils", "11223344595", None),
        ("ИНН 500100732259", "inn", "500100732259", None),
    ],
)
def test_personal_data_is_found(text, kind, piece, value):
    found = find_personal(text)
    assert [(f.kind, text[f.start : f.stop]) for f in found] == [(kind, piece)]
    assert value is None or found[0].value == value


@pytest.mark.parametrize(
    "text",
    [
        "no digits here, only an @ sign and a@b",
        "order 1234567890 of 2024-01-15 12:30",
        "заказ № 89161234567",
        "Invoice #2024561111",
        "price 1 250 000 руб, or 12 345 678.90",
        "2 345 678 901 rows",
        "it costs $2024561111",
        "30000 - 12000 = 18000 and 2000-400-300 = 1300",
        "15.01.2024 15.02.2024, from 2023-10-10 to 2023-10-12",
        "at 192.168.100.200 or 10.0.0.1:8080",
        "version 3.14.159265358979",
        "ИНН 7707083893, ОГРН 1027700132195",
        "трек 80110012345678",
        "112-233-445 96, or 11223344595",
        "ИНН 500100732258",
        "заказ 500100732259",
        "Bestellnummer 01711234567",
        "05/12/2023 and 001/2345",
        "00123456789",
        "card 4111 1111 1111 1112",
        "1234 5678 9012 3456",
        "DE89 3704 0044 0532 0130 01",
        "XX89370400440532013000",
        "2024 123456 units",
        "id 4508123456",
        "550e8400-e29b-41d4-a716-446655440000",
        "{{Order Number}} 12972.2006 (WBA)",
        "1234567",
        "7 8 9 10 11 12 13 14",
        "",
    ],
)
def test_other_numbers_are_left_alone(text):
    assert find_personal(text) == []


def test_findings_come_in_order_and_do_not_overlap():
    text = "a@b.org, +7 916 123-45-67, 4111 1111 1111 1111; a@b.org"
    found = find_personal(text)
    assert [f.kind for f in found] == ["email", "phone", "card", "email"]
    assert all(a.stop <= b.start for a, b in itertools.pairwise(found))


@pytest.mark.parametrize(
    "text", ["a" * 200_000 + "@", "1 " * 100_000, "AA11" * 50_000, "a." * 99_999]
)
def test_hostile_texts_take_linear_time(text):
    # A quadratic search would run for minutes here, and the suite's own limit would end it.
    assert find_personal(text) == []
