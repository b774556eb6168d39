"""What a benchmark says: figures with median, p99, CPU, floor and ratio, as a table for people and as JSON for ./dev bench."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

QUICK = os.environ.get("SUNDOG_BENCH_QUICK") == "1"


@dataclass
class Figure:
    """One row. `ratio` compares with the floor of the same run, so that smaller is better whatever the unit."""

    id: str
    what: str
    unit: str
    p50: float | None  # None: absent, and `note` says why
    p99: float | None = None
    cpu_us: float | None = None  # of one call or start, the whole process tree's
    floor: float | None = None
    floor_what: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


def against(measured: float, floor: float, *, more_is_better: bool = False) -> float:
    """How many times worse than the floor: 1 is the floor itself."""
    return floor / measured if more_is_better else measured / floor


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def absent(identifier: str, what: str, unit: str, why: str) -> Figure:
    """A row for what this build or this machine cannot show."""
    return Figure(identifier, what, unit, None, note=" ".join(why.split()))


def number(value: float | None) -> str:
    """Three significant digits, thousands apart."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


class Report:
    """Collects the figures of one program, prints each at once, and leaves them where ./dev bench looks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures: list[Figure] = []
        print(f"{'':58}{'unit':>10}{'p50':>10}{'p99':>10}{'CPU µs':>10}{'floor':>10}{'× floor':>9}  target")

    def add(self, figure: Figure) -> Figure:
        """Prints a figure and keeps it."""
        self.figures.append(figure)
        verdict = "" if figure.met is None else (" (met)" if figure.met else " (missed)")
        cells = [number(v) for v in (figure.p50, figure.p99, figure.cpu_us, figure.floor)]
        line = f"{figure.what:58}{figure.unit:>10}" + "".join(f"{cell:>10}" for cell in cells)
        print(f"{line}{number(figure.ratio):>9}  {figure.target}{verdict}", flush=True)
        if figure.note:
            print(f"    {figure.note}", flush=True)
        return figure

    def write(self) -> None:
        """Leaves the figures as JSON in the folder that ./dev bench names."""
        folder = os.environ.get("SUNDOG_BENCH_RESULTS")
        if folder:
            text = json.dumps([asdict(figure) for figure in self.figures], indent=1, ensure_ascii=False)
            Path(folder, f"{self.name}.json").write_text(text + "\n")
