"""All words of reports on experiments, one catalogue per language.

`in_short`, `headline` and the page take every word from here. Names in braces are filled in.
"""

from collections.abc import Mapping
from typing import Literal

__all__ = ["WORDS", "Language", "metric_name", "word"]

Language = Literal["en", "ru"]

_ENGLISH: Mapping[str, str] = {
    "aspect.quality": "quality",
    "aspect.cost": "cost",
    "aspect.latency": "latency",
    "joint": " ",
    "cheaper": "{percent} cheaper",
    "dearer": "{percent} dearer",
    "faster": "{percent} faster",
    "slower": "{percent} slower",
    "verdict.better": "better",
    "verdict.worse": "worse",
    "verdict.about the same": "about the same",
    "verdict.undecided": "undecided",
    "verdict.hidden": "hidden",
    "hidden": "hidden: the arms are not comparable",
    "was stopped": "; the arm was stopped",
    "decision.promote": "promote",
    "decision.roll back": "roll back",
    "decision.keep the control": "keep the control",
    "decision.choose": "choose",
    "decision.go on": "go on",
    "decision.investigate": "investigate",
    "advice.promote": "Switch to {variant}",
    "advice.roll back": "Take {variant} back, as it does harm",
    "advice.keep the control": "Keep {control}: nothing speaks for {variant}",
    "advice.choose": "A person has to choose between {control} and {variant}",
    "advice.go on": "Wait: it is too early to switch to {variant}",
    "advice.investigate": "Do not decide yet: the groups are not comparable, so no effect is shown",
    "advice.stopped arm": "{variant} was taken back",
    "advice.ended": "The experiment is over, and {answering} answers everybody",
    "known.quality.better": "quality is better ({difference})",
    "known.quality.worse": "quality is worse ({difference})",
    "known.quality.about the same": "quality is about the same",
    "known.quality.undecided": "quality is undecided",
    "unequally rated": "{known}, but the arms are not rated equally often",
    "known.cost.better": "it costs less",
    "known.cost.worse": "it costs more",
    "known.cost.about the same": "cost is about the same",
    "known.cost.undecided": "cost is undecided",
    "known.latency.better": "it is faster",
    "known.latency.worse": "it is slower",
    "known.latency.about the same": "latency is about the same",
    "known.latency.undecided": "latency is undecided",
    "unit.unit": "units",
    "unit.conversation": "conversations",
    "unit.tenant": "customers",
    "unit.key": "API keys",
    "metric.thumbs": "thumbs up",
    "metric.rating": "rating, 1 to 5",
    "metric.refusal": "refusals",
    "metric.accuracy": "all checks pass",
    "metric.invalid_format": "wrong format",
    "metric.error": "errors",
    "metric.latency": "latency",
    "metric.time_to_first_token": "time to first token",
    "metric.cost": "cost of an answer",
    "metric.asked_again": "asked again",
    "metric.edited": "share of the answer that was edited",
    "metric.escalation": "a person had to take over",
    "up": "more is better",
    "down": "less is better",
    "seconds": "{value} s",
    "points": "{value} points",
    "range": "{low} to {high}",
    "title": "Experiment {name}",
    "compared": "What was compared",
    "hypothesis": "Hypothesis",
    "control": "control",
    "arms": "Arms",
    "arm": "arm",
    "arm line": "{variant}, {share} of {units}",
    "taking part": "Taking part",
    "taking part line": "{share} of all {units}",
    "dates": "Dates",
    "dates running": "since {started} UTC, {days} days so far",
    "dates ended": "{started} to {ended} UTC, {days} days",
    "registered": "Registered plan",
    "registered line": "SHA-256 {hash}, fixed before the first request",
    "started by": "Started by",
    "analysis": "Analysis",
    "analysis.sequential": "may be looked at every day; tightest at {planned} {units} of two arms",
    "analysis.group-sequential": "{looks} looks in {days} days",
    "made": "Report made",
    "results": "Results",
    "result of": "{variant} against {control}",
    "metric": "metric",
    "difference": "difference",
    "interval": "interval",
    "relative": "relative",
    "verdict": "verdict",
    "primary": "decides",
    "zero": "0: no difference",
    "not measured": "not measured yet",
    "unbounded": "too early for an interval",
    "cuped": "{percent} of the variance is explained by what was known before the start (CUPED)",
    "guardrails": "Guardrails",
    "no guardrails": "None were declared: nothing stops a harmful arm by itself.",
    "guardrail": "guardrail",
    "harm": "worse by",
    "allowed": "allowed",
    "guardrail.fine": "fine",
    "guardrail.harmed": "harmed",
    "guardrail.undecided": "undecided",
    "better by": "{amount} better",
    "unknown": "not known yet",
    "traffic": "Traffic",
    "requests": "requests",
    "requests rated": "of these rated (“{metric}”)",
    "expected": "expected",
    "in two arms": "{count} {units} were seen in two arms and are left out.",
    "sample ratio": "Are the groups comparable",
    "sample ratio fine": "Yes: the arms have the {units} that the plan foretells, as far as can be "
    "seen (p {p}).",
    "sample ratio fired": "No: the arms have {counts} {units}, and {expected} were planned "
    "(p {p}). Something loses {units} of one arm. No effect is shown until the reason is found.",
    "missing": "Answers without a rating",
    "missing comparable": "{rate_control} of the answers of {control} are rated, and {rate_arm} "
    "of those of {variant}; no difference in who rates is seen.",
    "missing not comparable": "{rate_control} of the answers of {control} are rated, and "
    "{rate_arm} of those of {variant}: the arms are not rated equally often, so their ratings "
    "(“{metric}”) cannot be compared.",
    "missing worst": "If the missing ratings were as bad as possible in one arm and as good as "
    "possible in the other, the difference would be {interval}.",
    "segments": "Segments (exploratory)",
    "segments note": "“{metric}” by {by}. A segment is an idea for the next experiment, never a "
    "reason for a decision; verdicts are corrected for the number of segments.",
    "by.segment": "audience segment",
    "by.language": "language",
    "by.tenant": "customer",
    "exploratory": "exploratory",
    "segment": "segment",
    "history": "What was done",
    "event.started": "started",
    "event.stopped": "ended",
    "event.arm stopped": "arm {arm} taken back",
    "event.arm resumed": "arm {arm} resumed",
    "promoted to": "{arm} promoted",
    "why": "reason: {why}",
    "reading": "How to read this page",
    "reading text": "The interval holds the true difference in {confidence} of 100 experiments, "
    "however often somebody looks, and the point is the best guess. “Better” and “worse” mean that "
    "the whole interval lies on one side of 0; “undecided” means that more traffic is needed, not "
    "that there is no difference. Only the metric marked “{primary}” decides about quality; "
    "guardrails can stop an arm, and segments decide nothing.",
}

