"""sundog runs, studies, jobs."""

from __future__ import annotations

import itertools
import json
from typing import Annotated, Any

import typer

from sundog.bill import money
from sundog.cli.output import JsonFlag, cloud, note, print_json, print_table, progress_bar, say, show
from sundog.errors import InvalidArgument
from sundog.runs import Point, Run

runs = typer.Typer(help="Training runs.", no_args_is_help=True)
studies = typer.Typer(help="Studies: hyper-parameter searches.", no_args_is_help=True)
jobs = typer.Typer(help="Jobs: the server's long work.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(help="The run's id.")]


def add(app: typer.Typer) -> None:
    app.add_typer(runs, name="runs")
    app.add_typer(studies, name="studies")
    app.add_typer(jobs, name="jobs")


def _short(values: Any) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in dict(values).items())


def _row(run: Run) -> list[Any]:
    return [run.id, run.function, run.dataset, run.state, _short(run.parameters), _short(run.metrics), money(run.cost)]


@runs.command("list")
def list_runs(
    context: typer.Context,
    study: Annotated[str, typer.Option(help="Of this study only.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """All training runs."""
    found = list(cloud(context).runs.list(study))
    show(found, as_json, ["run", "function", "dataset", "state", "parameters", "metrics", "cost"], map(_row, found))


@runs.command("start")
def start_run(
    context: typer.Context,
    function: Annotated[str, typer.Argument(help="A deployed training function.")],
    dataset: Annotated[str, typer.Argument(help='"clients@2".')],
    parameter: Annotated[list[str] | None, typer.Option("-p", help="NAME=VALUE (JSON or text); repeatable.")] = None,
    wait: Annotated[bool, typer.Option(help="Until it is over, with its metrics as they come.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Begins a training run."""
    server = cloud(context)
    parameters = dict(_parameter(item) for item in parameter or [])
    run = server.runs.create(function, dataset, parameters)
    if wait:
        run = server.runs.wait(run, on_point=None if as_json else _print_point)
    show(run, as_json, ["run", "function", "dataset", "state", "parameters", "metrics", "cost"], [_row(run)])


def _parameter(item: str) -> tuple[str, Any]:
    name, equals, text = item.partition("=")
    if not equals:
        raise InvalidArgument(f"{item!r} lacks a =.", "Write NAME=VALUE.")
    try:
        return name, json.loads(text)
    except ValueError:
        return name, text


def _print_point(point: Point) -> None:
    say(f"{point.time[11:19]}  step {point.step:g}  {_short(point.values)}")


@runs.command("show")
def show_run(
    context: typer.Context,
    run: RunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it is over.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """One run, with its metrics."""
    server = cloud(context)
    found = server.runs.get(run)
    if as_json and not follow:
        print_json(found.json)
        return
    for now in server.runs.follow(run) if follow else [found]:
        found = now
        for point in now.points:
            if as_json:
                print(json.dumps(vars(point)), flush=True)
            else:
                _print_point(point)
    if not as_json:
        print_table(["run", "function", "dataset", "state", "parameters", "metrics", "cost"], [_row(found)])
        if found.error:
            say(str(found.error.get("message") or ""))


@runs.command("stop")
def stop_run(context: typer.Context, run: RunId) -> None:
    """Asks a run to stop."""
    cloud(context).runs.stop(run)
    note(f"Run {run} stops at its next run.log().")


@studies.command("list")
def list_studies(context: typer.Context, as_json: JsonFlag = False) -> None:
    """All studies."""
    found = list(cloud(context).studies.list())
    rows = [[s.name, s.function, s.dataset, s.metric, s.direction, s.total] for s in found]
    show(found, as_json, ["study", "function", "dataset", "metric", "direction", "trials"], rows)


@studies.command("show")
def show_study(
    context: typer.Context, name: Annotated[str, typer.Argument(help="The study's name.")], as_json: JsonFlag = False
) -> None:
    """One study with its trials, best first."""
    study = cloud(context).studies.get(name)
    sign = -1.0 if study.maximise else 1.0
    trials = sorted(study.trials, key=lambda t: (t.value is None, sign * (t.value or 0.0), t.number))
    rows = [[t.number, t.state, t.value, _short(t.parameters), t.run] for t in trials]
    title = f"{study.name}: {len(study.trials)} of {study.total} trials"
    show(study, as_json, ["trial", "state", study.metric, "parameters", "run"], rows, title)


@jobs.command("list")
def list_jobs(
    context: typer.Context,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """All jobs, the newest first."""
    found = list(itertools.islice(cloud(context).jobs.list(), limit))
    rows = [[j.id, j.kind, j.state, f"{j.done}/{j.total}", j.note, j.created[:19]] for j in found]
    show(found, as_json, ["job", "kind", "state", "progress", "", "created"], rows)


@jobs.command("show")
def show_job(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="The job's id.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until it is over.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """One job."""
    server = cloud(context)
    found = server.jobs.get(job)
    if wait:
        with progress_bar(as_json) as report:
            found = server.jobs.wait(found, progress=report)
    if as_json:
        print_json(found.json)
        return
    print_table(
        ["job", "kind", "state", "progress", ""],
        [[found.id, found.kind, found.state, f"{found.done}/{found.total}", found.note]],
    )
    if found.error:
        say(f"{found.error.get('message')} {found.error.get('hint') or ''}")


@jobs.command("cancel")
def cancel_job(context: typer.Context, job: Annotated[str, typer.Argument(help="The job's id.")]) -> None:
    """Cancels a job."""
    cloud(context).jobs.cancel(job)
    note(f"Job {job} is cancelled.")
