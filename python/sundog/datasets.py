"""Datasets: tables collected once, and their immutable versions."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from sundog.errors import InvalidArgument, NotFound
from sundog.jobs import Jobs, Progress
from sundog.profile import Profile
from sundog.tables import html_table, text_table
from sundog.transport import Json, Request, Transport, items

if TYPE_CHECKING:
    import pandas
    import pyarrow

Balance = Literal["none", "undersample", "oversample", "weights"]
SplitBy = Literal["random", "stratified", "time"]
_PIECE = 1 << 20


@dataclass(frozen=True)
class Column:
    """One column: type is int64, float64, string, bool, timestamp or date."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a version; `bytes` stored, `memory_bytes` as an Arrow table."""

    split: str
    blob: str
    rows: int
    bytes: int
    memory_bytes: int = 0


@dataclass(frozen=True)
class Preview:
    """The first rows of a version."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __repr__(self) -> str:
        return text_table(self.columns, self.rows)

    def _repr_html_(self) -> str:
        return html_table(self.columns, self.rows)


@dataclass(frozen=True)
class QuarantinedRow:
    """A row that was kept out: its line in the source, why, and its text."""

    line: int
    reason: str
    text: str


def megabytes(size: int | str) -> int:
    """ "512 MB", "1 GB" or 512 → megabytes.

    Raises:
        InvalidArgument: It is no size.
    """
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(MB|GB|MiB|GiB)?\s*", size, re.IGNORECASE)
    if not match:
        raise InvalidArgument(f"{size!r} is no size.", 'Write it like "512 MB".')
    factor = 1024 if (match[2] or "").lower().startswith("g") else 1
    return round(float(match[1]) * factor)


def create_dataset_request(name: str, blob: str, filename: str, options: Mapping[str, Any]) -> Request:
    body = {"name": name, "blob": blob, "filename": filename, **{k: v for k, v in options.items() if v is not None}}
    return Request("POST", "/v1/datasets", body=body)


def preprocess_body(
    *,
    name: str | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    drop_missing: Sequence[str] = (),
    fill: Mapping[str, Any] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    types: Mapping[str, str] | None = None,
    drop_duplicates: bool = False,
    balance: Balance = "none",
    split: Sequence[float] = (0.6, 0.2, 0.2),
    split_by: SplitBy | None = None,
    time_column: str | None = None,
    seed: int = 1,
    fit_in: int | str = 512,
) -> dict[str, Any]:
    """The rules as POST …/preprocess takes them; see `DatasetVersion.preprocess`."""
    if abs(sum(split) - 1.0) > 1e-6 or not 1 <= len(split) <= 3 or any(part < 0 for part in split):
        raise InvalidArgument(
            f"split={tuple(split)} does not sum up to 1.",
            "Give the parts of train, valid and test: (0.6, 0.2, 0.2); of two, the second is test.",
        )
    parts: dict[str, Any] = {"parts": list(split), "seed": seed}
    if split_by is not None:
        parts["by"] = split_by
    if time_column is not None:
        parts.update(by="time", column=time_column)
    body: dict[str, Any] = {"balance": balance, "split": parts, "fit_in_mb": megabytes(fit_in)}
    optional = {"as": name, "label": label, "drop": list(drop), "types": dict(types or {})}
    body.update({key: value for key, value in optional.items() if value})
    if drop_missing or fill:
        body["missing"] = {"drop_rows": list(drop_missing), "fill": dict(fill or {})}
    if ranges:
        body["ranges"] = {column: list(bounds) for column, bounds in ranges.items()}
    if drop_duplicates:
        body["drop_duplicates"] = True
    return body


@dataclass(frozen=True)
class DatasetVersion:
    """An immutable snapshot of a dataset. Its rows lie on the server; `to_arrow` and `to_pandas` bring them here."""

    name: str
    version: int
    label: str
    rows: int
    quarantined: int
    bytes: int
    columns: tuple[Column, ...]
    shards: tuple[Shard, ...] = field(repr=False)
    lineage: Mapping[str, Any] = field(repr=False)
    created: str = ""
    json: Json = field(default=None, repr=False, compare=False)
    _datasets: Datasets | None = field(default=None, repr=False, compare=False)

    @property
    def reference(self) -> str:
        """How other calls name it: "clients@2"."""
        return f"{self.name}@{self.version}"

    @property
    def splits(self) -> dict[str, int]:
        """Rows a split: {"all": n}, or {"train": n, "valid": n, "test": n} after preprocessing."""
        counts: dict[str, int] = {}
        for shard in self.shards:
            counts[shard.split] = counts.get(shard.split, 0) + shard.rows
        return counts

    def preview(self, n: int = 20, *, split: str | None = None) -> Preview:
        """The first `n` rows, at most 1,000."""
        return self._home.preview(self, n, split)

    def profile(self, label: str | None = None, *, progress: Progress | None = None) -> Profile:
        """Looks at every column: types, missing, distinct, quantiles, what is suspicious; classes, duplicates."""
        return self._home.profile(self, label, progress)

    def preprocess(self, *, progress: Progress | None = None, **rules: Any) -> DatasetVersion:
        """Makes a new version by declared rules, split and balanced. The work runs as functions over the shards.

        Args:
            progress: Told of every step.
            **rules: `name` (of the new dataset; else the next version of this one), `label`, `drop` (columns),
                `drop_missing` (columns that must have a value), `fill` ({"income": 0} or "mean", "median",
                "most_frequent"), `ranges` ({"age": (18, 100)}; rows outside go to the quarantine), `types`,
                `drop_duplicates`, `balance` ("none", "undersample", "oversample", "weights"; the training part only),
                `split` (parts of train, valid, test; of two, the second is test), `split_by` ("random", "stratified", "time"), `time_column`,
                `seed`, `fit_in` (memory of an instance that must hold one shard: "512 MB").
        """
        return self._home.preprocess(self, preprocess_body(**rules), progress)

    def quarantine(self) -> Iterator[QuarantinedRow]:
        """The rows that were kept out."""
        return self._home.quarantine(self)

    def to_arrow(self, split: str | None = None) -> pyarrow.Table:
        """Downloads a split (None: all) as an Arrow table."""
        return self._home.to_arrow(self, split)

    def to_pandas(self, split: str | None = None) -> pandas.DataFrame:
        """Downloads a split (None: all) as a pandas frame."""
        return self.to_arrow(split).to_pandas()

    @property
    def _home(self) -> Datasets:
        if self._datasets is None:
            raise InvalidArgument(f"{self.reference} belongs to no connection.", "Get it from cloud.datasets.get(…).")
        return self._datasets

    def __str__(self) -> str:
        splits = ", ".join(f"{name} {rows:,}" for name, rows in self.splits.items())
        return f"{self.reference}: {self.rows:,} rows × {len(self.columns)} columns ({splits}), {self.quarantined:,} quarantined"

    def _repr_html_(self) -> str:
        rows = [[c.name, c.type, "label" if c.name == self.label else ""] for c in self.columns]
        return html_table(["column", "type", ""], rows, str(self))


def parse_dataset_version(json: Json, datasets: Datasets | None = None) -> DatasetVersion:
    """A DatasetVersion of protocol/api.md."""
    shards = tuple(
        Shard(
            s.get("split") or "all",
            s["blob"],
            int(s["rows"]),
            int(s.get("bytes") or 0),
            int(s.get("memory_bytes") or 0),
        )
        for s in json.get("shards") or ()
    )
    return DatasetVersion(
        name=json["dataset"],
        version=int(json["version"]),
        label=json.get("label") or "",
        rows=int(json.get("rows") or sum(s.rows for s in shards)),
        quarantined=int(json.get("quarantined") or 0),
        bytes=int(json.get("bytes") or sum(s.bytes for s in shards)),
        columns=tuple(Column(c["name"], c["type"], bool(c.get("nullable", True))) for c in json.get("schema") or ()),
        shards=shards,
        lineage=json.get("lineage") or {},
        created=json.get("created") or "",
        json=json,
        _datasets=datasets,
    )


class Datasets:
    """The datasets of this tenant."""

    def __init__(self, transport: Transport, jobs: Jobs) -> None:
        self._transport = transport
        self._jobs = jobs

    def create(
        self,
        name: str,
        source: Any,
        *,
        label: str | None = None,
        format: Literal["auto", "csv", "jsonl", "parquet", "arrow"] = "auto",
        compression: Literal["auto", "none", "gz", "xz", "zst"] = "auto",
        missing: Sequence[str] | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        types: Mapping[str, str] | None = None,
        memory_mb: int | None = None,
        progress: Progress | None = None,
    ) -> DatasetVersion:
        """Collects a table; on a name that exists, its next version.

        Args:
            name: The dataset's name.
            source: A path, an address that Arrow can open ("s3://…"), a binary file object, a pandas or polars frame, an
                Arrow table, or a list of dicts.
            label: The column to predict.
            format, compression: What the source is, when its name does not say.
            missing: Texts that mean "no value" in a CSV.
            encoding, delimiter: Of a CSV.
            types: Column → int64, float64, string, bool or timestamp, where inference would guess otherwise.
            memory_mb: Memory of the instance that reads it.
            progress: Told of the upload (bytes) and of the reading (rows).

        Returns:
            The version. Rows that do not parse are in its quarantine, never silently lost.
        """
        with _open_source(source) as (file, filename, size, found_format):
            blob = self.upload(file, size, progress=progress)
        options = {
            "format": found_format if format == "auto" and found_format else format,
            "compression": "none" if found_format else compression,
            "label": label,
            "missing": list(missing) if missing is not None else None,
            "encoding": encoding,
            "delimiter": delimiter,
            "types": dict(types) if types else None,
            "memory_mb": memory_mb,
        }
        job = self._transport.call(create_dataset_request(name, blob, filename, options))
        return parse_dataset_version(self._jobs.wait(job, progress=progress).result, self)

    def upload(self, file: IO[bytes], size: int = 0, *, progress: Progress | None = None) -> str:
        """Streams a file to the server as a blob; gives its id (SHA-256). `size` in bytes, 0: not known."""
        start = file.tell() if file.seekable() else None

        def pieces() -> Iterator[bytes]:
            if start is not None:
                file.seek(start)
            done = 0
            while piece := file.read(_PIECE):
                yield piece
                done += len(piece)
                if progress is not None:
                    progress("uploading", done, size)

        # A source that cannot be read again is sent once only.
        request = Request("PUT", "/v1/blobs", content=pieces, timeout=600.0, idempotent=start is not None)
        if size:
            request = Request(**{**request.__dict__, "headers": {"content-length": str(size)}})
        return str(self._transport.call(request)["id"])

    def get(self, reference: str) -> DatasetVersion:
        """The version "clients@3" names; "clients" alone: the latest."""
        name, _, version = reference.partition("@")
        path = f"/v1/datasets/{quote(name)}/versions/{quote(version or 'latest')}"
        return parse_dataset_version(self._transport.call(Request("GET", path)), self)

    def list(self) -> Iterator[Json]:
        """{"name","created","label","latest","versions"} of each."""
        return items(self._transport, "/v1/datasets")

    def delete(self, name: str) -> None:
        self._transport.call(Request("DELETE", f"/v1/datasets/{quote(name)}"))

    def preview(self, version: DatasetVersion, n: int, split: str | None) -> Preview:
        request = Request("GET", _path(version) + "/rows", params={"limit": min(n, 1000), "split": split})
        answer = self._transport.call(request)
        return Preview(tuple(answer["columns"]), tuple(tuple(row) for row in answer["rows"]))

    def profile(self, version: DatasetVersion, label: str | None, progress: Progress | None) -> Profile:
        body = {"label": label} if label else {}
        job = self._transport.call(Request("POST", _path(version) + "/profile", body=body))
        return Profile(self._jobs.wait(job, progress=progress).result)

    def preprocess(self, version: DatasetVersion, body: Json, progress: Progress | None) -> DatasetVersion:
        job = self._transport.call(Request("POST", _path(version) + "/preprocess", body=body))
        return parse_dataset_version(self._jobs.wait(job, progress=progress).result, self)

    def quarantine(self, version: DatasetVersion) -> Iterator[QuarantinedRow]:
        for row in items(self._transport, _path(version) + "/quarantine", {"limit": 1000}):
            yield QuarantinedRow(int(row.get("line") or 0), row.get("reason") or "", row.get("text") or "")

    def to_arrow(self, version: DatasetVersion, split: str | None) -> pyarrow.Table:
        import pyarrow
        import pyarrow.parquet

        shards = [s for s in version.shards if split is None or s.split == split]
        if not shards:
            raise NotFound(f"{version.reference} has no split {split!r}.", f"It has: {', '.join(version.splits)}.")
        tables = []
        for shard in shards:
            with tempfile.TemporaryFile() as file:
                self._transport.download(Request("GET", f"/v1/blobs/{shard.blob}", timeout=600.0), file.write)
                file.seek(0)
                tables.append(pyarrow.parquet.read_table(file))
        return pyarrow.concat_tables(tables, promote_options="default")


def _path(version: DatasetVersion) -> str:
    return f"/v1/datasets/{quote(version.name)}/versions/{version.version}"


@contextlib.contextmanager
def _open_source(source: Any) -> Iterator[tuple[IO[bytes], str, int, str]]:
    """The source as a binary file, its name, its size (0: not known) and its format if that is certain."""
    if isinstance(source, str) and "://" in source:
        import pyarrow.fs

        system, path = pyarrow.fs.FileSystem.from_uri(source)
        with system.open_input_file(path) as remote:
            yield remote, Path(path).name, remote.size(), ""
    elif isinstance(source, str | Path):
        local = Path(source).expanduser()
        if not local.is_file():
            raise InvalidArgument(f"There is no file {local}.")
        with local.open("rb") as file:
            yield file, local.name, local.stat().st_size, ""
    elif hasattr(source, "read"):
        yield source, Path(str(getattr(source, "name", ""))).name, 0, ""
    else:
        with tempfile.TemporaryFile() as file:
            _write_parquet(source, file)
            size = file.tell()
            file.seek(0)
            yield file, "table.parquet", size, "parquet"


def _write_parquet(source: Any, file: IO[bytes] | io.BytesIO) -> None:
    import pyarrow
    import pyarrow.parquet

    if isinstance(source, pyarrow.Table):
        table = source
    elif isinstance(source, list):
        table = pyarrow.Table.from_pylist(source)
    elif hasattr(source, "to_arrow"):  # polars
        table = source.to_arrow()
    elif hasattr(source, "iloc"):  # pandas
        table = pyarrow.Table.from_pandas(source, preserve_index=False).replace_schema_metadata(None)
    else:
        raise InvalidArgument(
            f"A dataset cannot be made of a {type(source).__name__}.",
            "Give a path, a file object, a pandas or polars frame, an Arrow table, or a list of dicts.",
        )
    pyarrow.parquet.write_table(table, file)
