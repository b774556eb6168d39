"""A model's signature, and the tables that fit it.

Every way to a prediction (rows as JSON, tensors, a shard, a frame on a laptop) ends in one Arrow table with the signature's
columns in its order and types; what the model sees is therefore the same, and so is what it answers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TYPES = ("int64", "float64", "string", "bool", "timestamp", "date")
_NONE = type(None)
# Python types, as json.loads makes them, that need no second look.
_PLAIN: dict[str, frozenset[type]] = {
    "int64": frozenset({int, _NONE}),
    "float64": frozenset({int, float, _NONE}),
    "string": frozenset({str, _NONE}),
    "bool": frozenset({bool, _NONE}),
    "timestamp": frozenset({dt.datetime, _NONE}),
    "date": frozenset({dt.date, _NONE}),
}
_JSON_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


class SignatureError(Exception):
    """Rows do not fit the model's signature: the message names the column, what is expected and what was found."""


def arrow() -> Any:
    """pyarrow, or a sentence that says how to get it."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("The model's environment has no pyarrow: add pyarrow to the Environment.") from error
    return pyarrow


def pandas() -> Any:
    """pandas, or a sentence that says how to get it."""
    try:
        import pandas as module
    except ImportError as error:
        raise ImportError("The model's environment has no pandas: add pandas to the Environment.") from error
    return module


def arrow_type(name: str) -> Any:
    pa = arrow()
    makers = {
        "int64": pa.int64,
        "float64": pa.float64,
        "string": pa.string,
        "bool": pa.bool_,
        "timestamp": lambda: pa.timestamp("us"),
        "date": pa.date32,
    }
    return makers[name]()


def type_name(arrow_type: Any) -> str:
    """The signature's name for an Arrow type.

    Raises:
        SignatureError: There is none.
    """
    types = arrow().types
    if types.is_boolean(arrow_type):
        return "bool"
    if types.is_integer(arrow_type):
        return "int64"
    if types.is_floating(arrow_type) or types.is_null(arrow_type) or types.is_decimal(arrow_type):
        return "float64"
    if types.is_timestamp(arrow_type):
        return "timestamp"
    if types.is_date(arrow_type):
        return "date"
    if types.is_dictionary(arrow_type):
        return type_name(arrow_type.value_type)
    if types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_string_view(arrow_type):
        return "string"
    raise SignatureError(f"A column of type {arrow_type} is neither a number, a string, a boolean nor a time.")


def table_from_rows(rows: Sequence[Mapping[str, Any]], inputs: Sequence[Mapping[str, Any]]) -> Any:
    """n objects → an Arrow table of n rows with the columns of `inputs`. Other fields are ignored.

    Raises:
        SignatureError: A row lacks a column, or has a value of another type.
    """
    columns: dict[str, list[Any]] = {}
    for column in inputs:
        name = column["name"]
        try:
            columns[name] = [row[name] for row in rows]
        except KeyError:
            at = next(i for i, row in enumerate(rows) if name not in row)
            raise SignatureError(f'Column "{name}" ({column["type"]}) is missing in row {at}.') from None
        except (TypeError, IndexError):
            raise SignatureError('"rows" is a list of objects, one for each row.') from None
    return table_from_columns(columns, inputs)


def table_from_columns(columns: Mapping[str, Sequence[Any]], inputs: Sequence[Mapping[str, Any]]) -> Any:
    """Lists of n values by name → an Arrow table of n rows with the columns of `inputs`.

    Raises:
        SignatureError: A column is missing, has a value of another type or another number of rows.
    """
    pa = arrow()
    arrays = []
    rows = None
    for column in inputs:
        name = column["name"]
        if name not in columns:
            raise SignatureError(f'Column "{name}" ({column["type"]}) is missing.')
        values = columns[name]
        if not isinstance(values, (list, tuple)):
            raise SignatureError(f'Column "{name}" is {_found(values)}, not a list of values.')
        if rows is not None and len(values) != rows:
            raise SignatureError(f'Column "{name}" has {len(values)} values, the columns before it {rows}.')
        rows = len(values)
        arrays.append(_array(values, column))
    return pa.table(arrays, names=[column["name"] for column in inputs])


def _array(values: Sequence[Any], column: Mapping[str, Any]) -> Any:
    kind = column["type"]
    seen = set(map(type, values))
    if not seen <= _PLAIN[kind]:
        values = [_coerced(value, kind, column["name"], row) for row, value in enumerate(values)]
    if _NONE in seen and not column.get("nullable", True):
        raise SignatureError(
            f'Column "{column["name"]}" ({kind}) may not be empty, but is in row {values.index(None)}.'
        )
    try:
        return arrow().array(values, type=arrow_type(kind))
    except (OverflowError, ValueError, TypeError) as error:
        raise SignatureError(f'Column "{column["name"]}" is {kind}, but holds a value out of range: {error}') from None


def _coerced(value: Any, kind: str, name: str, row: int) -> Any:
    """One value as the type asked for; only what changes nothing is changed: 3.0 → 3, an ISO string → a time."""
    if value is None:
        return None
    if kind in ("int64", "float64") and not isinstance(value, (bool, str)):
        number = value.item() if hasattr(value, "item") else value
        if kind == "float64" and isinstance(number, (int, float)):
            return number
        if isinstance(number, int) or (isinstance(number, float) and number.is_integer()):
            return int(number)
    if kind in _PLAIN and type(value) in _PLAIN[kind]:
        return value
    if kind == "bool" and type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    if kind == "timestamp" and isinstance(value, str):
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            raise SignatureError(f'Column "{name}" is a timestamp, but row {row} has "{value}".') from None
        return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
    if kind == "date" and isinstance(value, str):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            raise SignatureError(f'Column "{name}" is a date, but row {row} has "{value}".') from None
    raise SignatureError(f'Column "{name}" is {kind}, but row {row} has {_found(value)}.')


def _found(value: Any) -> str:
    what = _JSON_NAMES.get(type(value), type(value).__name__)
    return f'{what} ("{value[:40]}")' if isinstance(value, str) else f"{what} ({value})" if what != "a list" else what


def table_from_table(table: Any, inputs: Sequence[Mapping[str, Any]]) -> Any:
    """The columns of `inputs` of an Arrow table, in order and type. Other columns are ignored.

    Raises:
        SignatureError: A column is missing or of a type that cannot become the signature's without loss.
    """
    pa = arrow()
    present = set(table.column_names)
    arrays = []
    for column in inputs:
        name, kind = column["name"], column["type"]
        if name not in present:
            raise SignatureError(f'Column "{name}" ({kind}) is missing.')
        values = table.column(name)
        wanted = arrow_type(kind)
        if values.type != wanted:
            found = type_name(values.type)
            may = found == kind or (found, kind) in (("int64", "float64"), ("float64", "int64"))
            empty = values.null_count == len(values)
            if not may and not empty:
                raise SignatureError(f'Column "{name}" is {kind}, but the rows have {values.type}.')
            try:
                values = pa.nulls(len(values), wanted) if empty else _cast(values, wanted)
            except pa.ArrowInvalid as error:
                raise SignatureError(f'Column "{name}" is {kind}, but the rows have {values.type}: {error}') from None
        if values.null_count and not column.get("nullable", True):
            raise SignatureError(f'Column "{name}" ({kind}) may not be empty, but is in {values.null_count} rows.')
        arrays.append(values)
    return pa.table(arrays, names=[column["name"] for column in inputs])


def _cast(values: Any, wanted: Any) -> Any:
    types = arrow().types
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if types.is_timestamp(values.type) and values.type.tz is not None:
        values = values.cast(arrow().timestamp("us", values.type.tz))
    return values.cast(wanted)


def table_of(rows: Any, inputs: Sequence[Mapping[str, Any]]) -> Any:
    """Whatever a person has rows in → the model's table: a pandas or polars frame, an Arrow table, objects, or lists by name."""
    pa = arrow()
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if isinstance(rows, pa.Table):
        return table_from_table(rows, inputs)
    if hasattr(rows, "to_arrow"):  # polars
        return table_from_table(rows.to_arrow(), inputs)
    if hasattr(rows, "columns") and hasattr(rows, "iloc"):
        names = [column["name"] for column in inputs if column["name"] in set(rows.columns)]
        return table_from_table(pa.Table.from_pandas(rows[names], preserve_index=False, nthreads=1), inputs)
    if isinstance(rows, Mapping):
        return table_from_columns({name: list(values) for name, values in rows.items()}, inputs)
    if isinstance(rows, Iterable) and not isinstance(rows, (str, bytes)):
        return table_from_rows(list(rows), inputs)
    raise SignatureError(f"Rows are a frame, an Arrow table or a list of objects, not {type(rows).__name__}.")


def frame_of(table: Any) -> Any:
    """The pandas frame that a model sees, in training as in prediction."""
    pandas()
    return table.to_pandas(use_threads=False)


def inputs_from_schema(schema: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The signature's inputs for these columns of a dataset; one that the dataset has not is a number."""
    known = {column["name"]: column for column in schema}
    inputs = []
    for name in names:
        column = known.get(name, {"type": "float64", "nullable": True})
        inputs.append({"name": name, "type": column["type"], "nullable": bool(column.get("nullable", True))})
    return inputs


def example_table(inputs: Sequence[Mapping[str, Any]]) -> Any:
    """One row of nothings: zeros, empty strings, 1970."""
    nothing: dict[str, Any] = {
        "int64": 0,
        "float64": 0.0,
        "string": "",
        "bool": False,
        "timestamp": dt.datetime(1970, 1, 1),
        "date": dt.date(1970, 1, 1),
    }
    return table_from_columns({column["name"]: [nothing[column["type"]]] for column in inputs}, inputs)
