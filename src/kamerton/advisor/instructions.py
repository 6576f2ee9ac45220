"""An instruction for a kind of task: the task in a sentence, and how an answer must look.

A new project gets it as its system text; prompting alone gets it where a project has none.
"""

from collections.abc import Mapping, Sequence

from kamerton.advisor.kinds import Kind, TaskKind

__all__ = ["MOST_CHARACTERS", "instruction", "task_sentence"]

MOST_CHARACTERS = 4_000
"""All labels together, up to which they are named."""

_TASKS: Mapping[str, Mapping[TaskKind, str]] = {
    "en": {
        "classes": "Decide which class the text belongs to.",
        "several classes": "Decide which classes the text belongs to.",
        "fields": "Find the facts in the text.",
        "rewriting": "Rewrite the text in our style and keep its facts.",
        "answers": "Answer the question.",
        "dialogues": "Answer the user's last message.",
        "pairs": "Answer the question.",
        "thumbs": "Answer the question.",
    },
    "ru": {
        "classes": "Определите, к какому классу относится текст.",
        "several classes": "Определите, к каким классам относится текст.",
        "fields": "Найдите в тексте нужные данные.",
        "rewriting": "Перепишите текст в нашем стиле, сохранив факты.",
        "answers": "Ответьте на вопрос.",
        "dialogues": "Ответьте на последнее сообщение пользователя.",
        "pairs": "Ответьте на вопрос.",
        "thumbs": "Ответьте на вопрос.",
    },
}
_FORMS: Mapping[str, Mapping[TaskKind, str]] = {
    "en": {
        "classes": "Answer with exactly one of these labels and nothing else: {labels}.",
        "several classes": "Answer with a JSON list of those of these labels that apply, and "
        "nothing else: {labels}.",
        "fields": "Answer with one JSON object and nothing else. Its keys: {labels}.",
    },
    "ru": {
        "classes": "Ответьте ровно одной из этих меток и ничем больше: {labels}.",
        "several classes": "Ответьте списком JSON из подходящих меток и ничем больше: {labels}.",
        "fields": "Ответьте одним объектом JSON и ничем больше. Его ключи: {labels}.",
    },
}


def instruction(kind: Kind, task: str, language: str) -> str:
    """Write the system text.

    Args:
        kind: The kind of task; its labels are named unless they are too many.
        task: The task in one sentence; empty takes the usual one of the kind.
        language: "ru" writes Russian, anything else English.

    Returns:
        The text; empty for plain texts, which have no turns.
    """
    if kind.name == "texts":
        return ""
    form = _FORMS[_written(language)].get(kind.name, "")
    first = task_sentence(kind, task, language)
    return " ".join(filter(None, (first, _with_labels(form, kind.labels))))


def task_sentence(kind: Kind, task: str, language: str) -> str:
    """Write the first sentence of an instruction alone.

    Args:
        kind: The kind of task, not plain texts.
        task: The task in one sentence; empty takes the usual one of the kind.
        language: "ru" writes Russian, anything else English.

    Returns:
        The sentence with its full stop.
    """
    first = task.strip() or _TASKS[_written(language)][kind.name]
    return first if first[-1] in ".!?:…" else f"{first}."


def _written(language: str) -> str:
    return "ru" if language == "ru" else "en"


def _with_labels(form: str, labels: Sequence[str]) -> str:
    named = "; ".join(labels)
    return form.replace("{labels}", named) if form and len(named) <= MOST_CHARACTERS else ""
