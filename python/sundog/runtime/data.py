"""The dataset version that a training function gets: read shard by shard from the blobs that its run was granted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from sundog.runtime.signature import arrow, frame_of

WEIGHT = "__weight__"


class Data:
    """A table of a dataset version, or of one of its splits.

    Attributes:
        label: The name of the label's column, or "".
        schema: [{"name", "type", "nullable"}] of all columns.
    """

    def __init__(self, version: dict[str, Any], open_blob: Callable[[str], IO[bytes]], split: str = "") -> None:
        self._version = version
        self._open = open_blob
        self._split = split
        self._used: list[list[str]] = []
        self.label: str = version.get("label") or ""
        self.schema: list[dict[str, Any]] = list(version.get("schema") or [])

    def __repr__(self) -> str:
        split = f", split {self._split!r}" if self._split else ""
        return f"<data {self.reference}{split}: {self.rows} rows × {len(self.columns)} columns>"

    @property
    def reference(self) -> str:
        return f"{self._version.get('dataset')}@{self._version.get('version')}"

    @property
    def columns(self) -> list[str]:
        """All columns' names, the label's included."""
        return [column["name"] for column in self.schema]

    @property
    def features(self) -> list[str]:
        """The columns' names without label and weights."""
        return [name for name in self.columns if name not in (self.label, WEIGHT)]

    @property
    def splits(self) -> list[str]:
        return sorted({shard["split"] for shard in self._version["shards"]})

    @property
    def rows(self) -> int:
        return sum(int(shard["rows"]) for shard in self._shards())

    def split(self, name: str) -> Data:
        """The rows of one split: "train", "valid" or "test".

        Raises:
            KeyError: The dataset version has no such split.
        """
        if name not in self.splits:
            raise KeyError(
                f"{self.reference} has no split {name!r}, it has {self.splits}; preprocess(split=…) makes splits"
            )
        part = Data(self._version, self._open, name)
        part._used = self._used
        return part

    def batches(self, rows: int = 65536, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """Arrow tables of at most `rows` rows, one after the other: the whole is never in memory."""
        pa = arrow()
        import pyarrow.parquet as parquet

        for shard in self._shards():
            with self._open(shard["blob"]) as file:
                reader = parquet.ParquetFile(file)
                present = set(reader.schema_arrow.names)
                wanted = None if columns is None else [name for name in columns if name in present]
                for batch in reader.iter_batches(batch_size=rows, columns=wanted, use_threads=False):
                    yield pa.Table.from_batches([batch])

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """All rows as an Arrow table. Weights are there only where balancing made them."""
        pa = arrow()
        pieces = list(self.batches(columns=columns))
        if not pieces:
            raise ValueError(f"{self!r} has no rows.")
        return pa.concat_tables(pieces, promote_options="default")

    def pandas(self, columns: Sequence[str] | None = None) -> Any:
        """All rows as a pandas frame."""
        return frame_of(self.table(columns))

    def xy(self) -> tuple[Any, Any]:
        """A frame of n rows × the feature columns, and the series of the n labels."""
        if not self.label:
            raise ValueError(f"{self.reference} has no label; preprocess(label=…) sets it.")
        features = self.features
        self._used.append(features)
        frame = self.pandas([*features, self.label])
        return frame[features], frame[self.label]

    def weights(self) -> Any:
        """The series of the n rows' weights, or None if balancing made none."""
        if WEIGHT not in self.columns:
            return None
        table = self.table([WEIGHT])
        return frame_of(table)[WEIGHT] if WEIGHT in table.column_names else None

    def used_features(self) -> list[str]:
        """The columns that the last xy() gave, or else all features."""
        return list(self._used[-1]) if self._used else self.features

    def head(self, rows: int, columns: Sequence[str]) -> Any:
        """An Arrow table of the first rows."""
        return next(self.batches(rows=rows, columns=columns))

    def _shards(self) -> list[dict[str, Any]]:
        shards = self._version["shards"]
        return [shard for shard in shards if not self._split or shard["split"] == self._split]
