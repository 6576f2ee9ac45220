"""Conversations whose messages stand in rows of their own: tables of help desks, message trees.

Such rows name their conversation ("ticket_id") or the message that they answer ("parent_id"). All
of them are held in memory until the last one has been read, because nothing says that the messages
of one conversation stand together.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kamerton.core.errors import DataError
from kamerton.data.formats.messages import TRAIN_KEYS
from kamerton.data.formats.order import sortable_dates
from kamerton.data.formats.speakers import Speakers, is_deleted, is_service
from kamerton.data.rows import Rejection, Row
from kamerton.data.values import value_at

__all__ = ["TREE", "Threads", "find_threads", "turns_column"]

TREE = "conversation"
"""The column that says which tree a conversation was read from."""

_CONVERSATIONS = (
    *("conversation_id", "conversationId", "dialog_id", "dialogue_id", "dialogId", "chat_id"),
    *("chatId", "thread_id", "threadId", "thread_ts", "ticket_id", "ticketId", "session_id"),
    *("sessionId", "talk_id", "peer_id", "conversation", "dialog", "dialogue", "ticket"),
)
_PARENTS = ("parent_id", "parent_message_id", "parentId", "reply_to_message_id")
_IDENTITIES = ("message_id", "id", "uuid")


@dataclass(slots=True)
class Threads:
    """Joins rows into conversations.

    Attributes:
        column: What joins them.
        identity: The column that `column` refers to, where it names the message before; else empty.
        speakers: Tells what nobody said, and counts it.
        notices: What was joined and what was left out, once all rows have been read.
    """

    column: str
    identity: str = ""
    speakers: Speakers = field(default_factory=Speakers)
    notices: list[str] = field(default_factory=list)

    def join(self, rows: Iterable[Row | Rejection]) -> Iterator[Row | Rejection]:
        """Join rows into conversations.

        Args:
            rows: One message each.

        Yields:
            Rejections as they come, then a row for each conversation with its turns as `messages`.
        """
        messages: list[Row] = []
        for row in rows:
            if isinstance(row, Rejection):
                yield row
            elif is_service(row.fields):
                self.speakers.left_out["service messages"] += 1
            elif is_deleted(row.fields) and not self.identity:
                self.speakers.left_out["deleted messages"] += 1
            else:
                messages.append(row)
        num_conversations = 0
        for conversation in self._trees(messages) if self.identity else self._groups(messages):
            num_conversations += 1
            yield conversation
        self.notices.insert(
            0,
            f"{len(messages)} messages are joined into {num_conversations} conversations by "
            f"'{self.column}'",
        )

    def _groups(self, messages: Sequence[Row]) -> Iterator[Row]:
        groups: dict[Any, list[Row]] = {}
        for number, message in enumerate(messages):
            key = value_at(message.fields, self.column)
            groups.setdefault((number,) if key in (None, "") else str(key), []).append(message)
        for group in groups.values():
            yield _conversation([(message, True) for message in _in_order(group)])

    def _trees(self, messages: Sequence[Row]) -> Iterator[Row]:
        """Follow each tree to its ends; an answer that is in two conversations is trained once."""
        deleted = sum(is_deleted(message.fields) for message in messages)
        if deleted:
            self.notices.append(f"{deleted} deleted messages (and what follows them) are left out")
        known = {_key(message.fields.get(self.identity)) for message in messages}
        children: dict[str, list[Row]] = defaultdict(list)
        for message in messages:
            if is_deleted(message.fields):
                continue
            parent = _key(message.fields.get(self.column))
            children[parent if parent in known else ""].append(message)
        num_left_out = 0
        # Whoever is nobody's child begins a conversation.
        for root in children.pop("", []):
            pending = [[(root, True)]]
            while pending:
                path = pending.pop()
                answers = children.get(_key(path[-1][0].fields.get(self.identity)), [])
                best = _best(answers)
                num_left_out += len(answers) - len(best)
                # The first child goes on with what is new, the others with what was trained.
                old = [(message, False) for message, _ in path]
                pending += [[*old, (message, True)] for message in reversed(best[1:])]
                if best:
                    pending.append([*path, (best[0], True)])
                else:
                    tree = _key(root.fields.get(self.identity))
                    yield _conversation(path, {TREE: tree})
        if num_left_out:
            self.notices.append(
                f"{num_left_out} messages (and what follows them) are left out: others answer the "
                "same and have a better rank"
            )


def find_threads(
    sample: Sequence[Mapping[str, Any]],
    *,
    name: str,
    speakers: Speakers,
    column: str = "",
) -> Threads | None:
    """Tell whether rows are single messages of conversations, and what joins them.

    Args:
        sample: The first rows of a data set.
        name: Its name in errors.
        speakers: The roles of speakers.
        column: What joins them, where the user has named it.

    Returns:
        What joins them; None where rows are no messages.

    Raises:
        DataError: If they are messages of a user and an assistant and nothing joins them, or no
            row has the named column.
    """
    if column:
        if all(value_at(fields, column) is None for fields in sample):
            raise DataError(
                f"{name}: no row has the column '{column}' that data.columns.conversation names"
            )
        return Threads(column, speakers=speakers)
    turns = [fields for fields in sample if _is_turn(fields, speakers)]
    if len(turns) <= len(sample) / 2:
        return None
    roles = {speakers.who(fields)[2] for fields in turns}
    parent = next((key for key in _PARENTS if _share(turns, key) > 0), "")
    identity = next((key for key in _IDENTITIES if _share(turns, key) > 0.5), "")
    if parent and identity and {"user", "assistant"} <= roles:
        return Threads(parent, identity, speakers)
    column = next((key for key in _CONVERSATIONS if _share(turns, key) > 0.5), "")
    if column and _is_dialogue(turns, column, speakers):
        return Threads(column, speakers=speakers)
    key = speakers.who(turns[0])[0]
    messages = sum(fields.get("type") == "message" for fields in turns)
    if {"user", "assistant"} <= roles or messages > len(turns) / 2:
        raise DataError(
            f"{name}: each row is one message ('{key}' says who speaks), and no column says which "
            "conversation it belongs to",
            hint='name that column: data.columns = { conversation = "ticket" }; '
            'data.format = "text" takes every row as a text of its own',
        )
    return None


def turns_column(sample: Sequence[Mapping[str, Any]], speakers: Speakers) -> str:
    """Find a column of turns whose name is not known, such as a help desk's "comments".

    Args:
        sample: The first rows of a data set.
        speakers: Finds speakers and texts in turns.

    Returns:
        The column that holds dialogues in most rows, empty where there is none or several.
    """
    counts: Counter[str] = Counter()
    for fields in sample:
        for column, value in fields.items():
            turns = value if isinstance(value, list) else []
            spoken = [t for t in turns if isinstance(t, Mapping) and _is_turn(t, speakers)]
            who = {str(speakers.who(turn)[1]) for turn in spoken}
            # One speaker's turns may be anything, such as the better answer of a pair.
            counts[column] += len(spoken) > len(turns) / 2 and len(who) > 1
    found = [column for column, count in counts.items() if count > len(sample) / 2]
    return found[0] if len(found) == 1 else ""


def _is_turn(fields: Mapping[str, Any], speakers: Speakers) -> bool:
    key, speaker, _ = speakers.who(fields)
    return bool(key) and speaker not in (None, "") and isinstance(speakers.said(fields)[1], str)


def _is_dialogue(turns: Sequence[Mapping[str, Any]], column: str, speakers: Speakers) -> bool:
    """Tell dialogues, in which speakers answer each other, from texts that share a column."""
    groups: dict[str, list[str]] = defaultdict(list)
    for fields in turns:
        groups[str(fields.get(column))].append(str(speakers.who(fields)[1]))
    several = [group for group in groups.values() if len(group) > 1]
    return bool(several) and sum(len(set(group)) > 1 for group in several) > len(several) / 2


def _share(turns: Sequence[Mapping[str, Any]], key: str) -> float:
    return sum(fields.get(key) not in (None, "") for fields in turns) / len(turns)


def _best(answers: Sequence[Row]) -> list[Row]:
    """Where answers to one message have ranks, only the first of them goes on."""
    ranks = Counter(str(answer.fields.get("rank")) for answer in answers)
    if len(answers) < 2 or not all(rank.removesuffix(".0").isdecimal() for rank in ranks):
        return list(answers)
    return [min(answers, key=lambda answer: float(answer.fields["rank"]))]


def _conversation(path: Sequence[tuple[Row, bool]], extra: Mapping[str, Any] | None = None) -> Row:
    """Make one row; what all messages share stays a column of it."""
    first = path[0][0]
    shared = {
        key: value
        for key, value in first.fields.items()
        if all(message.fields.get(key) == value for message, _ in path) and len(path) > 1
    }
    turns = [m.fields if new else _untrained(m.fields) for m, new in path]
    for taken in ("text", "content", "role", "messages"):
        shared.pop(taken, None)
    return Row(first.location, {**shared, **(extra or {}), "messages": turns})


def _untrained(turn: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in turn.items() if key not in TRAIN_KEYS}
    return {**own, "weight": 0}


def _in_order(messages: Sequence[Row]) -> Sequence[Row]:
    """Sort by date, where that can be done safely: some exports have the newest first."""
    dates = sortable_dates([message.fields for message in messages])
    if dates is None:
        return messages
    return [messages[i] for i in sorted(range(len(messages)), key=dates.__getitem__)]


def _key(value: Any) -> str:
    return "" if value is None else str(value)
