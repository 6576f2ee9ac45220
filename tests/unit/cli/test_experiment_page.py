"""The page that people forward."""

import html
import re
from datetime import timedelta

import pytest

from kamerton.core.errors import SettingsError
from kamerton.core.language import speaking
from kamerton.experiments.words import guardrail_word, verdict_word
from kamerton.flows.experiment.registering import stop_experiment
from kamerton.store.database import open_store
from kamerton.store.experiments import ExperimentEvent, add_experiment_event
from kamerton.store.traffic import RequestRow, add_requests, now
from tests.unit.cli.test_experiment import said
from tests.unit.flows.experiment_traffic import TONE, fill, started


def page(project, *arguments: str) -> str:
    place = project / "report.html"
    said(project, "report", "tone", "--html", str(place), *arguments)
    return place.read_text(encoding="utf-8")


def words_of(found: str) -> str:
    """What a reader sees, with plain spaces."""
    body = found.split("<body>")[1]
    text = html.unescape(re.sub(r"<[^>]+>", " ", body)).replace("\N{NO-BREAK SPACE}", " ")
    return re.sub(r"\s+", " ", text)


@pytest.fixture
def project(tmp_path):
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path)
        thumbs = {"prefix": 0.6, "lora": 0.9}
        rated = {"prefix": 0.5, "lora": 0.5}
        fill(
            store, {"prefix": 500, "lora": 500}, thumbs=thumbs, rated=rated, refusals={"lora": 0.02}
        )
    return tmp_path


def test_the_first_sentence_is_for_the_boss(project):
    found = words_of(page(project))
    assert found.startswith(
        " Switch to shop-lora: quality is better (+28.0 points), 40 % cheaper, 33 % faster."
    )
    russian = words_of(page(project, "--language", "ru"))
    assert russian.startswith(
        " Пора переходить на shop-lora: качество выше (+28,0 п. п.), на 40 % дешевле, "
        "на 33 % быстрее."
    )


def test_it_says_what_was_compared_and_how_sure_it_is(project):
    with open_store(project / "kamerton.db") as store, store.begin() as connection:
        detail = {"arm": "lora", "why": "a typo in <b>prompt</b>"}
        add_experiment_event(connection, ExperimentEvent("tone", "arm stopped", "ann", detail))
    made = page(project)
    found = words_of(made)
    for part in (
        "Hypothesis The LoRA knows our goods better",
        "prefix (control): shop-prefix, 50 % of units",
        "20 days so far",
        "SHA-256 ",
        "Started by ",
        "thumbs up decides more is better 62.0 % 90.0 % +28.0 points +45 %",
        "refusals 2.0 points better 5.0 points fine",
        "prefix 500 500 500 250",
        "Yes: the arms have the units that the plan foretells",
        "50.0 % of the answers of shop-prefix are rated, and 50.0 % of those of shop-lora",
        "arm lora taken back, ann (reason: a typo in <b>prompt</b>)",
        "The interval holds the true difference in 95 of 100 experiments",
    ):
        assert part in found
    assert "<b>prompt</b>" not in made
    assert "exploratory" not in found.lower().replace("segments (exploratory)", "")
    assert made.count("<svg") == 4


@pytest.mark.parametrize("language", ["en", "ru"])
def test_it_needs_nothing_else(project, language):
    found = page(project, "--language", language, "--by", "segment")
    assert "<script" not in found
    assert not re.search(r"https?:|src=|href=|@import|url\(", found)
    assert f'<html lang="{language}">' in found
    assert "prefers-color-scheme: dark" in found
    assert "@media print" in found
    heading = {"en": "Segments (exploratory)", "ru": "Сегменты (только для новых гипотез)"}
    assert heading[language] in found
    assert found.count("<svg") == 6
    if language == "ru":
        # Names come from the project; all other words are Russian.
        rest = re.sub(r"shop-\w+|prefix|lora|tone|The LoRA.*better|SHA-256 \w+|API|UTC|CUPED|p =",
                      "", words_of(found))  # fmt: skip
        english = set(re.findall(r"[A-Za-z]{3,}", rest))
        assert english <= {"retail", "wholesale", "root", *_users()}


def _users() -> set[str]:
    import getpass

    return set(re.findall(r"[A-Za-z]{3,}", getpass.getuser()))


def test_no_effect_stands_anywhere_where_the_arms_are_not_comparable(tmp_path):
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path)
        fill(store, {"prefix": 600, "lora": 300}, thumbs={"prefix": 0.6, "lora": 0.9})
        with store.begin() as connection:
            detail = {"arm": "lora", "why": "refusal is 0.28 worse"}
            add_experiment_event(connection, ExperimentEvent("tone", "arm stopped", "x", detail))
    begins = {
        "en": "Do not decide yet: the groups are not comparable, so no effect is shown.",
        "ru": "Решать рано: группы несравнимы, поэтому результаты скрыты.",
    }
    for language in ("en", "ru"):
        made = page(tmp_path, "--by", "segment", "--language", language)
        found = words_of(made)
        assert found.startswith(f" {begins[language]}")
        assert "<svg" not in made
        with speaking(language):
            assert verdict_word("hidden") in found
            for word in (verdict_word("better"), verdict_word("worse"), guardrail_word("fine")):
                assert f">{word}<" not in made
        assert not re.search(r"90[.,]0 %|60[.,]0 %|0\.28|\+30", found)
        assert "600 / 300" in found


