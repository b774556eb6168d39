"""The Open Inference Protocol v2 in JSON: requests to tables, answers to tensors. Pure functions.

A request has one named input a column (shape [n] or [n, 1]), or one 2-D input of all columns in the signature's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sundog.runtime.signature import SignatureError, table_from_columns

_DATATYPES = {
    "int64": "INT64",
    "float64": "FP64",
    "string": "BYTES",
    "bool": "BOOL",
    "timestamp": "BYTES",
    "date": "BYTES",
}
_INTEGERS = {"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"}
_FLOATS = {"FP16", "FP32", "FP64"}
_KNOWN = {*_INTEGERS, *_FLOATS, "BOOL", "BYTES"}
_ACCEPTED = {
    "int64": _INTEGERS | _FLOATS,  # 3.0 is taken as 3, 3.5 is refused by its value
    "float64": _INTEGERS | _FLOATS,
    "string": {"BYTES"},
    "bool": {"BOOL"},
    "timestamp": {"BYTES"},
    "date": {"BYTES"},
}

Signature = Mapping[str, Sequence[Mapping[str, Any]]]


def metadata(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The model metadata response."""
    signature = manifest["signature"]
    return {
        "name": manifest["model"],
        "versions": [str(manifest["version"])],
        "platform": "sundog",
        "inputs": [_described(column) for column in signature["inputs"]],
        "outputs": [_described(column) for column in signature["outputs"]],
    }


def _described(column: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": column["name"], "datatype": _DATATYPES[column["type"]], "shape": [-1, 1]}


def table_from_request(request: Any, signature: Signature) -> Any:
    """An inference request → the model's Arrow table of n rows.

    Raises:
        SignatureError: A tensor is missing, or its shape, datatype or data do not fit.
    """
    tensors = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(tensors, list) or not tensors or not all(isinstance(tensor, dict) for tensor in tensors):
        raise SignatureError(
            'An inference request has "inputs": a list of tensors with name, shape, datatype and data.'
        )
    inputs = signature["inputs"]
    if len(tensors) == 1 and _is_matrix(tensors[0], inputs):
        return table_from_columns(_matrix(tensors[0], inputs), inputs)
    by_name = {str(tensor.get("name")): tensor for tensor in tensors}
    columns = {}
    for column in inputs:
        tensor = by_name.get(column["name"])
        if tensor is None:
            raise SignatureError(f'Input "{column["name"]}" ({_DATATYPES[column["type"]]}) is missing.')
        shape = _shape(tensor)
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
            raise SignatureError(f'Input "{column["name"]}" has shape {shape}, expected [n] or [n, 1].')
        _check_datatype(tensor, column)
        columns[column["name"]] = _flat(tensor, shape)
    return table_from_columns(columns, inputs)


def _is_matrix(tensor: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> bool:
    shape = tensor.get("shape")
    named = any(column["name"] == tensor.get("name") for column in inputs)
    return isinstance(shape, list) and len(shape) == 2 and not (named and shape[1] == 1)


def _matrix(tensor: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    rows, width = _shape(tensor)
    if width != len(inputs):
        raise SignatureError(f'Input "{tensor.get("name")}" has {width} columns, the model takes {len(inputs)}.')
    for column in inputs:
        _check_datatype(tensor, column)
    data = _flat(tensor, [rows, width])
    return {column["name"]: data[at::width] for at, column in enumerate(inputs)}


def _shape(tensor: Mapping[str, Any]) -> list[int]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise SignatureError(f'Input "{tensor.get("name")}" has no "shape" of sizes.')
    return shape


def _check_datatype(tensor: Mapping[str, Any], column: Mapping[str, Any]) -> None:
    datatype = tensor.get("datatype")
    if datatype not in _KNOWN:
        raise SignatureError(f'Input "{tensor.get("name")}" has no known "datatype": {datatype}.')
    if datatype not in _ACCEPTED[column["type"]]:
        expected = _DATATYPES[column["type"]]
        raise SignatureError(
            f'Column "{column["name"]}" is {column["type"]} ({expected}), but the input has {datatype}.'
        )


def _flat(tensor: Mapping[str, Any], shape: Sequence[int]) -> list[Any]:
    data = tensor.get("data")
    if not isinstance(data, list):
        raise SignatureError(f'Input "{tensor.get("name")}" has no "data" as a JSON list.')
    if any(type(item) is list for item in data):
        data = [value for row in data for value in (row if isinstance(row, list) else [row])]
    count = 1
    for size in shape:
        count *= size
    if len(data) != count:
        raise SignatureError(
            f'Input "{tensor.get("name")}" has {len(data)} values, its shape {list(shape)} says {count}.'
        )
    return data


def response(request: Mapping[str, Any], answers: Any, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The inference response for the model's answers, an Arrow table of n rows.

    Raises:
        SignatureError: The request asks for an output that the model has not.
    """
    outputs = manifest["signature"]["outputs"]
    known = [column["name"] for column in outputs]
    asked = request.get("outputs")
    names = [str(item.get("name")) for item in asked if isinstance(item, dict)] if isinstance(asked, list) else []
    for name in names:
        if name not in known:
            raise SignatureError(f'The model has no output "{name}", it has {", ".join(known)}.')
    body: dict[str, Any] = {"model_name": manifest["model"], "model_version": str(manifest["version"])}
    if request.get("id"):
        body["id"] = str(request["id"])
    body["outputs"] = [
        {
            "name": column["name"],
            "datatype": _DATATYPES[column["type"]],
            "shape": [answers.num_rows, 1],
            "data": json_values(answers.column(column["name"]), column["type"]),
        }
        for column in outputs
        if not names or column["name"] in names
    ]
    return body


def json_values(column: Any, kind: str) -> list[Any]:
    """An Arrow column as JSON carries it: times as ISO text, what is missing or no finite number as null."""
    values: list[Any] = column.to_pylist()
    if kind == "float64":
        return [value if value is not None and value - value == 0 else None for value in values]
    if kind in ("timestamp", "date"):
        return [None if value is None else value.isoformat() for value in values]
    return values
