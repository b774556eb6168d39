"""A host without a server: blobs in memory, host calls answered and recorded."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet


class FakeFile:
    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self.file = io.BytesIO()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        return self.file.write(data)

    def commit(self) -> str:
        content = self.file.getvalue()
        self.bytes = len(content)
        return self._host.put(content)


class FakeHost:
    """What sundog.runtime.host is inside an instance. `stop_after` metric calls the run is asked to stop."""

    def __init__(self, stop_after: int | None = None, checkpoint: str = "", attempt: int = 1) -> None:
        self.blobs: dict[str, bytes] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.stop_after = stop_after
        self.checkpoint = checkpoint
        self.attempt = attempt
        self.opened: list[str] = []

    def put(self, content: bytes) -> str:
        blob = hashlib.sha256(content).hexdigest()
        self.blobs[blob] = content
        return blob

    def open_blob(self, blob: str) -> io.BytesIO:
        self.opened.append(blob)
        return io.BytesIO(self.blobs[blob])

    def create_file(self) -> FakeFile:
        return FakeFile(self)

    def call(self, name: str, arguments: dict[str, Any], fds: Any = ()) -> tuple[Any, list[int]]:
        self.calls.append((name, arguments))
        if name == "run.start":
            files = [self._descriptor(self.checkpoint)] if self.checkpoint else []
            return {"stop": self.stop_after == 0, "attempt": self.attempt, "checkpoint": self.checkpoint}, files
        if name == "run.metrics":
            logged = sum(1 for call, _ in self.calls if call == "run.metrics")
            return {"stop": self.stop_after is not None and logged >= self.stop_after}, []
        if name == "run.checkpoint":
            self.checkpoint = arguments["blob"]
            return {}, []
        raise AssertionError(f"unexpected host call {name}")

    def _descriptor(self, blob: str) -> int:
        with tempfile.TemporaryFile() as file:
            file.write(self.blobs[blob])
            file.flush()
            return os.dup(file.fileno())

    def metrics(self) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.calls if name == "run.metrics"]


def generated_frame(rows: int, seed: int = 7) -> pd.DataFrame:
    """Generated, not real: two informative numbers, a count, a flag, a colour, and a label that follows from them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "income": rng.normal(50.0, 20.0, rows),
            "debt": rng.exponential(10.0, rows),
            "children": rng.integers(0, 5, rows),
            "owner": rng.random(rows) < 0.4,
            "colour": rng.choice(["red", "green", "blue"], rows),
        }
    )
    score = frame["income"] / 20 - frame["debt"] / 10 + frame["children"] * 0.1 + frame["owner"] * 0.5
    frame["label"] = (score + rng.normal(0, 0.5, rows) > 2).astype("int64")
    return frame


SCHEMA = [
    {"name": "income", "type": "float64", "nullable": True},
    {"name": "debt", "type": "float64", "nullable": False},
    {"name": "children", "type": "int64", "nullable": False},
    {"name": "owner", "type": "bool", "nullable": False},
    {"name": "colour", "type": "string", "nullable": True},
    {"name": "label", "type": "int64", "nullable": False},
]
NUMBERS = ["income", "debt", "children", "owner"]


def parquet_bytes(frame: pd.DataFrame, row_group: int = 1000) -> bytes:
    target = io.BytesIO()
    parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), target, row_group_size=row_group)
    return target.getvalue()


def dataset(host: FakeHost, drop: tuple[str, ...] = (), rows: int = 600, shards: int = 3) -> dict[str, Any]:
    """A DatasetVersion of generated rows: `shards` shards of training rows and one of validation rows."""
    frame = generated_frame(rows).drop(columns=list(drop))
    size = -(-rows // shards)
    listed = []
    for start in range(0, rows, size):
        part = frame.iloc[start : start + size]
        listed.append({"split": "train", "blob": host.put(parquet_bytes(part)), "rows": len(part)})
    valid = generated_frame(200, seed=8).drop(columns=list(drop))
    listed.append({"split": "valid", "blob": host.put(parquet_bytes(valid)), "rows": len(valid)})
    schema = [column for column in SCHEMA if column["name"] not in drop]
    return {"dataset": "generated", "version": 1, "label": "label", "schema": schema, "shards": listed}
