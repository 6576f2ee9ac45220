"""Who speaks in a turn and what is said, whatever the program calls both that wrote it down.

Messengers and help desks name people, not roles: `data.roles` says who is who. What nobody said to
the customer is left out and counted: service messages, internal notes, messages without text.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.core.errors import DataError
from kamerton.data.values import is_blank, value_at

__all__ = [
    "CONTENT_KEYS",
    "EVERYONE_ELSE",
    "IGNORED",
    "ROLE_KEYS",
    "Speakers",
    "is_deleted",
    "is_role",
    "is_service",
]

EVERYONE_ELSE = "*"
"""Stands in `data.roles` for all speakers that are not named."""
IGNORED = "ignore"
"""The role of speakers whose turns are left out."""
CONTENT_KEYS = (
    *("content", "value", "text", "utterance", "phrase", "body_text", "body", "message"),
)
"""Keys of a turn that may hold what is said."""

_WORDS = {
    "system": ("system", "developer", "система"),
    "user": (
        *("user", "human", "customer", "client", "prompter", "end-user", "end user", "enduser"),
        *("requester", "visitor", "buyer", "shopper", "caller", "contact", "lead", "incoming"),
        *("inbound", "in", "пользователь", "клиент", "покупатель", "заказчик", "посетитель"),
        *("абонент", "гость", "заявитель", "входящее"),
    ),
    "assistant": (
        *("assistant", "gpt", "chatgpt", "model", "bot", "chatbot", "ai", "agent", "operator"),
        *("support", "support agent", "helpdesk", "representative", "consultant", "manager"),
        *("admin", "teammate", "seller", "outgoing", "outbound", "out"),
        *("ассистент", "оператор", "бот"),
        *("поддержка", "служба поддержки", "техподдержка", "менеджер", "консультант"),
        *("специалист", "сотрудник", "администратор", "продавец", "исходящее"),
    ),
    "tool": ("tool", "function", "observation", "tool_response", "function_response"),
    "tool_call": ("tool_call", "function_call"),
}
_ROLE_OF = {word: role for role, words in _WORDS.items() for word in words}
ROLE_KEYS = ("role", "from", "speaker", "author")
"""Keys of a turn that may hold who speaks."""

# Names of logs; they count where the turn has a text as well.
_LOG_ROLE_KEYS = (
    *("sender", "sender_type", "author_type", "direction", "user", "from_id", "author_id"),
    *("sender_id", "user_id", "incoming", "out", "bot_id"),
)
_DATE_KEYS = ("date", "timestamp", "time", "ts", "created_at", "createdAt")
_NUMBER_KEYS = ("message_id", "parent_id", "ticket_id", "conversation_id")
_NAME_KEYS = ("type", "role", "name", "username", "email", "id")
_REPORTS = ("_join", "_leave", "_topic", "_purpose", "_name", "_archive", "_unarchive")
_NAMED = 6


def is_service(turn: Mapping[str, Any]) -> bool:
    """Tell what a messenger reports, such as a call or a new member, from what somebody said.

    Args:
        turn: The turn that was read.

    Returns:
        Whether it is such a report (exports of Telegram and Slack mark them).
    """
    # Slack says "channel_join", "group_topic" and the like.
    subtype = turn.get("subtype")
    return turn.get("type") == "service" or (
        isinstance(subtype, str) and subtype.endswith(_REPORTS)
    )


def is_deleted(turn: Mapping[str, Any]) -> bool:
    """Tell what its author or a moderator took back.

    Args:
        turn: The turn that was read.

    Returns:
        Whether it is marked so.
    """
    return turn.get("deleted") is True or turn.get("is_deleted") is True


def is_role(name: Any) -> bool:
    """Tell the usual name of a speaker in a conversation from other values.

    Args:
        name: Such as "user" or "gpt".

    Returns:
        Whether it is a known one.
    """
    return isinstance(name, str) and _plain(name) in _ROLE_OF


class Speakers:
    """Maps speakers to roles.

    Args:
        roles: Role to the speakers that have it; "*" stands for everyone else.
        columns: Where a turn holds "role" and "content", where that is not to be found out.

    Attributes:
        left_out: What kinds of turns were left out, and how many.
    """

    def __init__(
        self,
        roles: Mapping[str, Sequence[str]] | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        roles, columns = roles or {}, columns or {}
        self._named = {_plain(name): role for role, names in roles.items() for name in names}
        self._others = self._named.pop(EVERYONE_ELSE, None)
        self._role_column = columns.get("role", "")
        self._content_column = columns.get("content", "")
        # Nearly all turns have a usual role and no need to be searched.
        self._is_plain = not (self._named or self._others or self._role_column)
        self.left_out: Counter[str] = Counter()

    def said(self, turn: Mapping[str, Any]) -> tuple[str, Any]:
        """Find what is said in a turn.

        Args:
            turn: The turn that was read.

        Returns:
            The key and its value; None where there is none.
        """
        if self._content_column:
            return self._content_column, value_at(turn, self._content_column)
        key = next((key for key in CONTENT_KEYS if turn.get(key) is not None), "content")
        value = turn.get(key)
        if isinstance(value, Mapping) and isinstance(value.get("text"), str):
            return f"{key}.text", value["text"]
        return key, value

    def who(self, turn: Mapping[str, Any]) -> tuple[str, Any, str | None]:
        """Find who speaks in a turn.

        Args:
            turn: The turn that was read.

        Returns:
            The key, empty where there is none; what stands there; its role, None for one that is
            not known.
        """
        role = turn.get("role")
        if self._is_plain and isinstance(role, str) and role in _ROLE_OF:
            return "role", role, _ROLE_OF[role]
        found = [(key, _direction(key, value_at(turn, key))) for key in self._keys(turn)]
        for key, value in found:
            role = self._role(key, value)
            if role is not None:
                return key, value, role
        # An account that was deleted has a number and no name.
        named = [one for one in found if _name(one[1])]
        return (*(named or found or [("", None)])[0], None)

    def is_log(self, turn: Mapping[str, Any]) -> bool:
        """Tell turns of messengers and help desks, which are full of dates and numbers.

        Args:
            turn: The turn that was read.

        Returns:
            Whether it has a date, the number of a message or conversation, or a log's key of the
            speaker.
        """
        is_dated = not turn.keys().isdisjoint((*_DATE_KEYS, *_NUMBER_KEYS))
        return is_dated or self.who(turn)[0] in _LOG_ROLE_KEYS

    def leaves_out(self, turn: Mapping[str, Any]) -> str:
        """Tell turns that are no part of the conversation.

        Args:
            turn: The turn that was read.

        Returns:
            What kind it is, empty for turns that stay.
        """
        if is_service(turn):
            return "service messages"
        if is_deleted(turn):
            return "deleted messages"
        if (
            turn.get("public") is False
            or turn.get("private") is True
            or turn.get("part_type") == "note"
        ):
            return "internal notes"
        ignores = self._others == IGNORED or IGNORED in self._named.values()
        if ignores and self.who(turn)[2] == IGNORED:
            return "turns of speakers that data.roles ignores"
        if turn.keys().isdisjoint(_DATE_KEYS):
            return ""
        said = self.said(turn)[1]
        blank = said is None or said == [] or (isinstance(said, str) and is_blank(said))
        if blank:
            calls = turn.keys() & {"tool_calls", "function_call", "tool_call_id"}
            if not calls and self.who(turn)[2] not in ("tool", "tool_call", "system"):
                return "messages without text"
        return ""

    def ensure_known(self, conversations: Sequence[Any], name: str) -> None:
        """Refuse a data set in most of whose conversations nobody is known to answer.

        Args:
            conversations: As read; what is no list of turns is passed over.
            name: How the error calls the data set.

        Raises:
            DataError: With the speakers found and the setting that says who is who.
        """
        spoken = []
        for turns in conversations:
            if isinstance(turns, list):
                stay = [t for t in turns if isinstance(t, Mapping) and not self.leaves_out(t)]
                spoken.append([(_name(value), role) for _, value, role in map(self.who, stay)])
        # Several speakers of one role: to amoCRM an operator is a "user".
        strange = [
            any(n and r is None for n, r in one)
            or (len(set(one)) > 1 and {r for _, r in one} == {"user"})
            for one in spoken
        ]
        if not spoken or sum(strange) <= len(spoken) / 2:
            return
        unknown = [[n for n, r in one if r is None] or [n for n, _ in one] for one in spoken]
        counts = Counter(n for names in unknown for n in dict.fromkeys(names))
        more = f" and {len(counts) - _NAMED} more" if len(counts) > _NAMED else ""
        listed = ", ".join(f"'{speaker}'" for speaker, _ in counts.most_common(_NAMED))
        raise DataError(
            f"{name}: who is the user and who answers? Speakers to be told apart: {listed}{more}",
            hint=f"say it in the recipe, or after --set: data.roles = {_proposal(spoken, counts)}",
        )

    def _keys(self, turn: Mapping[str, Any]) -> list[str]:
        if self._role_column:
            return [self._role_column]
        # Tables fill the keys that other turns have with null.
        keys = [key for key in ROLE_KEYS if turn.get(key) is not None]
        if "role" in keys:
            return ["role"]
        if self.said(turn)[1] is not None:
            keys += [key for key in _LOG_ROLE_KEYS if turn.get(key) is not None]
        return keys

    def _role(self, key: str, value: Any) -> str | None:
        names = [_plain(name) for name in _names(value)]
        for name in names:
            if name in self._named:
                return self._named[name]
        # In dialogue corpora the speakers are USER and SYSTEM, and SYSTEM is the one who answers.
        if key == "speaker" and names == ["system"]:
            return "assistant"
        known = next((_ROLE_OF[name] for name in names if name in _ROLE_OF), None)
        # A person may be called "Support"; a role may not.
        return known or self._others if key == "role" else (names and self._others) or known


def _proposal(spoken: Sequence[Sequence[tuple[str, str | None]]], counts: Counter[str]) -> str:
    """Word the setting: who answers speaks in most conversations, and seldom first."""
    first = Counter(one[0][0] for one in spoken if one)
    ranked = sorted(counts, key=lambda speaker: (-counts[speaker], first[speaker]))
    known = {role for one in spoken for name, role in one if name not in counts}
    if {"user", "assistant"} <= known:
        # A third one, beside those who ask and answer, has to be decided by the user.
        return f"{{ {IGNORED} = {_quoted(ranked)} }}, or user or assistant in place of {IGNORED}"
    answering = ranked[:0] if "assistant" in known else ranked if "user" in known else ranked[:1]
    asking = [speaker for speaker in ranked if speaker not in answering]
    if len(asking) > _NAMED // 2:
        asking = [EVERYONE_ELSE]
    parts = [
        f"{role} = {_quoted(names)}"
        for role, names in (("user", asking), ("assistant", answering))
        if names
    ]
    return f"{{ {', '.join(parts)} }}"


def _quoted(names: Sequence[str]) -> str:
    texts = ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _names(value: Any) -> list[str]:
    """List what a speaker is called: help desks nest type and name in one object."""
    if isinstance(value, Mapping):
        return [name for key in _NAME_KEYS for name in _names(value.get(key))]
    if isinstance(value, bool) or not isinstance(value, str | int):
        return []
    return [str(value).strip()] if str(value).strip() else []


def _name(value: Any) -> str:
    names = _names(value)
    if isinstance(value, Mapping):
        # A type that is no role says less than the name.
        known = [name for name in names if _plain(name) in _ROLE_OF]
        other = {key: inner for key, inner in value.items() if key not in ("type", "role")}
        names = known or _names(other) or names
    return next(iter(names), "")


def _direction(key: str, value: Any) -> Any:
    """Word a flag of help desks: who writes "in" is the customer."""
    if key == "incoming" and isinstance(value, bool):
        return "in" if value else "out"
    if key == "out" and value in (0, 1):
        return "out" if value else "in"
    return value


def _plain(name: str) -> str:
    return name.strip().casefold()
