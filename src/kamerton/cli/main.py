"""The `kamerton` command: finds the verb's file and loads only that.

Data goes to stdout, messages to stderr. An error is one message and, where there is one, a hint.
"""

import errno
import importlib
import io
import os
import sys

import click

from kamerton import __version__
from kamerton.core.errors import InterruptedRun, KamertonError

__all__ = ["VERBS", "main", "run"]

VERBS = {
    "new": "make a project of a file: what it is, and a recipe for it",
    "advise": "rank the methods for a file or a project, with reasons",
    "check": "audit examples; show what would be trained",
    "train": "make a variant from a recipe; goes on after a crash",
    "evaluate": "compare variants with prompting, with intervals and p-values",
    "prompt": "search the best instruction and demonstrations, without training",
    "predict": "apply a variant to a file: labels with confidence, fields, answers",
    "label": "let a teacher label a file, and keep what is proven good enough",
    "serve": "answer OpenAI's clients: one base, all its variants",
    "route": "try the rules that map names to variants",
    "experiment": "compare variants on live traffic: plan, start, report, stop",
    "metrics": "tell how the variants do on live traffic",
    "feedback": "bring in judgements of answers, make training rows of them",
    "chat": "talk to a variant, or to two side by side",
    "variant": "list, show, verify, combine, merge and export variants",
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            from kamerton.core.settings import suggestion

            raise click.UsageError(
                f"there is no verb '{args[0]}'{suggestion(args[0], list(VERBS))}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kamerton")
def main() -> None:
    """Adapt a language model to one company's task, prove that it helped, and keep it adapted."""


def run() -> None:
    """Run the command line: the entry point of the installed `kamerton`."""
    stdout = sys.stdout
    for stream in (stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a letter gets its number instead of our crash.
            stream.reconfigure(errors="backslashreplace")
    try:
        main(prog_name="kamerton", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as error:
        # Both answer a closed pipe with a plain 1: rich at once, click with another stdout.
        if sys.stdout is not stdout or isinstance(error.__context__, BrokenPipeError):
            _leave_pipe()
        raise
    except BrokenPipeError:
        _leave_pipe()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "kamerton"
        _print("error", "red", error.format_message())
        _print("hint", "cyan", f"{command} --help")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _print("error", "red", error.format_message())
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except KamertonError as error:
        # Whoever presses Ctrl-C knows what happened: that is no error.
        if isinstance(error, InterruptedRun):
            click.echo(error.message, err=True)
        else:
            _print("error", "red", error.message)
        if error.hint:
            _print("hint", "cyan", error.hint)
        sys.exit(error.exit_status)
    except OSError as error:
        # A full disk, a folder that may not be written: the system's word and the place say all.
        where = f"{error.filename}: " if error.filename else ""
        _print("error", "red", f"{where}{error.strerror or error}")
        _print("hint", "cyan", _OS_HINTS.get(error.errno or 0, _OS_HINT))
        sys.exit(1)


_OS_HINT = "what was complete before is still there; the same command goes on"
_OS_HINTS = {
    errno.ENOSPC: f"make room on the disk; {_OS_HINT}",
    errno.EACCES: "you may not read or write there: choose another folder, or change its rights",
    errno.EROFS: "nothing can be written there: choose another folder",
    errno.ENOENT: "check the path",
    errno.EISDIR: "a file is needed there, and this is a folder",
    errno.ENOTDIR: "a folder is needed there, and this is a file",
}


def _leave_pipe() -> None:
    """End quietly when the reader of our output went away (`| head`), as other programs do."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(141)


def _print(kind: str, colour: str, message: str) -> None:
    # click drops colours where stderr is no terminal, and we where NO_COLOR is set.
    plain = bool(os.environ.get("NO_COLOR"))
    click.echo(
        (f"{kind}: " if plain else click.style(f"{kind}: ", fg=colour, bold=True)),
        err=True,
        nl=False,
    )
    from kamerton.cli.console import harmless

    click.echo(harmless(message), err=True)
