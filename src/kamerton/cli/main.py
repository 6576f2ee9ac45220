"""The `kamerton` command: finds the verb's file and loads only that.

Data goes to stdout, messages to stderr. An error is one message and, where there is one, a hint.
"""

import importlib
import sys

import click

from kamerton import __version__
from kamerton.core.errors import KamertonError

__all__ = ["VERBS", "main", "run"]

VERBS = {
    "check": "audit examples; show what would be trained",
    "train": "make a variant from a recipe; goes on after a crash",
    "evaluate": "compare variants with prompting, with intervals and p-values",
    "chat": "talk to a variant, or to two side by side",
    "variant": "list, show, verify and merge variants",
    "demo": "the whole way on bundled data, offline, in minutes",
}
"""Every verb with its one-line help; a verb lives in `kamerton.cli.<verb>`."""


class _LazyGroup(click.Group):
    """Loads a verb's module when it is called, so that --help is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"kamerton.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kamerton")
def main() -> None:
    """Adapt a language model to one company's task, prove that it helped, and keep it adapted."""


def run() -> None:
    """Run the command line: the entry point of the installed `kamerton`."""
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except KamertonError as error:
        _show(error)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error of ours.
        sys.stderr.close()
        sys.exit(141)


def _show(error: KamertonError) -> None:
    click.secho("error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(error.message, err=True)
    if error.hint:
        click.secho("hint: ", fg="cyan", bold=True, err=True, nl=False)
        click.echo(error.hint, err=True)
