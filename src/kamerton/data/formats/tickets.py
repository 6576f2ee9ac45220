"""Tickets of help desks whose first message stands apart from the answers to it."""

import html
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from kamerton.data.rows import Rejection, Row

__all__ = ["whole_ticket"]

_BREAKS = re.compile(r"<br\s*/?>|</p>|</div>|</li>", re.IGNORECASE)
_TAGS = re.compile(r"<[^<>]+>")


def whole_ticket(row: Row | Rejection) -> Row | Rejection:
    """Put the customer's first message before the answers.

    Args:
        row: Any.

    Returns:
        Of Freshdesk's and Intercom's tickets the row with all turns in one list; others as they
        are. Zendesk's "description" is the first of its comments already.
    """
    if isinstance(row, Rejection):
        return row
    fields = row.fields
    answers, asked = fields.get("conversations"), fields.get("description_text")
    if _are_flagged(answers) and isinstance(asked, str) and asked.strip():
        first = {"incoming": True, "user_id": fields.get("requester_id"), "body_text": asked}
        others = {k: v for k, v in fields.items() if k != "description_text"}
        return Row(row.location, {**others, "conversations": [first, *answers]})
    source, parts = fields.get("source"), fields.get("conversation_parts")
    turns = parts.get("conversation_parts") if isinstance(parts, Mapping) else None
    if isinstance(source, Mapping) and "author" in source and isinstance(turns, list):
        others = {k: v for k, v in fields.items() if k not in ("source", "conversation_parts")}
        return Row(
            row.location, {**others, "messages": [_plain(turn) for turn in (source, *turns)]}
        )
    return row


def _are_flagged(answers: Any) -> TypeGuard[list[Any]]:
    """Tell Freshdesk's list of answers."""
    return isinstance(answers, list) and any(
        isinstance(answer, Mapping) and "incoming" in answer for answer in answers
    )


def _plain(turn: Any) -> Any:
    """Intercom writes all texts as HTML."""
    body = turn.get("body") if isinstance(turn, Mapping) else None
    if not isinstance(body, str):
        return turn
    text = html.unescape(_TAGS.sub("", _BREAKS.sub("\n", body)))
    return {**turn, "body": text.strip()}
