"""sundog functions, logs, environments, dead-letters."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, cast

import typer

from sundog.app import Environment, Function, Network
from sundog.cli.output import JsonFlag, cloud, note, print_json, print_table, progress_bar, say, show
from sundog.errors import InvalidArgument
from sundog.functions import FunctionInfo

functions = typer.Typer(help="Functions: deploy, call, list.", no_args_is_help=True)
environments = typer.Typer(help="Environments: sets of Python packages.", no_args_is_help=True)
dead_letters = typer.Typer(help="Events that failed for good.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The function's name.")]


def add(app: typer.Typer) -> None:
    app.add_typer(functions, name="functions")
    app.add_typer(environments, name="environments")
    app.add_typer(dead_letters, name="dead-letters")
    app.command("logs")(logs)


def _row(f: FunctionInfo) -> list[Any]:
    return [f.name, f.runtime, f.handler, f.memory, f.timeout, f.state, f.last_modified[:19]]


@functions.command("list")
def list_functions(context: typer.Context, as_json: JsonFlag = False) -> None:
    """All functions."""
    found = list(cloud(context).functions.list())
    columns = ["function", "runtime", "handler", "memory MB", "timeout s", "state", "modified"]
    show(found, as_json, columns, map(_row, found))


@functions.command("show")
def show_function(context: typer.Context, name: Name, as_json: JsonFlag = False) -> None:
    """One function and its versions."""
    function = cloud(context).functions.get(name)
    info, versions = function.info(), function.versions()
    if as_json:
        print_json({"function": info, "versions": versions})
        return
    print_table(["", ""], [[k, str(v)] for k, v in vars(info).items() if v not in ("", (), {})])
    print_table(["version", "state", "code"], [[v.version, v.state, v.code_sha256] for v in versions])


@functions.command("deploy")
def deploy(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A script with an App (risk.py or risk.py:fit), or a folder or zip.")],
    name: Annotated[str | None, typer.Option(help="The function's name (for a folder).")] = None,
    handler: Annotated[str | None, typer.Option(help='"module.function" (for a folder).')] = None,
    memory: Annotated[int, typer.Option(help="MB (for a folder).")] = 128,
    timeout: Annotated[int, typer.Option(help="Seconds (for a folder).")] = 30,
    package: Annotated[list[str] | None, typer.Option(help="A package it needs (for a folder); repeatable.")] = None,
    network: Annotated[str, typer.Option(help="none; egress: what --allow names; host (for a folder).")] = "none",
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A host[:port], *.host[:port] or address to reach (for a folder, with egress); repeatable."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Deploys the functions of a script, or a folder as AWS Lambda takes it."""
    server = cloud(context)
    if not handler and (network != "none" or allow):
        hint = 'A script says it itself: @app.function(network="egress", allow=["api.example.com"]).'
        raise InvalidArgument("--network and --allow are for a folder, with --handler.", hint)
    with progress_bar(as_json) as report:
        if handler:
            environment = Environment(*package) if package else None
            deployed = [
                server.functions.deploy_folder(
                    name or Path(source).stem,
                    source,
                    handler=handler,
                    memory=memory,
                    timeout=timeout,
                    environment=environment,
                    network=cast(Network, network),  # Settings refuses another
                    allow=allow or (),
                    progress=report,
                )
            ]
        else:
            deployed = [server.functions.deploy(f, progress=report) for f in _functions_of(source)]
    infos = [function.info() for function in deployed]
    columns = ["function", "runtime", "handler", "memory MB", "timeout s", "state", "modified"]
    show(infos, as_json, columns, map(_row, infos))


def _functions_of(source: str) -> list[Function[..., Any]]:
    path, _, wanted = source.partition(":")
    module = _load(Path(path))
    found = {n: v for n, v in vars(module).items() if isinstance(v, Function)}
    if wanted and wanted not in found:
        raise InvalidArgument(f"{path} has no decorated function {wanted!r}.", f"It has: {', '.join(found) or 'none'}.")
    if not found:
        raise InvalidArgument(
            f"{path} has no decorated functions.", "Mark them with @app.function, or give --handler to deploy a folder."
        )
    return [found[wanted]] if wanted else list(found.values())


