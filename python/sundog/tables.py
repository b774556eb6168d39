"""Small tables as text and as HTML, for the reprs of a notebook and of a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_CELL = "padding:2px 10px;text-align:{};border-bottom:1px solid #8884"


def cell_text(value: Any) -> str:
    """How a value stands in a table: floats with six significant digits (all of the whole part), integers with thousands, None as "–"."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:,.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def html_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """An HTML table whose every cell is escaped."""
    head = "".join(f'<th style="{_CELL.format("left")}">{escape(str(c))}</th>' for c in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="{_CELL.format("right" if isinstance(v, int | float) else "left")}">{escape(cell_text(v))}</td>'
            for v in row
        )
        + "</tr>"
        for row in rows
    )
    title = f"<div><b>{escape(caption)}</b></div>" if caption else ""
    return f'{title}<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def text_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The same as plain text: numbers to the right, the rest to the left."""
    rows = [list(row) for row in rows]
    cells = [[cell_text(v) for v in row] for row in rows]
    widths = [max([len(c), *(len(row[i]) for row in cells)]) for i, c in enumerate(columns)]
    right = [
        bool(rows) and all(isinstance(r[i], int | float) or r[i] is None for r in rows) for i in range(len(columns))
    ]

    def line(values: Sequence[str]) -> str:
        parts = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return "  ".join(parts).rstrip()

    return "\n".join([line(list(columns)), line(["─" * w for w in widths]), *(line(row) for row in cells)])
