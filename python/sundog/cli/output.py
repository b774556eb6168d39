"""What all commands share: the connection, tables or JSON, progress bars, errors in one clear sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sundog.errors import FunctionError, SundogError
from sundog.tables import cell_text

if TYPE_CHECKING:
    from sundog.cloud import Cloud
    from sundog.jobs import Progress

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@dataclass
class Connection:
    """Which server the commands talk to; `http` replaces the network in tests."""

    url: str | None = None
    key: str | None = None
    http: Any = None

    def open(self) -> Cloud:
        from sundog.cloud import connect

        return connect(self.url, self.key, http=self.http)


def cloud(context: typer.Context) -> Cloud:
    """The server that the command line or the environment names."""
    connection = context.find_root().obj
    return (connection if isinstance(connection, Connection) else Connection()).open()


def out() -> Console:
    return Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty(), highlight=False)


def err() -> Console:
    return Console(file=sys.stderr, soft_wrap=not sys.stderr.isatty(), highlight=False)


def as_json_value(value: Any) -> Any:
    """What the server said of a thing, or the thing's fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        raw = getattr(value, "json", None)
        if raw is not None:
            return raw
        return {f.name: as_json_value(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name[0] != "_"}
    if isinstance(value, Mapping):
        return {str(k): as_json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json_value(v) for v in value]
    return value


def print_json(value: Any) -> None:
    print(json.dumps(as_json_value(value), indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """A table: numbers to the right."""
    rows = [list(row) for row in rows]
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(r[index], int | float) or r[index] is None for r in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_escape(cell_text(value)) for value in row))
    console = out()
    if not sys.stdout.isatty():
        console.width = 1000
    console.print(table)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def show(value: Any, as_json: bool, columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """JSON of `value` if asked for, else the table."""
    if as_json:
        print_json(value)
    else:
        print_table(columns, rows, title)


def say(text: str) -> None:
    """A line of result."""
    out().print(_escape(text))


def note(text: str) -> None:
    """A line beside the result: on stderr."""
    err().print(f"[dim]{_escape(text)}[/dim]")


def print_error(error: SundogError) -> None:
    """One sentence in red, and what to do about it."""
    console = err()
    head = f"{error.error_type}: {error.message}" if isinstance(error, FunctionError) else error.message
    console.print(f"[bold red]{_escape(head)}[/bold red]")
    if isinstance(error, FunctionError):
        for line in error.stack_trace:
            console.print(f"[dim]{_escape(line.rstrip())}[/dim]")
    if error.hint:
        console.print(_escape(error.hint))


@contextlib.contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Progress]:
    """A bar on stderr that follows a long step; plain lines where there is no terminal; nothing with `quiet`."""
    if quiet:
        yield lambda note, done, total: None
        return
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=err(),
        transient=True,
    ) as bars:
        task = bars.add_task("…", total=None)

        def report(note: str, done: int, total: int) -> None:
            bars.update(task, description=_escape(note), completed=done, total=total or None)

        yield report


def _lines() -> Progress:
    last: list[str] = [""]

    def report(note: str, done: int, total: int) -> None:
        if note != last[0]:
            last[0] = note
            print(note, file=sys.stderr, flush=True)

    return report
