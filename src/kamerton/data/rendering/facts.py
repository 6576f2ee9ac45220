"""What a tokenizer and its chat template do, found by trying them on a made-up chat."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from kamerton.core.errors import RenderingError
from kamerton.data.rendering.chats import ReasoningKey, Traits
from kamerton.data.rendering.templates import (
    Tokenizer,
    has_generation_markers,
    has_own_template,
    template_hash,
    template_of,
    tokenizer_hash,
    writes_date,
)
from kamerton.data.rendering.turns import ChatWriter

__all__ = ["RenderFacts", "find_facts", "find_traits"]

# Words that no template writes by itself.
_SYSTEM, _ASK, _ANSWER, _MORE, _AGAIN = "Qsys", "Qask", "Qanswer", "Qmore", "Qagain"
_TOOL = {
    "type": "function",
    "function": {
        "name": "Qtool",
        "description": "Qtool",
        "parameters": {"type": "object", "properties": {"Qkey": {"type": "string"}}},
    },
}


@dataclass(frozen=True, slots=True)
class RenderFacts:
    """What rendering will do with a tokenizer.

    Attributes:
        bos: Who brings the one BOS at the start, if anybody.
        bos_id: Its id; None when rows have none.
        bos_in_turns: Whether the template writes the same token before other turns too.
        eos_id: The tokenizer's EOS.
        end: The text of the token that ends an answer.
        end_by: Whether the template writes it or it is added.
        pad_id: For padded rows only. Where EOS or 0 stands in, masks go by position, never by id.
        chat_template: The tokenizer's own, or `PLAIN_TEMPLATE`.
        masks_by: How the mask is made.
        deletes_history: Whether an answer changes once the chat goes on, so that a chat is split
            into one row per such answer.
        system: Where system text goes.
        tools: Whether the template writes tool schemas and calls.
        merges_neighbours: Whether neighbours of one role are merged, since the template refuses.
        thinking: What the prompt says about thinking.
        template_hash: Over the template.
        tokenizer_hash: Over the tokenizer without its template.
        notices: Sentences that a user should read.
    """

    bos: Literal["template", "tokenizer", "none"]
    bos_id: int | None
    eos_id: int | None
    end: str
    end_by: Literal["template", "added"]
    pad_id: int
    chat_template: Literal["own", "supplied plain"]
    masks_by: Literal["incremental", "incremental, generation markers agree"]
    deletes_history: bool
    system: Literal["own turn", "in the first user turn"]
    tools: bool
    merges_neighbours: bool
    thinking: Literal["none", "opened by the prompt", "closed by the prompt"]
    template_hash: str
    tokenizer_hash: str
    notices: tuple[str, ...] = ()
    bos_in_turns: bool = False

    def lines(self) -> list[tuple[str, str]]:
        """Word the facts for a table.

        Returns:
            Pairs of name and value, hashes shortened.
        """
        bos = "none" if self.bos == "none" else f"one, by the {self.bos} (id {self.bos_id})"
        bos += ", which also begins turns" if self.bos_in_turns else ""
        end = "written by the template" if self.end_by == "template" else "added"
        return [
            ("chat template", f"{self.chat_template} ({self.template_hash[:12]})"),
            ("BOS", bos),
            ("end of answer", f"{self.end}, {end}"),
            ("loss mask", self.masks_by),
            ("history", "rewritten by the template" if self.deletes_history else "kept as it was"),
            ("system text", self.system),
            ("tools", "yes" if self.tools else "no"),
            ("thinking", self.thinking),
        ]


def find_traits(writer: ChatWriter) -> Traits:
    """Try out what a template can do.

    Args:
        writer: With default traits.

    Returns:
        Its traits.

    Raises:
        RenderingError: If it cannot even write a question and its answer.
    """
    system, ask, answer = _message("system", _SYSTEM), _message("user", _ASK), _ANSWER
    reply = _message("assistant", answer)
    plain = writer.write([ask], opening=False)
    prompt = writer.write([ask], opening=True)
    full = writer.write([ask, reply], opening=False)
    if _ASK not in prompt or answer not in full:
        raise RenderingError(
            "the chat template must write user and assistant text, found neither or only one",
            hint="the tokenizer's chat_template is damaged or not meant for chats",
        )
    base = _common_prefix(plain, prompt)
    more, again = _message("user", _MORE), _message("assistant", _AGAIN)
    late = (
        _attempt(lambda: writer.write([ask, system, reply], opening=False)),
        _attempt(lambda: writer.write([ask, reply, system, more, again], opening=False)),
    )
    traits = Traits(
        late_system=all(_SYSTEM in text for text in late),
        opens=_AGAIN in _attempt(lambda: writer.write([again, ask, reply], opening=False)),
        system=_SYSTEM in _attempt(lambda: writer.write([system, ask, reply], opening=False)),
        repeats=bool(
            _attempt(lambda: writer.write([ask, ask, reply], opening=False))
            and _attempt(lambda: writer.write([ask, reply, reply], opening=False))
        ),
        reasoning=_reasoning(writer, ask, reply),
        tools="Qtool" in _attempt(lambda: writer.write([ask], [_TOOL], opening=True)),
        opening=prompt[len(base) :],
        header=full[len(base) : full.index(answer)] if full.startswith(base) else "",
        stops=_stops(writer, full[full.index(answer) + len(answer) :]),
    )
    forms: tuple[Literal["mapping", "text"], ...] = ("mapping", "text")
    for calls in forms:
        stops = _call_stops(replace(writer, traits=replace(traits, calls=calls)))
        if stops is not None:
            return replace(traits, calls=calls, stops=traits.stops + stops)
    return replace(traits, calls=None)


def _reasoning(
    writer: ChatWriter, ask: dict[str, Any], reply: dict[str, Any]
) -> ReasoningKey | Literal["inline"] | None:
    """Find where a template takes an answer's reasoning from."""
    thinking = writer.with_thinking()
    keys: tuple[ReasoningKey, ...] = ("reasoning_content", "reasoning", "thinking")
    for key in keys:
        chat = [ask, {**reply, key: "Qreason"}]
        if "Qreason" in _attempt(partial(thinking.write, chat, opening=False)):
            return key
    if "think>" not in template_of(writer.tokenizer):
        return None
    inline = {**reply, "content": f"<think>\nQreason\n</think>\n\n{_ANSWER}"}
    written = _attempt(lambda: thinking.write([ask, inline], opening=False))
    return "inline" if "Qreason" in written else None


