"""`kamerton route explain`."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from kamerton.cli.console import harmless
from kamerton.cli.options import project_option, store_option

__all__ = ["route"]


@click.group()
def route() -> None:
    """Try the rules that map names to variants, without a server."""


@route.command()
@click.argument("model")
@click.option(
    "--routes",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file of routes; routes.toml of the project where it is not given.",
)
@click.option("--unit", default="", help="Id of the user, shop or ticket.")
@click.option("--key", default="", help="Name of the API key.")
@click.option("--tenant", default="", help="The customer; a header may say it too.")
@click.option("--segment", default="", help="Audience segment; a header may say it too.")
@click.option("--language", default="", help="Such as ru; a header may say it too.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    help="A header of the request. May be repeated.",
)
@click.option(
    "--at",
    type=click.DateTime(["%Y-%m-%dT%H:%M", "%Y-%m-%d"]),
    help="The moment, UTC, for ramps; now where it is not given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON.")
@store_option
@project_option
def explain(
    model: str,
    routes: Path | None,
    unit: str,
    key: str,
    tenant: str,
    segment: str,
    language: str,
    headers: tuple[str, ...],
    at: datetime | None,
    as_json: bool,
    address: str,
    project: Path,
) -> None:
    """Say which variant answers for MODEL, by which rule and why.

    It decides as the server does, with what was stopped there; experiments run as they are
    registered in the store, and all count as started where there is none. It asks no engine:
    whether a variant is served, and for whom, is told when the server reads the routes.
    """
    from kamerton.flows.routing import explain_route

    said = {"unit": unit, "tenant": tenant, "segment": segment, "language": language}
    lines = [_split(one) for one in headers]
    lines += [(f"x-kamerton-{name}", value) for name, value in said.items() if value]
    moment = None if at is None else at.replace(tzinfo=UTC)
    found = explain_route(
        routes or project / "routes.toml",
        project,
        model,
        headers=lines,
        key=key,
        now=moment,
        store=address,
    )
    if as_json:
        plain = {**asdict(found.decision), "steps": found.steps}
        click.echo(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    for step in found.steps:
        click.echo(harmless(step))
    decision = found.decision
    click.echo(f"variant: {decision.variant}")
    facts = {
        "reason": decision.reason,
        "experiment": decision.experiment,
        "arm": decision.arm,
        "propensity": f"{decision.propensity:.4g}",
        "shadows": ", ".join(decision.shadows),
        "version of the rules": decision.version,
    }
    for name, value in facts.items():
        if value:
            click.echo(f"{name}: {value}")


def _split(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"--header must look like NAME:VALUE, got '{header}'")
    return name.strip(), value.strip()
