"""A dataset's profile: what each column holds and what is suspicious about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sundog.tables import html_table, text_table
from sundog.transport import Json


@dataclass(frozen=True)
class ColumnProfile:
    """One column. Numbers are None where the column has no order; `histogram` has k + 1 edges for k counts."""

    name: str
    type: str
    missing: int
    distinct: int
    min: Any = None
    max: Any = None
    mean: float | None = None
    std: float | None = None
    quantiles: Mapping[str, float] = field(default_factory=dict)
    top: tuple[tuple[str, int], ...] = ()
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    constant: bool = False
    suspicious: tuple[str, ...] = ()
    label_auc: float | None = None

    @property
    def remarks(self) -> str:
        """What is to be looked at, in a few words; often empty."""
        return ", ".join([*(["constant"] if self.constant else []), *self.suspicious])


class Profile:
    """What was found: `columns`, `classes` (value → rows), `warnings`, `duplicate_rows`; as table, page or JSON."""

    def __init__(self, json: Json) -> None:
        self.json = json
        self.dataset = f"{json.get('dataset')}@{json.get('version')}"
        self.rows = int(json.get("rows") or 0)
        self.duplicate_rows = int(json.get("duplicate_rows") or 0)
        self.label = str(json.get("label") or "")
        self.classes = {str(c["value"]): int(c["rows"]) for c in json.get("classes") or ()}
        self.warnings = tuple(str(w) for w in json.get("warnings") or ())
        self.columns = tuple(_column(c) for c in json.get("columns") or ())

    def __getitem__(self, name: str) -> ColumnProfile:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Column heads and a row a column, for a terminal."""
        heads = ["column", "type", "missing", "distinct", "min", "median", "mean", "max", "label AUC", "remarks"]
        rows: list[list[Any]] = []
        for c in self.columns:
            auc = None if c.label_auc is None else round(c.label_auc, 3)
            rows.append(
                [c.name, c.type, c.missing, c.distinct, c.min, c.quantiles.get("0.5"), c.mean, c.max, auc, c.remarks]
            )
        return heads, rows

    def head(self) -> str:
        """Rows, columns, duplicates, classes and warnings as sentences."""
        lines = [
            f"{self.dataset}: {self.rows:,} rows × {len(self.columns)} columns, {self.duplicate_rows:,} duplicate rows"
        ]
        if self.classes:
            counts = ", ".join(f"{value}: {rows:,}" for value, rows in self.classes.items())
            lines.append(f"Label {self.label}: {counts}")
        return "\n".join([*lines, *self.warnings])

    def __str__(self) -> str:
        return f"{self.head()}\n{text_table(*self.table())}"

    def __repr__(self) -> str:
        return f"<profile of {self.dataset}: {self.rows:,} rows, {len(self.columns)} columns, {len(self.warnings)} warnings>"

    def _repr_html_(self) -> str:
        return html_table(*self.table(), self.head())

    def html(self) -> str:
        """A whole page with a plot per column; needs nothing from outside."""
        from sundog.profile_page import page

        return page(self)

    def save(self, path: str | Path) -> Path:
        """Writes the page."""
        target = Path(path)
        target.write_text(self.html(), encoding="utf-8")
        return target


def _column(json: Json) -> ColumnProfile:
    histogram = json.get("histogram") or {}
    return ColumnProfile(
        name=json["name"],
        type=json.get("type") or "",
        missing=int(json.get("missing") or 0),
        distinct=int(json.get("distinct") or 0),
        min=json.get("min"),
        max=json.get("max"),
        mean=json.get("mean"),
        std=json.get("std"),
        quantiles={k: v for k, v in (json.get("quantiles") or {}).items() if v is not None},
        top=tuple((str(t["value"]), int(t["rows"])) for t in json.get("top") or ()),
        edges=tuple(histogram.get("edges") or ()),
        counts=tuple(histogram.get("rows") or ()),
        constant=bool(json.get("constant")),
        suspicious=tuple(str(s) for s in json.get("suspicious") or ()),
        label_auc=json.get("label_auc"),
    )
