"""`kamerton variant list | show | verify | merge | export | combine`."""

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from kamerton.cli.console import data_console, messages, print_table, progress_sink
from kamerton.cli.options import (
    DTYPES,
    base_option,
    device_option,
    ensure_parent,
    in_project,
    project_option,
)

__all__ = ["variant"]


@click.group()
def variant() -> None:
    """List, show, verify, merge, export and combine variants."""


@variant.command("list")
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print manifests as JSON.")
def list_(project: Path, as_json: bool) -> None:
    """List the project's variants."""
    from kamerton.flows.workspace import Workspace
    from kamerton.store.variants import list_variants

    found, damaged = list_variants(Workspace(project).variants)
    for reason in damaged:
        messages.print(f"left out: {reason}", style="yellow", soft_wrap=True)
    if as_json:
        plain = [one.manifest.model_dump(mode="json") for one in found]
        click.echo(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    if not found and not damaged:
        where = Workspace(project).variants.absolute()
        messages.print(f"no variants in {where}: kamerton train RECIPE makes one", soft_wrap=True)
        if project.resolve().name == "variants":
            messages.print("hint: a project is the folder above its variants: --project ..")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "method", "objective", "base", "held-out loss", "made", "hash"):
        table.add_column(column, overflow="fold")
    for one in found:
        manifest = one.manifest
        loss = manifest.metrics.get("holdout_loss")
        shown = "" if loss is None else f"{loss:.4f}"
        table.add_row(
            one.folder.name, manifest.method, manifest.objective, manifest.base.id, shown,
            manifest.created[:16], manifest.content_hash[:12],
        )  # fmt: skip
    print_table(data_console(), table)


@variant.command()
@click.argument("name")
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def show(name: str, project: Path, as_json: bool) -> None:
    """Show what NAME is and how it was made."""
    from kamerton.cli.variant_facts import variant_facts
    from kamerton.flows.workspace import Workspace
    from kamerton.store.variants import find_variant, list_variants

    folder = Workspace(project).variants
    manifest = find_variant(name, folder).manifest
    if as_json:
        click.echo(json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False, indent=2))
        return
    others, _ = list_variants(folder)
    names = {one.manifest.content_hash: one.folder.name for one in others}
    print_table(data_console(), variant_facts(manifest, names))


@variant.command(short_help="Verify files, base and effect of NAME.")
@click.argument("name")
@base_option
@device_option
@project_option
def verify(name: str, base: str, device: str, project: Path) -> None:
    """Verify every byte of NAME, its base, and that it changes the base's answers."""
    from kamerton.flows.workspace import Workspace
    from kamerton.store.variants import find_variant
    from kamerton.variants.load import Opening
    from kamerton.variants.verify import verify_variant

    found = find_variant(name, Workspace(project).variants)
    with progress_sink() as sink:
        difference = verify_variant(found, Opening(base, device, sink=sink))
    messages.print(f"{found.name}: files, weights and tokenizer of the base are as they were")
    if found.manifest.method != "none":
        messages.print(f"largest change of a logit on a probe: {difference:.3g}")


@variant.command(short_help="Write NAME merged into its base to FOLDER.")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@base_option
@device_option
@project_option
def merge(name: str, folder: Path, base: str, device: str, project: Path) -> None:
    """Write NAME merged into its base as a Transformers model to FOLDER.

    The same as `variant export NAME --format merged --to FOLDER`.
    """
    ensure_parent(folder, "FOLDER")
    _export(name, "merged", folder, "auto", project, base, device)


