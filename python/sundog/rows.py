"""Rows in whatever form a person has them, and predictions in whatever form a person wants them."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sundog.errors import InvalidArgument
from sundog.tables import html_table, text_table

if TYPE_CHECKING:
    import pandas
    import pyarrow

Rows = Any
"""A pandas or polars frame, an Arrow table, a list of dicts, or one dict (one row)."""


def to_row_dicts(rows: Rows) -> list[dict[str, Any]]:
    """The rows as dicts of plain Python values (NaN and NaT become None).

    Raises:
        InvalidArgument: They are in no known form.
    """
    if isinstance(rows, Mapping):
        return [{str(name): plain(value) for name, value in rows.items()}]
    if isinstance(rows, Predictions):
        return [dict(row) for row in rows]
    if hasattr(rows, "to_pylist"):  # Arrow
        listed: list[Any] = rows.to_pylist()
    elif hasattr(rows, "to_dicts"):  # polars
        listed = rows.to_dicts()
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        listed = rows.to_dict(orient="records")
    elif hasattr(rows, "to_dict"):  # one row of a frame
        listed = [rows.to_dict()]
    else:
        listed = list(rows)
    if not all(isinstance(row, Mapping) for row in listed):
        raise InvalidArgument(
            f"Rows cannot be a {type(rows).__name__}.", "Give a pandas frame, an Arrow table, or a list of dicts."
        )
    return [{str(name): plain(value) for name, value in row.items()} for row in listed]


def plain(value: Any) -> Any:
    """A value as JSON can carry it: numpy scalars unpacked, NaN as None, times as RFC 3339 text."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, datetime.datetime | datetime.date):
        return None if value != value else value.isoformat()
    if hasattr(value, "item") and callable(value.item):
        return plain(value.item())
    return None if value is getattr(type(value), "NaT", object()) or str(value) in ("NaT", "<NA>") else value


class Predictions(Sequence[dict[str, Any]]):
    """One answer a row, in the rows' order: a sequence of dicts of the output columns.

    Attributes:
        model: The model's name.
        version: Which version of it answered.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], model: str = "", version: int = 0) -> None:
        self._rows = [dict(row) for row in rows]
        self.model = model
        self.version = version

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Predictions):
            return self._rows == other._rows
        return self._rows == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def column(self, name: str) -> list[Any]:
        """One output column, n values.

        Raises:
            InvalidArgument: There is no such column.
        """
        if self._rows and name not in self._rows[0]:
            raise InvalidArgument(f"There is no output {name!r}.", f"The outputs: {', '.join(self._rows[0])}.")
        return [row[name] for row in self._rows]

    def to_pandas(self) -> pandas.DataFrame:
        import pandas

        return pandas.DataFrame(self._rows)

    def to_arrow(self) -> pyarrow.Table:
        import pyarrow

        return pyarrow.Table.from_pylist(self._rows)

    def _table(self, limit: int = 20) -> tuple[list[str], list[list[Any]]]:
        columns = list(self._rows[0]) if self._rows else []
        return columns, [[row.get(c) for c in columns] for row in self._rows[:limit]]

    def __repr__(self) -> str:
        more = f"\n… {len(self) - 20:,} more" if len(self) > 20 else ""
        return f"{len(self):,} predictions of {self.model} version {self.version}\n{text_table(*self._table())}{more}"

    def _repr_html_(self) -> str:
        return html_table(*self._table(), f"{len(self):,} predictions of {self.model} version {self.version}")
