"""`kamerton chat VARIANT [OTHER]`."""

import math
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kamerton.cli.answers import print_side_by_side
from kamerton.cli.blind_vote import BlindVote
from kamerton.cli.console import busy, data_console, harmless, messages, say_notice
from kamerton.cli.options import (
    base_option,
    device_option,
    dtype_option,
    ensure_parent,
    language_option,
    project_option,
)
from kamerton.core.language import translated

if TYPE_CHECKING:
    from kamerton.flows.chat import Conversation

__all__ = ["chat"]

_COMMAND = re.compile(r"/[\w-]*( .*)?")
"""Paths have more slashes."""
_COMMANDS = "empty input or Ctrl-D ends, /new begins a new conversation"


@click.command()
@click.argument("variants", nargs=-1, required=True)
@click.option("--message", "-m", help="Ask this one thing and print the answer.")
@click.option(
    "--temperature",
    default=None,
    show_default="the variant's own",
    type=click.FloatRange(min=0),
    help="0 always takes the likeliest.",
)
@click.option(
    "--max-tokens",
    default=None,
    show_default="the variant's own",
    type=click.IntRange(min=1),
    help="Longest answer in tokens.",
)
@click.option(
    "--seed",
    default=None,
    show_default="another one every time",
    type=click.IntRange(min=0),
    help="Makes sampled answers repeatable.",
)
@click.option(
    "--votes",
    default=None,
    show_default="votes.jsonl in the project",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where votes on two answers are added, as rows to learn from.",
)
@base_option
@device_option
@dtype_option
@project_option
@language_option
def chat(
    variants: tuple[str, ...],
    message: str | None,
    temperature: float | None,
    max_tokens: int | None,
    seed: int | None,
    votes: Path | None,
    base: str,
    device: str,
    dtype: Any,
    project: Path,
) -> None:
    """Talk to one of VARIANTS, or to two side by side.

    A name stands for a variant of the project; a base such as builtin:nano, a GGUF file, or the
    folder of a Transformers model such as a merged variant, answers as it is.
    Empty input or Ctrl-D ends; /new begins a new conversation.

    Of two you see the answers without names and say which is better. Votes become pairs for
    objective.kind = "dpo" and its like, and both go on from the better answer. Where input comes
    from a file or a pipe, votes are only taken with --votes.
    """
    if len(variants) > 2:
        raise click.UsageError("at most two variants can be talked to at once")
    if len(variants) < 2 and votes:
        raise click.UsageError("votes are about the answers of two variants")
    if message is not None and not message.strip():
        raise click.UsageError("--message is empty: there is nothing to answer")
    if votes:
        ensure_parent(votes, "--votes")
    with busy(translated("loading PyTorch")):
        from kamerton.core.errors import ModelError
        from kamerton.flows.chat import Conversation
        from kamerton.flows.workspace import Workspace
        from kamerton.variants.load import Opening

    if temperature is not None and not math.isfinite(temperature):
        raise click.UsageError(f"--temperature must be a number from 0, got {temperature}")
    chosen = secrets.randbelow(1 << 31) if seed is None else seed
    with busy(translated("loading {listed}", listed=" and ".join(variants))):
        conversation = Conversation.open(
            variants, Workspace(project), seed=chosen, temperature=temperature,
            max_tokens=max_tokens, opening=Opening(base, device, dtype, say_notice),
        )  # fmt: skip
    if conversation.samples and seed is None:
        messages.print(
            translated("--seed {chosen} gives these answers again", chosen=chosen), style="dim"
        )
    if message is not None:
        _answer(conversation, message)
        return
    booth = None
    if len(variants) == 2 and (votes or sys.stdin.isatty()):
        booth = BlindVote(conversation, votes or project / "votes.jsonl", chosen)
    elif len(variants) == 2:
        messages.print(
            translated("input is no terminal: no votes are taken without --votes"), style="dim"
        )
    if sys.stdin.isatty():
        messages.print(_COMMANDS, style="dim")
    while True:
        try:
            said = click.prompt(
                translated("you"), prompt_suffix="> ", default="", show_default=False, err=True
            )
        except (EOFError, click.Abort):
            messages.print()
            break
        if said.strip() == "/new":
            conversation.reset()
            messages.print(translated("a new conversation"), style="dim")
        elif _COMMAND.fullmatch(said.strip()):
            messages.print(
                translated(
                    "error: there is no {harmless}; {COMMANDS}",
                    harmless=harmless(said.strip()),
                    COMMANDS=_COMMANDS,
                ),
                style="red",
            )
        elif not said.strip():
            break
        else:
            try:
                if booth:
                    booth.ask(said)
                else:
                    _answer(conversation, said)
            except ModelError as error:
                messages.print(error.message, style="yellow")
                messages.print(translated("hint: {hint}", hint=error.hint), style="dim")
    if booth:
        booth.close()


def _answer(conversation: "Conversation", said: str) -> None:
    """Print the answer as it comes, or those of two variants when both are whole."""
    if len(conversation.engines) == 1:
        thought = False
        for piece in conversation.stream(said):
            if piece.reasoning:
                # Reasoning is no data: whoever keeps the answer does not keep it.
                messages.print(harmless(piece.reasoning), style="dim", end="", soft_wrap=True)
                thought = True
            if piece.text:
                if thought:
                    messages.print("\n")
                    thought = False
                click.echo(harmless(piece.text), nl=False)
        click.echo()
        return
    with busy(translated("waiting for both answers")):
        answers = conversation.ask(said)
    print_side_by_side(data_console(), answers)
