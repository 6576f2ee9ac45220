"""`kamerton serve [VARIANT...]`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from kamerton.cli.console import harmless, messages, say_notice
from kamerton.cli.options import base_option, device_option, dtype_option, project_option

if TYPE_CHECKING:
    from kamerton.flows.serve import Listening

__all__ = ["serve"]


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
    "--slots",
    default=16,
    show_default=True,
    type=click.IntRange(1, 512),
    help="Most answers computed at once; more wait.",
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
    help="Most answers that may be waited for; further requests get status 429.",
)
@base_option
@device_option
@dtype_option
@project_option
def serve(
    variants: tuple[str, ...],
    host: str,
    port: int,
    keys: tuple[str, ...],
    slots: int,
    cache_mib: int,
    limit: int,
    base: str,
    device: str,
    dtype: Any,
    project: Path,
) -> None:
    """Serve VARIANTS over their base, for OpenAI's clients and whatever speaks like them.

    Without a name all variants of the project are served. A base such as builtin:nano can be
    served without any variant. The base itself always answers too, under its own name. Ctrl-C
    finishes the answers that were begun and stops.
    """
    from kamerton.flows.serve import EngineOptions
    from kamerton.flows.serve import serve as run_server

    options = EngineOptions(
        variants,
        project,
        base,
        device,
        dtype or "",
        slots,
        tokens_per_step=max(512, slots),
        cache_mib=cache_mib,
    )
    messages.print("loading the engine", style="dim")
    run_server(
        options,
        host=host,
        port=port,
        keys=keys,
        limit_open=limit,
        sink=say_notice,
        say=lambda listening: _say(listening, has_keys=bool(keys)),
    )


def _say(listening: "Listening", *, has_keys: bool) -> None:
    """Print what is served and a command that works as pasted."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "kind", "MiB", "artefact"):
        table.add_column(column, justify="right" if column == "MiB" else "left")
    for model in listening.models:
        size = f"{model.num_bytes / 2**20:,.1f}"
        table.add_row(harmless(model.name), model.kind, size, model.content_hash[:12])
    messages.print(table)
    key = " -H 'Authorization: Bearer '$KAMERTON_API_KEY" if has_keys else ""
    name = listening.models[0].name
    messages.print(f"\nserving on {listening.address}  (Ctrl-C stops)", style="bold")
    messages.print(
        f"curl {listening.address}/v1/chat/completions{key} -H 'Content-Type: application/json' "
        f'-d \'{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello"}}]}}\'',
        soft_wrap=True, highlight=False, markup=False,
    )  # fmt: skip
