"""sundog models, endpoints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sundog.cli.output import JsonFlag, cloud, note, print_json, print_table, progress_bar, say, show
from sundog.errors import InvalidArgument
from sundog.models import Endpoint

models = typer.Typer(help="Models: register, deploy, ask.", no_args_is_help=True)
endpoints = typer.Typer(help="Endpoints: models that answer.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The model's name.")]


def add(app: typer.Typer) -> None:
    app.add_typer(models, name="models")
    app.add_typer(endpoints, name="endpoints")


def _numbers(versions: Any) -> str:
    listed = [v["version"] if isinstance(v, dict) else v for v in versions or ()]
    return " ".join(map(str, listed))


@models.command("list")
def list_models(context: typer.Context, as_json: JsonFlag = False) -> None:
    """All models."""
    found = list(cloud(context).models.list())
    rows = [
        [m["name"], _numbers(m.get("versions")), str(m.get("aliases") or ""), str(m.get("created"))[:19]] for m in found
    ]
    show(found, as_json, ["model", "versions", "aliases", "created"], rows)


@models.command("show")
def show_model(context: typer.Context, name: Name, as_json: JsonFlag = False) -> None:
    """A model's versions."""
    server = cloud(context)
    versions = server.models.versions(name)
    rows = [
        [v.version, v.format, v.bytes, " ".join(f"{k}={x:.4g}" for k, x in v.metrics.items()), v.run, v.created[:19]]
        for v in versions
    ]
    show([v.json for v in versions], as_json, ["version", "format", "bytes", "metrics", "run", "created"], rows, name)


@models.command("register")
def register(
    context: typer.Context,
    name: Name,
    run: Annotated[str, typer.Argument(help="A run's id, or study:NAME for a study's best trial.")],
    as_json: JsonFlag = False,
) -> None:
    """Makes a run's result the next version of a model."""
    server = cloud(context)
    source: Any = server.studies.get(run.removeprefix("study:")) if run.startswith("study:") else run
    version = server.models.register(name, source)
    show(version, as_json, ["model", "version", "format"], [[version.model, version.version, version.format]])


def _show_endpoint(endpoint: Endpoint, as_json: bool) -> None:
    rows = [[f"version {v}", f"{w:.0%}"] for v, w in endpoint.weights.items()]
    show(endpoint, as_json, [f"{endpoint.model}:{endpoint.alias}", "traffic"], rows)
    if not as_json:
        say(endpoint.url)


@models.command("deploy")
def deploy(
    context: typer.Context,
    name: Name,
    version: Annotated[str, typer.Argument(help="A number, an alias or latest.")] = "latest",
    alias: Annotated[str, typer.Option(help="The endpoint's name.")] = "live",
    memory: Annotated[int, typer.Option(help="MB of one instance.")] = 512,
    timeout: Annotated[int, typer.Option(help="Seconds for one request.")] = 30,
    weight: Annotated[float, typer.Option(help="Its share of the traffic; what answers now keeps the rest.")] = 1.0,
    as_json: JsonFlag = False,
) -> None:
    """Makes a version answer."""
    server = cloud(context)
    number = server.models.version(name, version).version
    with progress_bar(as_json) as report:
        endpoint = server.models.deploy(
            name, number, alias=alias, memory=memory, timeout=timeout, weight=weight, progress=report
        )
    _show_endpoint(endpoint, as_json)


@models.command("traffic")
def traffic(
    context: typer.Context,
    name: Name,
    weights: Annotated[list[str], typer.Argument(help="VERSION=SHARE, e.g. 1=0.9 2=0.1.")],
    alias: Annotated[str, typer.Option(help="The endpoint's name.")] = "live",
    as_json: JsonFlag = False,
) -> None:
    """Shares the traffic over versions that are deployed."""
    try:
        shares = {int(v): float(w) for v, _, w in (item.partition("=") for item in weights)}
    except ValueError:
        raise InvalidArgument(
            f"{' '.join(weights)!r} is no share of traffic.", "Write VERSION=SHARE: 1=0.9 2=0.1"
        ) from None
    _show_endpoint(cloud(context).models.traffic(name, shares, alias=alias), as_json)


@models.command("predict")
def predict(
    context: typer.Context,
    name: Name,
    rows: Annotated[str, typer.Argument(help="JSON (a list of objects or one), @FILE (JSON, CSV or Parquet), or -.")],
    local: Annotated[bool, typer.Option("--local", help="Answer here instead of on the server.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Scores rows."""
    endpoint = cloud(context).models.endpoint(name)
    given = _rows(rows)
    answer = endpoint.predict_local(given) if local else endpoint.predict(given)
    if as_json:
        print_json(list(answer))
    else:
        columns = list(answer[0]) if len(answer) else []
        print_table(columns, [[row[c] for c in columns] for row in answer], f"{answer.model} version {answer.version}")


def _rows(text: str) -> Any:
    if text[:1] == "@" and not text.endswith((".json", ".jsonl")):
        import pyarrow.csv
        import pyarrow.parquet

        path = text[1:]
        return pyarrow.parquet.read_table(path) if path.endswith(".parquet") else pyarrow.csv.read_csv(path)
    content = sys.stdin.read() if text == "-" else Path(text[1:]).read_text() if text[:1] == "@" else text
    try:
        if text.endswith(".jsonl"):
            return [json.loads(line) for line in content.splitlines() if line.strip()]
        return json.loads(content)
    except ValueError as error:
        raise InvalidArgument(f"The rows are no JSON: {error}.") from None


@models.command("predict-offline")
def predict_offline(
    context: typer.Context,
    name: Name,
    dataset: Annotated[str, typer.Argument(help='"clients@1".')],
    scored: Annotated[str | None, typer.Option("--as", help="Name of the scored dataset.")] = None,
    split: Annotated[str | None, typer.Option(help="train, valid or test only.")] = None,
    parallel: Annotated[int, typer.Option(help="Instances at a time.")] = 2,
    as_json: JsonFlag = False,
) -> None:
    """Scores a whole dataset."""
    endpoint = cloud(context).models.endpoint(name)
    with progress_bar(as_json) as report:
        version = endpoint.predict_offline(dataset, name=scored, split=split, parallel=parallel, progress=report)
    if as_json:
        print_json(version.json)
    else:
        say(str(version))


@models.command("delete")
def delete(context: typer.Context, name: Name, version: Annotated[int, typer.Argument(help="The version.")]) -> None:
    """Deletes one version that gets no traffic."""
    cloud(context).models.delete_version(name, version)
    note(f"Version {version} of {name} is deleted.")


@endpoints.command("list")
def list_endpoints(context: typer.Context, as_json: JsonFlag = False) -> None:
    """All endpoints."""
    found = list(cloud(context).models.endpoints())
    rows = [[e.model, e.alias, " ".join(f"{v}={w:g}" for v, w in e.weights.items()), e.memory_mb, e.url] for e in found]
    show(found, as_json, ["model", "alias", "traffic", "memory MB", "address"], rows)


@endpoints.command("show")
def show_endpoint(context: typer.Context, name: Name, as_json: JsonFlag = False) -> None:
    """A model's endpoint."""
    _show_endpoint(cloud(context).models.endpoint(name), as_json)
