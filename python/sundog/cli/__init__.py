"""The command `sundog`: the same nouns as the Python API."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sundog.cli import bills, data, functions, learn, models, server
from sundog.cli.output import Connection, print_error
from sundog.errors import SundogError


class _Root(TyperGroup):
    """Turns our errors into one sentence and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SundogError as error:
            print_error(error)
            raise typer.Exit(1) from error
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Root,
    name="sundog",
    help="Serverless machine learning: from raw data to a live model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(envvar="SUNDOG_URL", help="The server's address.")] = None,
    key: Annotated[str | None, typer.Option(envvar="SUNDOG_KEY", help='The key\'s token ("sk-…").')] = None,
) -> None:
    """Serverless machine learning: from raw data to a live model."""
    if not isinstance(context.obj, Connection):
        context.obj = Connection(url, key)


server.add(app)
bills.add(app)
functions.add(app)
data.add(app)
learn.add(app)
models.add(app)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