_RUSSIAN: Mapping[str, str] = {
    "aspect.quality": "качество",
    "aspect.cost": "цена",
    "aspect.latency": "время ответа",
    "joint": ": ",
    "cheaper": "на {percent} дешевле",
    "dearer": "на {percent} дороже",
    "faster": "на {percent} быстрее",
    "slower": "на {percent} медленнее",
    "verdict.better": "лучше",
    "verdict.worse": "хуже",
    "verdict.about the same": "почти без разницы",
    "verdict.undecided": "пока не ясно",
    "verdict.hidden": "скрыто",
    "hidden": "скрыто: группы несравнимы",
    "was stopped": "; вариант отключён",
    "decision.promote": "переходить",
    "decision.roll back": "отключить",
    "decision.keep the control": "оставить прежний",
    "decision.choose": "решать людям",
    "decision.go on": "продолжать",
    "decision.investigate": "искать причину",
    "advice.promote": "Пора переходить на {variant}",
    "advice.roll back": "{variant} нужно отключить: от него есть вред",
    "advice.keep the control": "Стоит оставить {control}: доводов за {variant} нет",
    "advice.choose": "Выбор между {control} и {variant} остаётся за людьми",
    "advice.go on": "Переходить на {variant} рано, эксперимент продолжается",
    "advice.investigate": "Решать рано: группы несравнимы, поэтому результаты скрыты",
    "advice.stopped arm": "{variant} отключён",
    "advice.ended": "Эксперимент завершён, всем отвечает {answering}",
    "known.quality.better": "качество выше ({difference})",
    "known.quality.worse": "качество ниже ({difference})",
    "known.quality.about the same": "качество почти не отличается",
    "known.quality.undecided": "по качеству ясности пока нет",
    "unequally rated": "{known}, но оценки вариантам ставят с разной частотой",
    "known.cost.better": "обходится дешевле",
    "known.cost.worse": "обходится дороже",
    "known.cost.about the same": "цена почти та же",
    "known.cost.undecided": "по цене ясности пока нет",
    "known.latency.better": "отвечает быстрее",
    "known.latency.worse": "отвечает медленнее",
    "known.latency.about the same": "скорость почти та же",
    "known.latency.undecided": "по скорости ясности пока нет",
    "unit.unit": "участников",
    "unit.conversation": "диалогов",
    "unit.tenant": "клиентов",
    "unit.key": "ключей API",
    "metric.thumbs": "доля лайков",
    "metric.rating": "оценка от 1 до 5",
    "metric.refusal": "доля отказов",
    "metric.accuracy": "доля ответов, прошедших все проверки",
    "metric.invalid_format": "доля ответов с неверным форматом",
    "metric.error": "доля ошибок",
    "metric.latency": "время ответа",
    "metric.time_to_first_token": "время до первого токена",
    "metric.cost": "стоимость ответа",
    "metric.asked_again": "доля повторных вопросов",
    "metric.edited": "исправленная часть ответа",
    "metric.escalation": "доля обращений, переданных человеку",
    "up": "чем больше, тем лучше",
    "down": "чем меньше, тем лучше",
    "seconds": "{value} с",
    "points": "{value} п. п.",
    "range": "от {low} до {high}",
    "title": "Эксперимент {name}",
    "compared": "Что сравнивали",
    "hypothesis": "Гипотеза",
    "control": "контрольный",
    "arms": "Варианты",
    "arm": "вариант",
    "arm line": "{variant}, {share} {units}",
    "taking part": "Охват",
    "taking part line": "{share} всех {units}",
    "dates": "Сроки",
    "dates running": "с {started} UTC, прошло дней: {days}",
    "dates ended": "с {started} по {ended} UTC, дней: {days}",
    "registered": "План",
    "registered line": "зафиксирован до первого запроса, SHA-256 {hash}",
    "started by": "Кто запустил",
    "analysis": "Анализ",
    "analysis.sequential": "смотреть можно каждый день; расчётный объём: {planned} {units} "
    "на два варианта",
    "analysis.group-sequential": "проверок: {looks}, дней: {days}",
    "made": "Отчёт составлен",
    "results": "Результаты",
    "result of": "{variant} в сравнении с {control}",
    "metric": "показатель",
    "difference": "разница",
    "interval": "интервал",
    "relative": "в процентах",
    "verdict": "вывод",
    "primary": "главный",
    "zero": "0: разницы нет",
    "not measured": "пока нет данных",
    "unbounded": "для интервала данных мало",
    "cuped": "{percent} разброса объясняется тем, что было известно до начала (CUPED)",
    "guardrails": "Защитные показатели",
    "no guardrails": "Не заданы: вредный вариант сам не отключится.",
    "guardrail": "показатель",
    "harm": "ухудшение",
    "allowed": "допустимо",
    "guardrail.fine": "в норме",
    "guardrail.harmed": "нарушен",
    "guardrail.undecided": "пока не ясно",
    "better by": "лучше на {amount}",
    "unknown": "пока не известно",
    "traffic": "Объём данных",
    "requests": "запросов",
    "requests rated": "из них с оценкой («{metric}»)",
    "expected": "ожидалось",
    "in two arms": "Попали сразу в два варианта и исключены из расчёта: {count} {units}.",
    "sample ratio": "Сравнимы ли группы",
    "sample ratio fine": "Да: число {units} в группах соответствует плану (p {p}).",
    "sample ratio fired": "Нет: в группах {counts} {units}, а по плану должно быть {expected} "
    "(p {p}). В одной из групп данные теряются. Пока причина не найдена, результаты скрыты.",
    "missing": "Ответы без оценки",
    "missing comparable": "Оценено {rate_control} ответов {control} и {rate_arm} ответов "
    "{variant}; различий в том, как часто ставят оценки, не видно.",
    "missing not comparable": "Оценено {rate_control} ответов {control} и {rate_arm} ответов "
    "{variant}: оценки ставят с разной частотой, поэтому сравнивать их («{metric}») нельзя.",
    "missing worst": "Разница составила бы {interval}, если бы все недостающие оценки оказались "
    "худшими у одного варианта и лучшими у другого.",
    "segments": "Сегменты (только для новых гипотез)",
    "segments note": "«{metric}»: {by}. Сегмент подсказывает идею следующего эксперимента, решений "
    "по нему не принимают; выводы учитывают число сегментов.",
    "by.segment": "по сегментам аудитории",
    "by.language": "по языкам",
    "by.tenant": "по клиентам",
    "exploratory": "для гипотез",
    "segment": "сегмент",
    "history": "История",
    "event.started": "запуск",
    "event.stopped": "завершение",
    "event.arm stopped": "вариант {arm} отключён",
    "event.arm resumed": "вариант {arm} снова включён",
    "promoted to": "для всех выбран {arm}",
    "why": "причина: {why}",
    "reading": "Как читать этот отчёт",
    "reading text": "Интервал накрывает истинную разницу в {confidence} экспериментах из 100, "
    "сколько бы раз на него ни смотрели, а точка показывает лучшую оценку. «Лучше» и «хуже» "
    "означает, что весь интервал лежит по одну сторону от нуля; «пока не ясно» означает, что "
    "данных мало, а не что разницы нет. О качестве судят только по показателю с пометкой "
    "«{primary}»; защитные показатели могут отключить вариант, а по сегментам решений не "
    "принимают.",
}

WORDS: Mapping[Language, Mapping[str, str]] = {"en": _ENGLISH, "ru": _RUSSIAN}
"""Both languages have the same keys and the same names in braces."""


def word(language: Language, key: str, **values: object) -> str:
    """Give a word or a sentence.

    Args:
        language: English or Russian.
        key: Which one.
        **values: What stands in the place of names in braces.

    Returns:
        The text.
    """
    return WORDS[language][key].format(**values)


def metric_name(language: Language, metric: str) -> str:
    """Give the name of a metric that people understand.

    Args:
        language: English or Russian.
        metric: A built-in or a declared metric.

    Returns:
        Its words; the name itself where it was declared.
    """
    return WORDS[language].get(f"metric.{metric}", metric)