def test_a_declared_end_and_a_share_of_all_are_told(tmp_path):
    text = TONE.replace("[arms.prefix]", "share = 0.5\n[arms.prefix]")
    text += '[analysis]\nkind = "group-sequential"\ndays = 28\nlooks = 4\n'
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path, text=text)
        fill(store, {"prefix": 200, "lora": 200})
        with store.begin() as connection:
            add_experiment_event(connection, ExperimentEvent("tone", "looked at", "ann"))
    found = words_of(page(tmp_path))
    assert "Taking part 50.0 % of all units" in found
    assert "Analysis 4 looks in 28 days" in found
    assert "looked at, ann" in found
    assert "проверок: 4, дней: 28" in words_of(page(tmp_path, "--language", "ru"))


def test_no_guardrails_are_told(tmp_path):
    text = TONE.partition("[[guardrails]]")[0].replace(
        "[arms.prefix]", 'unit = "key"\n[arms.prefix]'
    )
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path, text=text)
        rows = [
            RequestRow(f"{arm}-{each}", f"shop-{arm}", created=now() - timedelta(days=1),
                       experiment="tone", arm=arm, key_name=f"{arm}-{each}", latency_s=1 + each)
            for arm in ("prefix", "lora") for each in range(3)
        ]  # fmt: skip
        with store.begin() as connection:
            add_requests(connection, rows)
    found = words_of(page(tmp_path))
    assert "None were declared: nothing stops a harmful arm by itself." in found
    assert "50 % of API keys" in found
    assert "thumbs up decides more is better not measured yet undecided" in found
    assert found.startswith(
        " Wait: it is too early to switch to shop-lora; quality is undecided, latency is undecided."
    )


def test_a_harmful_arm_is_told_first(tmp_path):
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path)
        fill(store, {"prefix": 300, "lora": 300}, refusals={"lora": 0.3})
    found = words_of(page(tmp_path))
    assert found.startswith(" Take shop-lora back, as it does harm: quality is ")
    assert "refusals 26.0 points 5.0 points harmed" in found
    assert words_of(page(tmp_path, "--language", "ru")).startswith(
        " shop-lora нужно отключить: от него есть вред; "
    )


def test_ratings_that_cannot_be_compared_are_told_at_once(tmp_path):
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path)
        fill(store, {"prefix": 400, "lora": 400}, rated={"prefix": 0.8, "lora": 0.3})
    first, _, rest = words_of(page(tmp_path)).partition("Experiment tone")
    assert first.rstrip().endswith(", but the arms are not rated equally often.")
    assert "so their ratings (“thumbs up”) cannot be compared" in rest


def test_an_experiment_that_is_over_says_who_answers(project):
    with open_store(project / "kamerton.db") as store:
        stop_experiment(store, "tone", promoted="lora", why="cheaper")
    found = words_of(page(project))
    assert found.startswith(
        " The experiment is over, and shop-lora answers everybody; shop-lora against shop-prefix: "
        "quality is better (+28.0 points), 40 % cheaper, 33 % faster."
    )
    assert "ended, lora promoted" in found
    assert "(reason: cheaper)" in found


def test_three_arms_and_hostile_names(tmp_path):
    text = TONE.replace("[primary]", '[arms.dpo]\nvariant = "<i>dpo</i>"\n[primary]')
    with open_store(tmp_path / "kamerton.db") as store:
        started(store, tmp_path, text=text)
        fill(store, {"prefix": 60, "lora": 60, "dpo": 60})
        with store.begin() as connection:
            row = RequestRow(
                "x", "shop-lora", created=now() - timedelta(days=1), experiment="tone",
                arm="lora", unit="u-prefix-0", segment="<script>alert(1)</script>",
            )  # fmt: skip
            add_requests(connection, [row])
    made = page(tmp_path, "--by", "segment")
    assert "<i>" not in made
    assert "<script" not in made
    found = words_of(made)
    assert "Results: shop-lora against shop-prefix" in found
    assert "Results: <i>dpo</i> against shop-prefix" in found
    assert "1 units were seen in two arms and are left out." in found
    assert made.count('<p class="short">') == 2


def test_a_folder_that_is_not_there_is_an_error(project):
    with pytest.raises(SettingsError, match="--html: there is no folder"):
        said(project, "report", "tone", "--html", str(project / "nowhere" / "x.html"))
