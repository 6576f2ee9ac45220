"""`kamerton serve [VARIANT...]`."""

import json
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from kamerton.cli.console import harmless, messages, progress_sink
from kamerton.cli.options import base_option, device_option, dtype_option, project_option
from kamerton.core.errors import SettingsError

if TYPE_CHECKING:
    from kamerton.flows.recording import RecordOptions
    from kamerton.flows.serve import Listening

__all__ = ["serve"]

_OF_OWN_ENGINE = ("cache_mib", "memory_mib", "device", "dtype", "quantise")
"""Options that say how to compute here."""


def _print_hash(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        from kamerton.serving.keys import hash_key

        click.echo(hash_key(click.prompt("key", hide_input=True, err=True)))
        context.exit()


@click.command()
@click.argument("variants", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port; 0 takes a free one.",
)
@click.option(
    "--api-key",
    "keys",
    multiple=True,
    envvar="KAMERTON_API_KEY",
    metavar="KEY",
    help="Lets in only clients that send this key. May be repeated; spaces divide keys in the "
    "environment variable KAMERTON_API_KEY.",
)
@click.option(
    "--keys",
    "keys_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A TOML file with a table [[key]] for each key: name, sha256, scopes, per_minute.",
)
@click.option(
    "--hash-key",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_hash,
    help="Asks for a key, prints its SHA-256 for --keys, and stops.",
)
@click.option(
    "--slots",
    default=16,
    show_default=True,
    type=click.IntRange(1, 512),
    help="Most answers computed at once; more wait. With --engine, most that each engine is asked "
    "for at once, which has no limit unless it is given.",
)
@click.option(
    "--cache-mib",
    default=2048,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="MIB",
    help="Memory for what answers that are being computed have read; where it would not be "
    "enough for one more, that one waits.",
)
@click.option(
    "--limit",
    default=256,
    show_default=True,
    type=click.IntRange(min=1),
    help="Most answers that may be open, waiting ones included; further requests get status 429.",
)
@click.option(
    "--timeout-s",
    default=600.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which a request ends with an error, its wait for a place included.",
)
@click.option(
    "--drain-s",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds that open answers have to finish when SIGTERM or Ctrl-C comes.",
)
@click.option(
    "--access-log",
    "access",
    default="-",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Gets a line of JSON for each request, never with a text or a key; - is standard error.",
)
@click.option(
    "--routes",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A TOML file with a table [route.NAME] for each name that rules map to variants.",
)
@click.option(
    "--memory-mib",
    type=click.FloatRange(min=0, min_open=True),
    help="Most memory of all adapters together, in MiB. Above it, those that were not used for the "
    "longest time stay on disk until they are asked for. Without it there is no limit.",
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    help="Port of the admin API, which loads, replaces and unloads variants; 0 takes a free one. "
    "Without it there is none.",
)
@click.option(
    "--admin-key",
    "admin_keys",
    multiple=True,
    envvar="KAMERTON_ADMIN_KEY",
    metavar="KEY",
    help="Lets in only who sends this key to the admin API, which then listens on --host; without "
    "one it listens on this machine alone. May be repeated; spaces divide keys in the environment "
    "variable KAMERTON_ADMIN_KEY.",
)
@click.option(
    "--record",
    is_flag=False,
    flag_value="",
    metavar="[URL]",
    help="Records each answered request, and takes feedback: in the project's store, or in the "
    "database URL. Without a URL it stands after VARIANTS.",
)
@click.option(
    "--record-text",
    type=click.Choice(["none", "redacted", "full"]),
    default="none",
    show_default=True,
    help="What is recorded of prompts and answers: nothing, a copy without personal data, or all. "
    "Comments and corrections are recorded always, without personal data unless this is full.",
)
@click.option(
    "--record-days",
    type=click.FloatRange(min=0, min_open=True),
    help="Days after which recorded texts are deleted; numbers stay.",
)
@click.option(
    "--hash-units",
    is_flag=True,
    help="Records ids of units, conversations and raters only as hashes, keyed with the project's "
    "secret.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="URL",
    help="Asks another engine that speaks OpenAI's API, such as vLLM or llama.cpp's server, "
    "instead of computing here; --base then names the base among its models. May be repeated.",
)
@click.option(
    "--engine-key",
    "engine_keys",
    multiple=True,
    envvar="KAMERTON_ENGINE_KEY",
    metavar="KEY",
    help="Key that the engines ask for: one for all, or one for each in their order; spaces divide "
    "keys in the environment variable KAMERTON_ENGINE_KEY.",
)
@base_option
@device_option
@dtype_option
@click.option(
    "--quantise",
    type=click.Choice(["none", "int8", "nf4"]),
    default=None,
    show_default="as the variants say",
    help="Holds the linear layers of the base in few bits: less memory, and int8 answers faster in "
    "bfloat16 on a CPU. Variants made over whole weights then answer a little otherwise.",
)
@project_option
def serve(
    variants: tuple[str, ...],
    host: str,
    port: int,
    keys: tuple[str, ...],
    keys_file: Path | None,
    slots: int,
    cache_mib: int,
    limit: int,
    timeout_s: float,
    drain_s: float,
    access: Path,
    routes: Path | None,
    memory_mib: float | None,
    admin_port: int | None,
    admin_keys: tuple[str, ...],
    record: str | None,
    record_text: Any,
    record_days: float | None,
    hash_units: bool,
    engines: tuple[str, ...],
    engine_keys: tuple[str, ...],
    base: str,
    device: str,
    dtype: Any,
    quantise: str | None,
    project: Path,
) -> None:
    """Serve VARIANTS over their base, for OpenAI's clients and whatever speaks like them.

    Without a name all variants of the project are served. A base such as builtin:nano can be
    served without any variant. The base itself always answers too, under its own name. Ctrl-C
    finishes the answers that were begun and stops; a second one stops at once.
    """
    from kamerton.flows.serve import AdminOptions, EngineOptions
    from kamerton.flows.serve import serve as run_server

    options = EngineOptions(
        variants, project, base, device, dtype or "", slots, tokens_per_step=max(512, slots),
        limit_bytes=None if memory_mib is None else int(memory_mib * 2**20),
        cache_mib=cache_mib, engines=engines, engine_keys=engine_keys,
        engine_slots=slots if _is_given("slots") else None,
        quantise=quantise or "",
    )  # fmt: skip
    _ensure_used(has_engines=bool(engines))
    with ExitStack() as loading:
        sink = loading.enter_context(progress_sink())

        def say(listening: "Listening") -> None:
            loading.close()
            _say(listening)

        run_server(
            options,
            host=host,
            port=port,
            keys=keys,
            keys_file=keys_file,
            limit_open=limit,
            timeout_s=timeout_s,
            drain_s=drain_s,
            access=access,
            routes=routes,
            admin=AdminOptions(admin_port, admin_keys),
            record=_record_options(record, record_text, record_days, hash_units),
            sink=sink,
            say=say,
        )


def _record_options(
    address: str | None, text: Any, days: float | None, hashes_units: bool
) -> "RecordOptions | None":
    if address is not None:
        from kamerton.flows.recording import RecordOptions

        return RecordOptions(address, text, days, hashes_units)
    if text != "none" or days is not None or hashes_units:
        raise SettingsError(
            "--record-text, --record-days and --hash-units need --record: nothing is recorded",
        )
    return None


def _ensure_used(*, has_engines: bool) -> None:
    """Refuse options that would have no effect."""
    names = _OF_OWN_ENGINE if has_engines else ("engine_keys",)
    unused = [name for name in names if _is_given(name)]
    if not unused:
        return
    params = click.get_current_context().command.params
    options = " and ".join(one.opts[0] for one in params if one.name in unused)
    why = "with --engine: the engine has its own settings" if has_engines else "without --engine"
    raise SettingsError(f"{options} would have no effect {why}")


def _is_given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _say(listening: "Listening") -> None:
    """Print what is served and a command that works as pasted."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "kind", "MiB", "artefact"):
        table.add_column(column, justify="right" if column == "MiB" else "left")
    for model in listening.models:
        size = f"{model.num_bytes / 2**20:,.1f}" if model.num_bytes else "-"
        table.add_row(harmless(model.name), model.kind, size, model.content_hash[:12] or "-")
    messages.print(table)
    if listening.engines:
        messages.print(f"\nanswered by {', '.join(listening.engines)}")
    if listening.routes:
        messages.print(f"\nroutes: {', '.join(listening.routes)}")
    if listening.records:
        messages.print("\nanswers are recorded: kamerton metrics tells how the variants do")
    if listening.admin:
        messages.print(f"\nvariants are loaded and unloaded on {listening.admin}")
    if listening.num_keys:
        key = ' -H "Authorization: Bearer $KAMERTON_API_KEY"'
        let_in = f"keys: {listening.num_keys}, and KAMERTON_API_KEY must hold one"
    else:
        key, let_in = "", "no key needed"
    body = {
        "model": listening.models[0].name,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    messages.print(f"\nserving on {listening.address}  (Ctrl-C stops); {let_in}", style="bold")
    messages.print(
        f"curl {listening.address}/v1/chat/completions{key} -H 'Content-Type: application/json' "
        f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}",
        soft_wrap=True,
    )
