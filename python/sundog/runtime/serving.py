"""Loads a model and answers: rows as JSON, Open Inference Protocol tensors, or a whole shard.

The same code answers online and offline (inside an instance) and local (`Model.load(folder).predict(rows)` in the SDK), so that
the answers are the same to the bit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sundog.runtime import estimators, tensors
from sundog.runtime.signature import SignatureError, arrow, arrow_type, example_table, table_of

HANDLER = "sundog.runtime.serving.handler"
MANIFEST = "model.json"
ARTEFACT = "artefact"
_SHARD_ROWS = 16384


class Model:
    """A model version, loaded.

    Attributes:
        manifest: {"model", "version", "format", "signature", "lineage", "environment"}.
        estimator: The model itself, as its library has it.
    """

    def __init__(self, manifest: Mapping[str, Any], estimator: Any) -> None:
        self.manifest = manifest
        self.estimator = estimator
        self.inputs: Sequence[Mapping[str, Any]] = manifest["signature"]["inputs"]
        self.outputs: Sequence[Mapping[str, Any]] = manifest["signature"]["outputs"]

    @classmethod
    def load(cls, folder: str | Path) -> Model:
        """The model of a folder with model.json and artefact (docs/formats/model.md).

        Raises:
            estimators.ArtefactError: A package that the model needs is not installed; the message names it.
        """
        manifest = json.loads((Path(folder) / MANIFEST).read_text())
        content = (Path(folder) / ARTEFACT).read_bytes()
        return cls(manifest, estimators.loads(manifest["format"], content))

    def predict(self, rows: Any) -> Any:
        """Scores n rows: a frame, an Arrow table or a list of objects → a pandas frame of n rows of the outputs.

        Raises:
            SignatureError: A column is missing or has the wrong type; the message names it.
        """
        with one_thread():
            return self.predict_table(table_of(rows, self.inputs)).to_pandas(use_threads=False)

    def predict_table(self, table: Any) -> Any:
        """An Arrow table of n rows with the signature's inputs, as table_of() makes it → one with its outputs."""
        pa = arrow()
        wanted = pa.schema([(column["name"], arrow_type(column["type"])) for column in self.outputs])
        if table.num_rows == 0:
            return wanted.empty_table()
        answers = estimators.answer(self.estimator, table)
        lost = [name for name in wanted.names if name not in answers.column_names]
        if lost:
            raise ValueError(f'The model did not answer "{lost[0]}", which its signature promises.')
        return answers.select(wanted.names).cast(wanted)

    def warm(self) -> None:
        """Scores one row of nothings: what a library does at its first call is then done."""
        try:
            self.predict_table(example_table(self.inputs))
        except Exception as error:  # a model may well refuse such a row; real ones are still to come
            print(f"sundog: the warming row was refused: {type(error).__name__}: {error}")


def one_thread() -> Any:
    """Holds the linear algebra and OpenMP libraries at one thread: sums then have one order. For a `with`, or for good."""
    try:
        import threadpoolctl
    except ImportError:
        import contextlib

        return contextlib.nullcontext()
    return threadpoolctl.threadpool_limits(limits=1)


def answer_rows(model: Model, payload: bytes) -> dict[str, Any]:
    """{"rows":[{…}…]} or {"columns":{name:[…]}} → {"model","version","outputs","rows"}."""
    body = _json(payload)
    if not isinstance(body, dict) or ("rows" not in body and "columns" not in body):
        raise SignatureError('The payload is {"rows":[{"column":value}…]} or {"columns":{"column":[values]}}.')
    given = body["rows"] if "rows" in body else body["columns"]
    if not isinstance(given, list if "rows" in body else dict):
        raise SignatureError('"rows" is a list of objects, "columns" an object of lists.')
    answers = model.predict_table(table_of(given, model.inputs))
    names = [column["name"] for column in model.outputs]
    columns = [tensors.json_values(answers.column(column["name"]), column["type"]) for column in model.outputs]
    return {
        "model": model.manifest["model"],
        "version": model.manifest["version"],
        "outputs": list(model.outputs),
        "rows": [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)],
    }


def answer_tensors(model: Model, payload: bytes) -> dict[str, Any]:
    """An Open Inference Protocol v2 request → its response."""
    request = _json(payload)
    return tensors.response(
        request, model.predict_table(tensors.table_from_request(request, model.manifest["signature"])), model.manifest
    )


def answer_shard(model: Model, payload: bytes, host: Any) -> dict[str, Any]:
    """{"blob"}: a Parquet file → {"blob","rows","bytes"}: its rows in its order, with the model's outputs behind."""
    import pyarrow.parquet as parquet

    pa = arrow()
    rows = 0
    target = host.create_file()
    with host.open_blob(_json(payload)["blob"]) as source:
        reader = parquet.ParquetFile(source)
        added = [pa.field(column["name"], arrow_type(column["type"])) for column in model.outputs]
        schema = pa.schema([*reader.schema_arrow.remove_metadata(), *added])
        with parquet.ParquetWriter(target.file, schema, compression="zstd") as writer:
            for batch in reader.iter_batches(batch_size=_SHARD_ROWS, use_threads=False):
                table = pa.Table.from_batches([batch])
                answers = model.predict_table(table_of(table, model.inputs))
                writer.write_table(pa.table([*table.columns, *answers.columns], schema=schema))
                rows += table.num_rows
    blob = target.commit()
    return {"blob": blob, "rows": rows, "bytes": target.bytes}


def answer(model: Model, content: str, payload: bytes, host: Any) -> dict[str, Any]:
    """What the model's function answers, by the kind of content that `meta` names."""
    if content == "rows":
        return answer_rows(model, payload)
    if content == "v2":
        return answer_tensors(model, payload)
    if content == "shard":
        return answer_shard(model, payload, host)
    if content == "v2-metadata":
        return tensors.metadata(model.manifest)
    raise ValueError(f'A model answers rows, v2, v2-metadata and shard, not "{content}".')


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError as error:
        raise SignatureError(f"The payload is no JSON: {error}") from None


def handler(payload: bytes, context: Any) -> bytes:
    """One call of a model's function; without `meta` (Lambda's own Invoke) the payload is rows."""
    from sundog.runtime import host

    meta = getattr(context, "meta", None) or {}
    model = _MODEL if _MODEL is not None else Model.load(os.environ["LAMBDA_TASK_ROOT"])
    return json.dumps(answer(model, meta.get("content", "rows"), payload, host), allow_nan=False).encode()


handler.__sundog_raw__ = True  # type: ignore[attr-defined]

# In a template the model is loaded and warmed once; instances are forked from it.
_MODEL: Model | None = None
if os.environ.get("_HANDLER") == HANDLER and os.environ.get("LAMBDA_TASK_ROOT"):
    _MODEL = Model.load(os.environ["LAMBDA_TASK_ROOT"])
    _THREADS = one_thread()
    _MODEL.warm()

__all__ = ["Model", "SignatureError", "answer", "handler"]