@variant.command(short_help="Write NAME for other programs.")
@click.argument("name")
@click.option(
    "--format",
    type=click.Choice(["peft", "merged", "adapterhub", "gguf", "gguf-lora", "gguf-base"]),
    default="peft",
    show_default=True,
    help="The adapter in PEFT's or AdapterHub's format, a Transformers model of its own, or for "
    "llama.cpp the merged model, the LoRA alone, or the base alone.",
)
@click.option(
    "--dtype",
    type=DTYPES,
    default="auto",
    show_default=True,
    help="Of the written weights; auto: merged as the base is, adapters in float32.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path),
    default=None,
    show_default="exports/NAME-FORMAT",
    help="Folder to write; must not exist.",
)
@base_option
@device_option
@project_option
def export(
    name: str, format: str, dtype: str, folder: Path | None, base: str, device: str, project: Path
) -> None:
    """Write NAME for other programs, read it back and compare its logits with the variant's."""
    if folder is not None:
        ensure_parent(folder, "--to")
    # NAME may be the path of a variant's folder: its last part names the export.
    target = folder or project / "exports" / f"{Path(name).resolve().name}-{format}"
    _export(name, format, target, dtype, project, base, device)


@variant.command(short_help="Make one variant of several.")
@click.argument("names", nargs=-1, required=True, metavar="A B...")
@click.option(
    "--how",
    type=click.Choice(["cat", "sum", "average", "ties", "dare", "stack"]),
    default="cat",
    show_default=True,
    help="LoRA: any; cat is the exact sum, ranks added up. Prefixes and soft prompts: cat. "
    "Bottlenecks: average or stack. IA3: average.",
)
@click.option("--to", "target", required=True, metavar="NAME", help="Name of the new variant.")
@click.option("--weight", "weights", type=float, multiple=True, help="One per variant, in order.")
@click.option(
    "--density", type=float, default=None, show_default="ties 0.2, dare 0.5",
    help="Share of each update that is kept, above 0, at most 1.",
)  # fmt: skip
@click.option(
    "--rank", type=int, default=None, show_default="largest, or sum of ranks",
    help="Of the result, at least 1; not for cat.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="For what dare drops.")
@base_option
@device_option
@project_option
def combine(
    names: tuple[str, ...], how: str, target: str, weights: tuple[float, ...],
    density: float | None, rank: int | None, seed: int, base: str, device: str, project: Path,
) -> None:  # fmt: skip
    """Combine the variants A, B... of one base and one method into the variant NAME.

    Prompt and data are those of the first. The result is evaluated and used as any variant.
    """
    from kamerton.adapters.combine import CombineSettings
    from kamerton.flows.combine import combine_variants
    from kamerton.flows.workspace import Workspace
    from kamerton.store.variants import find_variant
    from kamerton.variants.load import Opening

    workspace = Workspace(project)
    values = {"how": how, "weights": weights, "density": density, "rank": rank, "seed": seed}
    settings = CombineSettings.parse(values, source="variant combine")
    found = [find_variant(name, workspace.variants) for name in names]
    with progress_sink() as sink:
        made = combine_variants(
            found, target, workspace, settings, Opening(base, device, sink=sink)
        )
    for note in made.manifest.combination["notes"]:
        messages.print(f"note: {note}")
    following = f"next: kamerton evaluate {' '.join(names)} {target}{in_project(project)}"
    messages.print(following, soft_wrap=True)
    click.echo(made.folder)


def _export(
    name: str, format: Any, folder: Path, dtype: Any, project: Path, base: str, device: str
) -> None:
    from kamerton.flows.workspace import Workspace
    from kamerton.store.variants import find_variant
    from kamerton.variants.export import export_variant
    from kamerton.variants.load import Opening
    from kamerton.variants.rounding import verdict

    found = find_variant(name, Workspace(project).variants)
    with progress_sink() as sink:
        opening = Opening(base, device, sink=sink)
        written = export_variant(found, folder, format, dtype, opening)
    other = (
        "the base alone"
        if format == "gguf-base"
        else f"the variant, whose adapter moves them by up to {written.moved:.3g}"
    )
    messages.print(
        f"written as {written.format} in {written.dtype} and read back: logits differ by at most "
        f"{written.largest:.3g} from {other}; {written.same_top:.1%} of the likeliest tokens are "
        "the same"
    )
    if written.rounding is not None and found.manifest.base.quantise == "none":
        fine, why = verdict(written.largest, written.moved, written.rounding, written.rounded_to)
        messages.print(why, style=None if fine else "yellow")
    if written.note:
        messages.print(f"note: {written.note}", style="yellow")
    click.echo(folder)
