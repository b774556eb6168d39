"""The plots of docs/benchmarks.md, as SVG without dates in them; run with the interpreter that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "sundog"
import matplotlib.pyplot as plt  # noqa: E402

OURS, THEIRS, FLOOR = "#d9822b", "#5c7080", "#a7b6c2"


def bars(file: Path, title: str, unit: str, rows: list[tuple[str, float, str]]) -> None:
    """Horizontal bars on a logarithmic axis, the first row on top."""
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(rows) + 1.2))
    names, values, colours = zip(*reversed(rows), strict=True)
    drawn = axes.barh(names, values, color=colours)
    axes.bar_label(drawn, labels=[f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values], padding=3)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel(unit)
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def figures(results: Path, name: str) -> dict[str, dict[str, Any]]:
    """By id, those that were measured."""
    file = results / f"{name}.json"
    found = json.loads(file.read_text()) if file.exists() else []
    return {figure["id"]: figure for figure in found if figure["p50"] is not None}


def main() -> None:
    """plots.py RESULTS FOLDER."""
    results, folder = Path(sys.argv[1]), Path(sys.argv[2])
    start = figures(results, "start")
    rows = []
    for kind, title in (("sklearn", "scikit-learn"), ("onnx", "onnxruntime")):
        for prefix, label in (
            ("parked", "parked instance"),
            ("start", "from zero"),
            ("start8", "8 at once"),
            ("fresh", "fresh process"),
        ):
            figure = start.get(f"{prefix}.{kind}")
            if figure:
                rows.append((f"{title}: {label}", figure["p50"], THEIRS if prefix == "fresh" else OURS))
            if figure and prefix == "start":
                rows.append((f"{title}: bare fork, no server, no seal", figure["floor"], FLOOR))
    if rows:
        bars(folder / "start.svg", "To the first answer, over HTTP, sealed", "milliseconds (p50)", rows)
    peers = figures(results, "peers")
    for what, title, unit, file in (
        ("start", "Start to first answer", "milliseconds", "peers_start.svg"),
        ("many", "Requests a second, 16 callers", "requests/s", "peers_rate.svg"),
        ("memory", "Idle memory", "MiB", "peers_memory.svg"),
    ):
        rows = []
        for identifier, figure in peers.items():
            _peers, peer, kind = identifier.split(".")
            if kind == what:
                colour = {"sundog": OURS, "nginx": FLOOR}.get(peer, THEIRS)
                rows.append((figure["what"].split(":")[0], figure["p50"], colour))
        if rows:
            bars(folder / file, title, unit, rows)


if __name__ == "__main__":
    main()
