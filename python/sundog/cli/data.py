"""sundog data: datasets and their versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sundog.cli.output import JsonFlag, cloud, note, print_json, print_table, progress_bar, say, show
from sundog.errors import InvalidArgument

data = typer.Typer(help="Datasets: collect, look at, preprocess.", no_args_is_help=True)

Reference = Annotated[str, typer.Argument(help='"clients" (the latest version) or "clients@3".')]


def add(app: typer.Typer) -> None:
    app.add_typer(data, name="data")


@data.command("list")
def list_datasets(context: typer.Context, as_json: JsonFlag = False) -> None:
    """All datasets."""
    found = list(cloud(context).datasets.list())
    rows = [[d["name"], d.get("latest"), d.get("label") or "", str(d.get("created"))[:19]] for d in found]
    show(found, as_json, ["dataset", "latest", "label", "created"], rows)


@data.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The dataset's name.")],
    path: Annotated[str, typer.Argument(help="A CSV, JSON lines, Parquet or Arrow file (also .gz, .xz), or s3://…")],
    label: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    format: Annotated[str, typer.Option(help="auto, csv, jsonl, parquet or arrow.")] = "auto",
    missing: Annotated[list[str] | None, typer.Option(help='A text that means "no value"; repeatable.')] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a CSV, e.g. latin-1.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Of a CSV.")] = None,
    column: Annotated[
        list[str] | None, typer.Option("--type", help="COLUMN=TYPE where inference errs; repeatable.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Collects a file as a new dataset, or as the next version of one."""
    with progress_bar(as_json) as report:
        version = cloud(context).datasets.create(
            name,
            path,
            label=label,
            format=format,  # type: ignore[arg-type]
            missing=missing,
            encoding=encoding,
            delimiter=delimiter,
            types=_pairs(column) or None,
            progress=report,
        )
    _show_version(version, as_json)
    if version.quarantined and not as_json:
        note(f"{version.quarantined:,} rows did not parse; see: sundog data quarantine {version.reference}")


@data.command("show")
def show_version(context: typer.Context, dataset: Reference, as_json: JsonFlag = False) -> None:
    """One version: its columns, splits and lineage."""
    _show_version(cloud(context).datasets.get(dataset), as_json)


def _show_version(version: Any, as_json: bool) -> None:
    if as_json:
        print_json(version.json)
        return
    say(str(version))
    rows = [[c.name, c.type, "label" if c.name == version.label else ""] for c in version.columns]
    print_table(["column", "type", ""], rows)


@data.command("rows")
def rows(
    context: typer.Context,
    dataset: Reference,
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many, at most 1,000.")] = 20,
    split: Annotated[str | None, typer.Option(help="train, valid or test.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """The first rows of a version."""
    preview = cloud(context).datasets.get(dataset).preview(limit, split=split)
    if as_json:
        print_json([dict(zip(preview.columns, row, strict=True)) for row in preview.rows])
    else:
        print_table(preview.columns, preview.rows)


@data.command("profile")
def profile(
    context: typer.Context,
    dataset: Reference,
    label: Annotated[str | None, typer.Option(help="Look at this column as the label.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with a plot per column to this file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What each column holds, and what is suspicious."""
    with progress_bar(as_json) as report:
        found = cloud(context).datasets.get(dataset).profile(label, progress=report)
    if html is not None:
        found.save(html)
        note(f"The page is in {html}.")
    if as_json:
        print_json(found.json)
        return
    say(found.head())
    print_table(*found.table())


@data.command("preprocess")
def preprocess(
    context: typer.Context,
    dataset: Reference,
    name: Annotated[str | None, typer.Option("--as", help="Name of the new dataset; else the next version.")] = None,
    label: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A column to leave out; repeatable.")] = None,
    drop_missing: Annotated[list[str] | None, typer.Option(help="A column that must have a value; repeatable.")] = None,
    fill: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE|mean|median|most_frequent; repeatable.")] = None,
    range_: Annotated[list[str] | None, typer.Option("--range", help="COLUMN=LOW:HIGH; repeatable.")] = None,
    type_: Annotated[list[str] | None, typer.Option("--type", help="COLUMN=TYPE; repeatable.")] = None,
    drop_duplicates: Annotated[bool, typer.Option(help="Keep one of equal rows.")] = False,
    balance: Annotated[str, typer.Option(help="none, undersample, oversample or weights.")] = "none",
    split: Annotated[
        str, typer.Option(help="Parts of train, valid and test; of two, the second is test.")
    ] = "0.6,0.2,0.2",
    by: Annotated[str | None, typer.Option(help="random, stratified or time.")] = None,
    time_column: Annotated[str | None, typer.Option(help="The column to split by time.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split and the sampling.")] = 1,
    fit_in: Annotated[str, typer.Option(help="Memory of an instance that must hold one shard.")] = "512 MB",
    as_json: JsonFlag = False,
) -> None:
    """Makes a new version: cleaned, balanced, split, cut into shards."""
    rules: dict[str, Any] = {
        "name": name,
        "label": label,
        "drop": drop or [],
        "drop_missing": drop_missing or [],
        "fill": {k: _value(v) for k, v in _pairs(fill).items()},
        "ranges": {k: _range(k, v) for k, v in _pairs(range_).items()},
        "types": _pairs(type_),
        "drop_duplicates": drop_duplicates,
        "balance": balance,
        "split": tuple(_number(part, "--split") for part in split.split(",")),
        "split_by": by,
        "time_column": time_column,
        "seed": seed,
        "fit_in": fit_in,
    }
    with progress_bar(as_json) as report:
        version = cloud(context).datasets.get(dataset).preprocess(progress=report, **rules)
    _show_version(version, as_json)


@data.command("quarantine")
def quarantine(context: typer.Context, dataset: Reference, as_json: JsonFlag = False) -> None:
    """The rows that were kept out, and why."""
    found = list(cloud(context).datasets.get(dataset).quarantine())
    show(found, as_json, ["line", "reason", "text"], [[r.line, r.reason, r.text[:200]] for r in found])


@data.command("delete")
def delete(context: typer.Context, name: Annotated[str, typer.Argument(help="The dataset's name.")]) -> None:
    """Deletes a dataset with all its versions."""
    cloud(context).datasets.delete(name)
    note(f"Dataset {name} is deleted.")


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for item in given or []:
        key, equals, value = item.rpartition("=")
        if not equals:
            raise InvalidArgument(f"{item!r} lacks a =.", "Write COLUMN=VALUE.")
        pairs[key] = value
    return pairs


def _value(text: str) -> Any:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _range(column: str, text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    return _number(low, f"--range {column}"), _number(high, f"--range {column}")


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidArgument(f"{option}: {text!r} is no number.") from None
