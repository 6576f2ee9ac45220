"""`kamerton chat VARIANT [OTHER]`."""

import sys
from pathlib import Path

import click
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel

from kamerton.cli.options import project_option

__all__ = ["chat"]


@click.command()
@click.argument("variants", nargs=-1, required=True)
@click.option("--message", "-m", help="Ask this one thing and print the answer.")
@click.option("--temperature", default=0.0, show_default=True, help="0 always takes the likeliest.")
@click.option("--max-tokens", default=200, show_default=True, help="Longest answer in tokens.")
@project_option
def chat(
    variants: tuple[str, ...],
    message: str | None,
    temperature: float,
    max_tokens: int,
    project: Path,
) -> None:
    """Talk to one of VARIANTS, or to two side by side.

    A name stands for a variant of the project; a base such as builtin:nano answers as it is.
    Empty input or Ctrl-D ends; /new begins a new conversation.
    """
    from kamerton.core.protocols import Generation
    from kamerton.flows.chat import Conversation
    from kamerton.flows.workspace import Workspace

    if len(variants) > 2:
        raise click.UsageError("at most two variants can be talked to at once")
    generation = Generation(max_tokens=max_tokens, temperature=temperature)
    conversation = Conversation.open(variants, Workspace(project), generation)
    if message is not None:
        _print_answers(conversation.ask(message))
        return
    out = Console(highlight=False)
    while True:
        try:
            said = click.prompt("you", prompt_suffix="> ", default="", show_default=False, err=True)
        except (EOFError, click.Abort):
            break
        if said.strip() == "/new":
            conversation.reset()
        elif not said.strip():
            break
        elif len(variants) == 1:
            for piece in conversation.stream(said):
                sys.stdout.write(piece)
                sys.stdout.flush()
            out.print()
        else:
            _print_answers(conversation.ask(said))


def _print_answers(answers: dict[str, str]) -> None:
    out = Console(highlight=False)
    if len(answers) == 1:
        click.echo(next(iter(answers.values())))
        return
    width = max(20, out.width // len(answers) - 2)
    panels = [Panel(text, title=name, width=width) for name, text in answers.items()]
    out.print(Columns(panels, padding=0))
