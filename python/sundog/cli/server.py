"""sundog up, demo, status, version, doctor, fleet, keys."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

import sundog
from sundog.cli.output import JsonFlag, cloud, err, note, out, print_json, print_table, say, show
from sundog.errors import Unavailable

keys = typer.Typer(help="API keys.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    app.command("up")(up)
    app.command("demo")(demo)
    app.command("status")(status)
    app.command("version")(version)
    app.command("doctor")(doctor)
    app.command("fleet")(fleet)
    app.add_typer(keys, name="keys")


def up(
    data: Annotated[Path | None, typer.Option(help="The data folder; default ~/.local/share/sundog.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 9000,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "",
    no_metrics: Annotated[bool, typer.Option("--no-metrics", help="Close /metrics to all.")] = False,
    no_prebuild: Annotated[
        bool, typer.Option("--no-prebuild", help="Build no template of a deployed function before it is called.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse to start where functions cannot be sealed fully.")
    ] = False,
    until_stdin_ends: Annotated[
        bool, typer.Option("--until-stdin-ends", help="End when standard input, a pipe, does: with whoever started it.")
    ] = False,
) -> None:
    """Starts the server here; it runs until Ctrl-C."""
    from sundog.cloud import data_folder
    from sundog.launch import announce_when_ready, this_machine_command

    folder = (data or data_folder()).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    command = this_machine_command(
        folder,
        host,
        port,
        log_level=log_level,
        no_metrics=no_metrics,
        no_prebuild=no_prebuild,
        strict=strict,
        until_stdin_ends=until_stdin_ends,
    )
    note(f"sundog {sundog.__version__}, data in {folder}")
    announce_when_ready(folder, say_ready)
    os.execv(command[0], command)


def say_ready(url: str) -> None:
    """On stderr, as the server's log is."""
    err().print(f"[green]Ready on {url}[/green]  Ctrl-C ends it.")


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """The whole way on real data: 30,000 credit histories to a deployed, billed model."""
    from sundog.cli.output import Connection
    from sundog.demo import run_demo

    connection = context.find_root().obj
    given = connection.open() if isinstance(connection, Connection) and connection.url else None
    run_demo(cloud=given, keep=keep, as_json=as_json)


def status(context: typer.Context, as_json: JsonFlag = False) -> None:
    """The server: where it is, its version, who you are to it."""
    server = cloud(context)
    found = {"url": server.url, **server.status()}
    show(found, as_json, ["", ""], [[k, str(v)] for k, v in found.items()])


def version(context: typer.Context, as_json: JsonFlag = False) -> None:
    """This client's version."""
    if as_json:
        print_json({"version": sundog.__version__})
    else:
        say(sundog.__version__)


def doctor(context: typer.Context, as_json: JsonFlag = False) -> None:
    """What the server's machine can seal, and what is lost without; this machine's, where no server is named or runs."""
    try:
        checks = cloud(context).doctor()
    except Unavailable:
        if _named(context):
            raise
        checks = _ask_own_server()
    if as_json:
        print_json(checks)
        return
    rows = [
        [("✓" if c["ok"] else "✗"), c["check"], c.get("detail") or "", "" if c["ok"] else c.get("without") or ""]
        for c in checks
    ]
    print_table(["", "check", "found", "without it"], rows)


def _named(context: typer.Context) -> bool:
    connection = context.find_root().obj
    return bool(getattr(connection, "url", None) or os.environ.get("SUNDOG_URL"))


def _ask_own_server() -> list[dict[str, Any]]:
    """The checks of a server that lives just for this question."""
    from sundog.cloud import connect
    from sundog.launch import LocalServer

    with tempfile.TemporaryDirectory(prefix="sundog-doctor-") as folder:
        server = LocalServer(Path(folder) / "data")
        try:
            token = server.wait_ready()
            return list(connect(server.url, token).doctor())
        finally:
            server.stop()


def _fleet_rows(found: Any) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for instance in found.get("instances") or ():
        age = f"{float(instance.get('age_ms') or 0) / 1000:.1f} s"
        rows.append(
            [
                "instance",
                instance["function"],
                instance["version"],
                instance["state"],
                f"{instance['memory_mb']:.1f}",
                age,
            ]
        )
    for template in found.get("templates") or ():
        detail = "" if template.get("fork_safe", True) else str(template.get("reason") or "not fork-safe")
        memory = f"{template['memory_mb']:.1f}"
        rows.append(["template", template["function"], template["version"], template["state"], memory, detail])
    for one in found.get("environments") or ():
        if one["state"] != "ended":
            detail = f"{one['modules']} modules, {one['functions']} functions"
            rows.append(["environment", "", "", one["state"], f"{one['memory_mb']:.1f}", detail])
    return rows


def _fleet_table(found: Any) -> Any:
    from rich.table import Table

    memory, budget = found.get("memory_bytes") or 0, found.get("budget_bytes") or 0
    instances = found.get("instances") or ()
    parked = sum(one["state"] == "parked" for one in instances)
    resting = sum(found.get(what) or 0 for what in ("parked_bytes", "template_bytes", "environment_bytes"))
    title = (
        f"{len(instances) - parked} instances, {parked} parked, {found.get('queued') or 0} queued, "
        f"{memory / 1e6:,.0f} of {budget / 1e6:,.0f} MB ({resting / 1e6:,.0f} parked and templates, never billed)"
    )
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("what", "function", "version", "state", "memory MB", ""):
        table.add_column(column)
    for row in _fleet_rows(found):
        table.add_row(*map(str, row))
    return table


def fleet(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, live, until Ctrl-C.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """The instances and templates that run now."""
    server = cloud(context)
    if as_json:
        print_json(server.fleet())
        return
    if not watch:
        out().print(_fleet_table(server.fleet()))
        return
    from rich.live import Live

    try:
        with Live(_fleet_table(server.fleet()), console=err(), refresh_per_second=4) as live:
            while True:
                time.sleep(0.25)
                live.update(_fleet_table(server.fleet()))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@keys.command("create")
def create_key(
    context: typer.Context,
    role: Annotated[str, typer.Option(help="viewer, invoker, deployer or admin.")] = "deployer",
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose; default: yours.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Makes a key; its token and secret are shown now and never again."""
    key = cloud(context).keys.create(role, name=name, tenant=tenant)  # type: ignore[arg-type]
    shown = vars(key)
    if as_json:
        print_json(shown)
        return
    print_table(["", ""], [[k, str(v)] for k, v in shown.items() if v and k != "revoked"])
    note("Keep the token (bearer) and the secret (Signature V4); they are not shown again.")


@keys.command("list")
def list_keys(context: typer.Context, as_json: JsonFlag = False) -> None:
    """All keys, without their secrets."""
    found = list(cloud(context).keys.list())
    rows = [[k.id, k.name, k.role, k.tenant, k.created[:19], k.last_used[:19], k.revoked] for k in found]
    listed = [{n: v for n, v in vars(k).items() if n not in ("token", "secret")} for k in found]
    show(listed, as_json, ["key", "name", "role", "tenant", "created", "last used", "revoked"], rows)


@keys.command("revoke")
def revoke_key(context: typer.Context, key: Annotated[str, typer.Argument(help="The key's id.")]) -> None:
    """Revokes a key at once."""
    cloud(context).keys.revoke(key)
    note(f"Key {key} is revoked.")