def find_facts(writer: ChatWriter, vocab_size: int | None) -> RenderFacts:
    """Find out what rendering will do.

    Args:
        writer: With its traits.
        vocab_size: Rows of the embedding, if known.

    Returns:
        The facts.

    Raises:
        RenderingError: If nothing can ever end an answer.
    """
    tokenizer, traits = writer.tokenizer, writer.traits
    if not traits.stops:
        raise RenderingError(
            "the tokenizer must have an EOS token or its template must end a turn, found neither",
            hint="set the tokenizer's eos_token to the token that the base was trained with",
        )
    turn = writer.turn([_message("user", _ASK), _message("assistant", _ANSWER)])
    bos = _bos(tokenizer, turn.prompt)
    markers = _marked(writer)
    agree = markers is not None and _squeeze(markers) == _squeeze(turn.answer)
    facts = RenderFacts(
        bos=bos,
        bos_id=tokenizer.bos_token_id if bos != "none" else None,
        eos_id=tokenizer.eos_token_id,
        end=traits.stops[0],
        end_by="template" if turn.closed else "added",
        pad_id=next(
            (i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0
        ),
        chat_template="own" if has_own_template(tokenizer) else "supplied plain",
        masks_by="incremental, generation markers agree" if agree else "incremental",
        deletes_history=_deletes_history(writer),
        system="own turn" if traits.system else "in the first user turn",
        tools=traits.tools and traits.calls is not None,
        merges_neighbours=not traits.repeats,
        thinking=_thinking(turn.prompt),
        template_hash=template_hash(tokenizer),
        tokenizer_hash=tokenizer_hash(tokenizer),
        bos_in_turns=bos != "none" and _begins_turns(writer, str(tokenizer.bos_token)),
    )
    notices = _notices(facts, tokenizer, vocab_size)
    if writes_date(tokenizer) and not writer.date:
        notices.append(
            "the template writes today's date: rows differ from day to day; render.date gives it "
            "another, and a run keeps the date that it began with"
        )
    if markers is not None and not agree:
        notices.append(
            f"the template marks {markers!r} as the model's own text, but an answer that "
            f"generation would produce is {turn.answer!r}: that is trained"
        )
    return replace(facts, notices=tuple(notices))


def _notices(facts: RenderFacts, tokenizer: Tokenizer, vocab_size: int | None) -> list[str]:
    notices = []
    if facts.chat_template == "supplied plain":
        notices.append("the tokenizer has no chat template: a plain one is supplied")
    elif facts.bos == "tokenizer":
        notices.append(
            "the chat template writes no BOS but the tokenizer adds one: rows and prompts have "
            "one, other servers may leave it out"
        )
    if facts.deletes_history:
        notices.append(
            "the chat template rewrites earlier answers: a chat is split so that each answer is "
            "trained as it would be generated"
        )
    if facts.system != "own turn":
        notices.append("the template has no system turn: system text goes into the first user turn")
    if facts.end_by == "added":
        notices.append(f"the template ends answers with no control token: {facts.end} is added")
    if vocab_size is not None and len(tokenizer) > vocab_size:
        notices.append(
            f"the tokenizer has {len(tokenizer)} tokens but the embedding {vocab_size} rows: "
            "examples with the rest are refused"
        )
    return notices


def _stops(writer: ChatWriter, tail: str) -> tuple[str, ...]:
    """Find the control token that follows an answer; the tokenizer's EOS also ends one."""
    found = [
        (tail.index(text), -len(text), text) for text in writer.encoder.control if text in tail
    ]
    eos = [str(writer.tokenizer.eos_token)] if writer.tokenizer.eos_token_id is not None else []
    return tuple(dict.fromkeys([min(found)[2], *eos] if found else eos))


def _call_stops(writer: ChatWriter) -> tuple[str, ...] | None:
    """Find what else ends a turn with a tool call; None when the template does not write calls."""
    call = {"id": "Qcallid01", "function": {"name": "Qtool", "arguments": {"Qkey": "Qvalue"}}}
    chat = writer.normalise(
        [
            _message("user", _ASK),
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": _MORE, "tool_call_id": "Qcallid01", "name": "Qtool"},
            _message("assistant", _AGAIN),
        ]
    )
    text = _attempt(lambda: writer.write(chat[:2], [_TOOL] * writer.traits.tools, opening=False))
    whole = _attempt(lambda: writer.write(chat, [_TOOL] * writer.traits.tools, opening=False))
    after = text.partition(_ASK)[2]
    if not all(word in after for word in ("Qtool", "Qvalue")) or _MORE not in whole:
        return None
    text = text.rstrip()
    ends = [token for token in writer.encoder.control if text.endswith(token)]
    return tuple(token for token in ends if token not in writer.traits.stops)


def _deletes_history(writer: ChatWriter) -> bool:
    reasoning = {"reasoning_content": "Qreason"} if writer.thinking else {}
    chat = [
        _message("user", _ASK),
        {**_message("assistant", _ANSWER), **reasoning},
        _message("user", _MORE),
    ]
    try:
        first = writer.turn(chat[:2])
    except RenderingError:
        # The template knows no reasoning.
        first = writer.turn([chat[0], _message("assistant", _ANSWER)])
    return not writer.prompt(chat).startswith(first.text)


def _bos(tokenizer: Tokenizer, prompt: str) -> Literal["template", "tokenizer", "none"]:
    if tokenizer.bos_token_id is None:
        return "none"
    if prompt.startswith(str(tokenizer.bos_token)):
        return "template"
    ids = list(tokenizer(_ASK)["input_ids"])
    return "tokenizer" if ids[:1] == [tokenizer.bos_token_id] else "none"


def _begins_turns(writer: ChatWriter, bos: str) -> bool:
    """Tell a BOS that is the mark of a turn as well (SmolLM2), or begins every question."""
    chat = [_message("user", _ASK), _message("assistant", _ANSWER), _message("user", _MORE)]
    text = writer.write(chat, opening=True)
    # Some templates write BOS twice at the start, which is then taken once.
    while text.startswith(bos):
        text = text.removeprefix(bos)
    return bos in text


def _thinking(prompt: str) -> Literal["none", "opened by the prompt", "closed by the prompt"]:
    end = prompt.rstrip()
    if end.endswith("<think>"):
        return "opened by the prompt"
    return "closed by the prompt" if end.endswith("</think>") else "none"


def _marked(writer: ChatWriter) -> str | None:
    """Read what a template's generation markers cover; None when it has none that can be read."""
    template = writer.template()
    if not has_generation_markers(template):
        return None
    try:
        marked: Any = writer.tokenizer.apply_chat_template(
            [_message("user", _ASK), _message("assistant", _ANSWER)],
            chat_template=template,
            return_assistant_tokens_mask=True,
            return_dict=True,
            **writer.given,
        )
    # Tokenizers without offsets cannot say which tokens a marker covers.
    except (ValueError, NotImplementedError):
        return None
    pairs = zip(marked["input_ids"], marked["assistant_masks"], strict=True)
    return str(writer.tokenizer.decode([index for index, inside in pairs if inside]))


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _attempt(write: Callable[[], str]) -> str:
    try:
        return write()
    except RenderingError:
        return ""


def _common_prefix(first: str, second: str) -> str:
    same = 0
    for left, right in zip(first, second, strict=False):
        if left != right:
            break
        same += 1
    return first[:same]


def _squeeze(text: str) -> str:
    return "".join(text.split())
