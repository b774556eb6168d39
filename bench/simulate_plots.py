"""The plots of docs/design/scaling.md, from what bench_simulate.py found; run with the interpreter that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "sundog"
import matplotlib.pyplot as plt  # noqa: E402

COLOURS = {"sundog": "#d9822b", "fixed": "#5c7080", "histogram": "#a7b6c2"}
TITLES = {"sundog": "Sundog", "fixed": "fixed keep-alive, 10 min", "histogram": "histogram (Shahrad et al.)"}
PARTS = ("idle", "parked", "templates", "environments")


def save(figure: Any, file: Path) -> None:
    """Without a date, so that the same figures give the same file."""
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def memory(days: list[dict], file: Path) -> None:
    """What rests, of each trace and policy, on a logarithmic axis; ours by its parts."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(3, 2))
    traces = list(dict.fromkeys(day["trace"] for day in days))
    for place, policy in enumerate(COLOURS):
        values = [next(d["wasted_gb_h"] for d in days if d["trace"] == t and d["policy"] == policy) for t in traces]
        left.bar(
            [i + 0.27 * (place - 1) for i in range(len(traces))],
            values,
            0.25,
            color=COLOURS[policy],
            label=TITLES[policy],
        )
    left.set_yscale("log")
    left.set_xticks(range(len(traces)), traces)
    left.set_ylabel("GB·h at rest in a day")
    left.legend(frameon=False, fontsize=8)
    bottom = [0.0] * len(traces)
    for part, colour in zip(PARTS, ("#a7b6c2", "#d9822b", "#5c7080", "#30404d"), strict=True):
        values = [
            next(d[f"wasted_{part}_gb_h"] for d in days if d["trace"] == t and d["policy"] == "sundog") for t in traces
        ]
        right.bar(traces, values, 0.6, bottom=bottom, color=colour, label=part)
        bottom = [a + b for a, b in zip(bottom, values, strict=True)]
    right.set_title("Sundog, by its parts", loc="left", fontsize=9)
    right.legend(frameon=False, fontsize=8)
    right.tick_params(axis="x", labelsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, file)


def waits(days: list[dict], file: Path) -> None:
    """p99 and p99.9 of the wait on the azure trace, with both costs of a start."""
    figure, axes = plt.subplots(figsize=(8, 3))
    rows = [day for day in days if day["trace"] == "azure"]
    names = [TITLES[d["policy"]] + (", 2 s a start" if d["process_ms"] > 100 else "") for d in rows]
    for place, (key, title) in enumerate((("wait_p99_ms", "p99"), ("wait_p999_ms", "p99.9"))):
        values = [max(0.01, day[key]) for day in rows]
        drawn = axes.barh(
            [i + 0.35 * place for i in range(len(rows))], values, 0.33, label=title, color=("#d9822b", "#5c7080")[place]
        )
        axes.bar_label(drawn, labels=[f"{day[key]:.3g}" for day in rows], padding=3, fontsize=8)
    axes.set_yticks([i + 0.17 for i in range(len(rows))], names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("wait for an instance, ms")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, file)


def pressure(pressed: list[dict], file: Path) -> None:
    """Cold starts and refusals as the nodes' memory shrinks."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    for policy, colour in COLOURS.items():
        rows = sorted((p for p in pressed if p["policy"] == policy), key=lambda p: p["node_gb"])
        memory_gb = [row["node_gb"] * row["nodes"] for row in rows]
        left.plot(memory_gb, [100 * row["share_cold"] for row in rows], "o-", color=colour, label=TITLES[policy])
        right.plot(memory_gb, [100 * row["refused"] / row["invocations"] for row in rows], "o-", color=colour)
    left.set_ylabel("cold starts, %")
    right.set_ylabel("refused, %")
    left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("memory of all nodes, GB")
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, file)


def main() -> None:
    """simulate_plots.py FOLDER, with the tallies on standard input."""
    folder = Path(sys.argv[1])
    found = json.load(sys.stdin)
    memory(found["days"], folder / "memory.svg")
    waits(found["days"], folder / "waits.svg")
    pressure(found["pressed"], folder / "pressure.svg")


if __name__ == "__main__":
    main()