def _load(path: Path) -> ModuleType:
    if not path.is_file() or path.suffix != ".py":
        raise InvalidArgument(f"{path} is no Python file.", "For a folder or zip give --handler module.function.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent.resolve()))
    spec.loader.exec_module(module)
    return module


@functions.command("invoke")
def invoke(
    context: typer.Context,
    name: Name,
    payload: Annotated[str, typer.Argument(help="JSON, @FILE, or - for stdin.")] = "{}",
    qualifier: Annotated[str, typer.Option(help="A version or alias.")] = "",
    event: Annotated[bool, typer.Option("--event", help="Work on it later; print the request's id.")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer as it comes, as it is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Changes nothing: the answer is JSON.")] = False,
) -> None:
    """Calls a function and prints its answer (always JSON)."""
    text = sys.stdin.read() if payload == "-" else Path(payload[1:]).read_text() if payload[:1] == "@" else payload
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"The payload is no JSON: {error}.", "Quote texts: '\"hello\"'.") from None
    function = cloud(context).functions.get(name, qualifier)
    if event:
        print_json({"request_id": function.invoke_event(value)})
        return
    if stream:
        for piece in function.stream(value):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        return
    answer = function.invoke(value)
    if isinstance(answer, bytes):
        sys.stdout.buffer.write(answer)
    else:
        print_json(answer)


@functions.command("delete")
def delete(context: typer.Context, name: Name) -> None:
    """Deletes a function with all its versions."""
    cloud(context).functions.get(name).delete()
    note(f"Function {name} is deleted.")


@functions.command("logs")
def logs(
    context: typer.Context,
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as new lines come.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many lines.")] = 1000,
    as_json: JsonFlag = False,
) -> None:
    """What a function printed, with START, END and REPORT lines."""
    try:
        for line in cloud(context).functions.get(name).logs(limit=limit, follow=follow):
            if as_json:
                print(json.dumps(vars(line), ensure_ascii=False), flush=True)
            else:
                print(f"{line.time[11:23]}  {line.text}", flush=True)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@environments.command("list")
def list_environments(context: typer.Context, as_json: JsonFlag = False) -> None:
    """All environments."""
    found = list(cloud(context).environments.list())
    columns = ["environment", "python", "state", "packages", "MB", "built in s"]
    rows = [[e.id[:12], e.python, e.state, " ".join(e.packages), round(e.bytes / 1e6), e.build_seconds] for e in found]
    show(found, as_json, columns, rows)


@environments.command("create")
def create_environment(
    context: typer.Context,
    packages: Annotated[list[str], typer.Argument(help='Requirements, e.g. "pandas>=2".')],
    python: Annotated[str | None, typer.Option(help="The Python's version, e.g. 3.11.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Builds an environment and waits for it."""
    with progress_bar(as_json) as report:
        built = cloud(context).environments.ensure(Environment(*packages, python=python), progress=report)
    show(built, as_json, ["package"], [[p] for p in built.resolved], f"{built.id} ({built.state})")


@environments.command("show")
def show_environment(
    context: typer.Context, environment: Annotated[str, typer.Argument(help="Its id.")], as_json: JsonFlag = False
) -> None:
    """One environment: what it resolved to, and the builder's words."""
    found = cloud(context).environments.get(environment)
    show(found, as_json, ["package"], [[p] for p in found.resolved], f"{found.id} ({found.state})")
    if not as_json and found.state == "failed":
        say(found.log)


@dead_letters.command("list")
def list_dead_letters(context: typer.Context, name: Name, as_json: JsonFlag = False) -> None:
    """A function's dead letters."""
    found = cloud(context).functions.get(name).dead_letters()
    columns = ["id", "request", "attempts", "died", "reason"]
    show(
        found, as_json, columns, [[f.get(k) for k in ("id", "request_id", "attempts", "died", "reason")] for f in found]
    )


@dead_letters.command("redrive")
def redrive(
    context: typer.Context,
    name: Name,
    letter: Annotated[str | None, typer.Argument(help="The letter's id; none: all of them.")] = None,
) -> None:
    """Gives dead letters to the function again."""
    function = cloud(context).functions.get(name)
    letters = [letter] if letter else [str(item["id"]) for item in function.dead_letters()]
    for one in letters:
        function.redrive(one)
    note(f"{len(letters)} dead letters of {name} are on their way again.")
