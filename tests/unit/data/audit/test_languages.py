import pytest

from kamerton.data.audit.languages import UNKNOWN, language_guesser


@pytest.fixture(scope="module")
def guess():
    return language_guesser()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Привет", "ru"),
        ("да", "ru"),
        ("Где мой заказ номер 15 из iPhone Store?", "ru"),
        ("Де мій заказ?", "uk"),
        ("Дзе мой заказ? Ён яшчэ не прыйшоў", "be"),
        ("Къде е поръчката ми? Вчера получих съобщение за нея, но пакетът липсва.", "bg"),
        ("hi", "en"),
        ("Where is my order?", "en"),
        ("I have been waiting for my card for three weeks and nobody answers me.", "en"),
        ("Ich warte seit drei Wochen auf meine Karte, und niemand antwortet mir.", "de"),
        ("Je n'ai toujours pas reçu ma carte bancaire, pouvez-vous vérifier ?", "fr"),
        ("¿Dónde está mi tarjeta? Llevo tres semanas esperando y nadie contesta.", "es"),
        ("私のカードはどこですか", "ja"),
        ("我的银行卡在哪里？", "zh"),
        ("12345 !?", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_language(guess, text, language):
    assert guess(text) == language
