"""sundog bill, invoice, budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sundog.bill import money
from sundog.cli.output import JsonFlag, cloud, note, print_json, print_table, say, show
from sundog.errors import InvalidArgument
from sundog.invoice import FORMATS, plain

budget = typer.Typer(help="What may be spent in a month.", invoke_without_command=True)

Start = Annotated[str | None, typer.Option("--from", help="RFC 3339 in UTC, or a day: 2026-11-24.")]
End = Annotated[str | None, typer.Option("--to", help="The same; not included.")]
Tenant = Annotated[str, typer.Option(help="Another tenant's; for the operator's admins.")]


def add(app: typer.Typer) -> None:
    app.command("bill")(bill)
    app.command("invoice")(invoice)
    app.add_typer(budget, name="budget")


def bill(
    context: typer.Context,
    by: Annotated[str, typer.Option(help="Any of function, day, kind, with commas.")] = "function,kind",
    start: Start = None,
    end: End = None,
    tenant: Tenant = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Add the records up again and compare with the daily roll-ups.")
    ] = False,
    operator: Annotated[
        bool, typer.Option("--operator", help="What memory stood for since the server started; for the operator.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """What was used, what it costs, and what always-on servers would have cost."""
    if operator:
        _operator(context, as_json)
        return
    if verify:
        _verify(context, start, end, tenant, as_json)
        return
    wanted = [part.strip() for part in by.split(",") if part.strip()]
    unknown = set(wanted) - {"function", "day", "kind"}
    if unknown:
        raise InvalidArgument(f"--by {by}: {', '.join(sorted(unknown))} is none of function, day, kind.")
    found = cloud(context).bill(_moment(start), _moment(end), wanted, tenant=tenant)
    if as_json:
        print_json(found.json)
        return
    columns, rows = found.rows()
    print_table(columns, rows)
    for line in str(found).splitlines()[-2:]:
        say(line)


def _verify(context: typer.Context, start: str | None, end: str | None, tenant: str, as_json: bool) -> None:
    found = cloud(context).verify_bill(_moment(start), _moment(end), tenant=tenant)
    if as_json:
        print_json(found)
    else:
        columns = ["day", "state", "records", "duplicates", "problem"]
        print_table(columns, [[day[column] or None for column in columns] for day in found["days"]])
        say("The bill is what the records add up to." if found["ok"] else "The records and the bill differ.")
    if not found["ok"]:
        raise typer.Exit(1)


def _operator(context: typer.Context, as_json: bool) -> None:
    found = cloud(context).operator_cost()
    rows = [
        [
            line["what"],
            line["gb_seconds"],
            money(line["cost"], found["currency"]),
            "tenants" if line["billed"] else "operator",
        ]
        for line in found["lines"]
    ]
    show(found, as_json, ["memory that was", "GB seconds", "at the plan's price", "paid by"], rows)


def _moment(text: str | None) -> str | None:
    return f"{text}T00:00:00Z" if text is not None and len(text) == 10 else text


def invoice(
    context: typer.Context,
    month: Annotated[str | None, typer.Option(help="2026-11; default: this month so far.")] = None,
    start: Start = None,
    end: End = None,
    format: Annotated[
        str | None, typer.Option(help="csv, json or html; default: a table, or by the file's name.")
    ] = None,
    to_file: Annotated[Path | None, typer.Option("--out", help="Write it to this file.")] = None,
    tenant: Tenant = "",
    as_json: JsonFlag = False,
) -> None:
    """What is owed, line by line."""
    if format is not None and format not in FORMATS:
        raise InvalidArgument(f"--format {format}: there are csv, json and html.")
    found = cloud(context).invoice(month, start=_moment(start), end=_moment(end), tenant=tenant)
    if to_file is not None:
        note(f"{found.save(to_file, format)}: {plain(found.total)} {found.currency}")
    elif format is not None and found.document is not None:
        typer.echo(found.document(format), nl=False)
    elif as_json:
        print_json(found.json)
    else:
        print_table(*found.rows())
        for line in found.sums():
            say(line)


@budget.callback()
def show_budget(context: typer.Context, tenant: Tenant = "", as_json: JsonFlag = False) -> None:
    """What is spent this month, and what may be."""
    if context.invoked_subcommand is None:
        _show(context, tenant, as_json)


def _show(context: typer.Context, tenant: str, as_json: bool) -> None:
    found = cloud(context).budgets.show(tenant=tenant)
    if as_json:
        print_json(found.json)
        return
    if found.budgets:
        print_table(*found.rows())
    say(found.sums())


@budget.command("set")
def set_budget(
    context: typer.Context,
    limit: Annotated[str, typer.Argument(help="For a month, in the price plan's currency: 5.00.")],
    alarm: Annotated[float, typer.Option(help="Tell at this share of it.")] = 0.8,
    function: Annotated[str, typer.Option(help="Of this function alone.")] = "",
    on_alarm: Annotated[str, typer.Option(help="A function to invoke with the alarm.")] = "",
    tenant: Tenant = "",
    as_json: JsonFlag = False,
) -> None:
    """Sets what may be spent in a month; at the end of it nothing new begins, and events wait."""
    cloud(context).budgets.set(limit, alarm=alarm, function=function, on_alarm=on_alarm, tenant=tenant)
    _show(context, tenant, as_json)


@budget.command("clear")
def clear_budget(
    context: typer.Context,
    function: Annotated[str, typer.Option(help="That of this function.")] = "",
    tenant: Tenant = "",
    as_json: JsonFlag = False,
) -> None:
    """Takes a budget away."""
    cloud(context).budgets.clear(function=function, tenant=tenant)
    _show(context, tenant, as_json)
