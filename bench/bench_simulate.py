"""The scaling policy against fixed and histogram keep-alive, over synthetic days: `sundog-simulate` runs the server's own decide().

Nothing here is timed but the simulation itself; what it says is the same on every machine. With --write-plots the plots
of docs/design/scaling.md are drawn anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import installed
from figures import QUICK, Figure, Report

Tally = dict[str, Any]

PROGRAM = Path(os.environ.get("SUNDOG_BIN_DIR", installed.ROOT / "build" / "release" / "bin")) / "sundog-simulate"
PLOTS = installed.ROOT / "docs" / "design" / "scaling"
TRACES = ("azure", "zipf", "diurnal", "bursts", "regular", "rare")
# Of the policies that keep instances alive, once with our cost of a start and once with that of a process in the field.
RUNS = (("sundog", 0.008), ("fixed", 0.008), ("histogram", 0.008), ("fixed", 2.0), ("histogram", 2.0))
# SUNDOG_SIMULATE_FULL=1 adds the first trace at ten million calls of ten thousand functions, without the histogram.
FIFTH = (
    ["--functions", "500", "--invocations", "500000"] if QUICK else ["--functions", "2000", "--invocations", "2000000"]
)
FULL = os.environ.get("SUNDOG_SIMULATE_FULL") == "1"
AT_ONCE = int(os.environ.get("SUNDOG_SIMULATE_AT_ONCE", "2"))
PRESSURE_GB = (256, 48, 24, 12) if not QUICK else (256, 12, 3)  # of each of 8 nodes
NODES = (1, 10, 100)


def simulate(*words: object) -> Tally:
    """One day under one policy."""
    command = [str(PROGRAM), *map(str, words)]
    tally: Tally = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return tally


def all_runs() -> tuple[list[Tally], list[Tally], list[Tally], list[Tally]]:
    """Every trace under every policy; the first one whole; less and less memory; more and more nodes."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        whole = [
            pool.submit(simulate, "--trace", TRACES[0], "--policy", p, "--process-s", cost)
            for p, cost in RUNS
            if FULL and p != "histogram"
        ]
        days = [
            pool.submit(simulate, *FIFTH, "--trace", t, "--policy", p, "--process-s", cost)
            for t in TRACES
            for p, cost in RUNS
        ]
        pressed = [
            pool.submit(simulate, *FIFTH, "--policy", p, "--process-s", cost, "--nodes", 8, "--node-gb", gb)
            for gb in PRESSURE_GB
            for p, cost in RUNS[:3]
        ]
        # The same memory in all, on so many nodes.
        spread = [pool.submit(simulate, *FIFTH, "--nodes", n, "--node-gb", 4096 // n) for n in NODES]
        return (
            [d.result() for d in days],
            [d.result() for d in whole],
            [d.result() for d in pressed],
            [d.result() for d in spread],
        )


def row(tally: Tally, fixed: Tally) -> str:
    """One line of the table in docs/design/scaling.md."""
    cells = [
        tally["trace"] + (", 10 million" if tally["functions"] == 10_000 else ""),
        f"{tally['policy']}{', 2 s a start' if tally['process_ms'] > 100 else ''}",
        f"{tally['share_cold']:.2%}",
        f"{tally['share_rebuilt']:.2%}",
        f"{tally['wait_p50_ms']:.2g}",
        f"{tally['wait_p99_ms']:.3g}",
        f"{tally['wait_p999_ms']:.3g}",
        f"{tally['wait_mean_ms']:.3g}",
        f"{tally['wasted_gb_h']:,.0f}",
        f"{tally['wasted_gb_h'] / fixed['wasted_gb_h']:.1%}",
    ]
    return "| " + " | ".join(cells) + " |"


def verdict(ours: Tally, fixed: Tally) -> tuple[float, bool]:
    """The share of fixed keep-alive's memory that rests, and whether it is a tenth at most at an equal or better p99."""
    share = ours["wasted_gb_h"] / fixed["wasted_gb_h"]
    return share, share <= 0.1 and ours["wait_p99_ms"] <= fixed["wait_p99_ms"]


def main() -> None:
    """Runs all, prints the table, and draws it if asked."""
    report = Report("simulate")
    days, whole, pressed, spread = all_runs()
    by_trace = {t: [d for d in days if d["trace"] == t] for t in TRACES}
    for trace, runs in by_trace.items():
        ours = runs[0]
        for against, fixed in (("a process's start", runs[3]), ("our start", runs[1])):
            share, met = verdict(ours, fixed)
            name = "process" if fixed is runs[3] else "ours"
            report.add(
                Figure(f"simulate.{trace}.{name}", f"memory that rests, {trace} trace", "GB·h", ours["wasted_gb_h"], None, None,
                       fixed["wasted_gb_h"], f"fixed keep-alive, {against}", share,
                       f"≤ a tenth, p99 ≤ {fixed['wait_p99_ms']:.4g} ms", met,
                       f"p99 {ours['wait_p99_ms']:.3g} ms; idle {ours['wasted_idle_gb_h']:.0f}, parked {ours['wasted_parked_gb_h']:.0f}, "
                       f"templates {ours['wasted_templates_gb_h']:.0f}, environments {ours['wasted_environments_gb_h']:.0f}")
            )  # fmt: skip
    report.write()
    print(
        "\n| trace | policy | cold | of these without template | p50 ms | p99 ms | p99.9 ms | mean ms | GB·h at rest | of fixed |"
    )
    print("| --- " * 10 + "|")
    for runs in [*by_trace.values(), whole]:
        for tally in runs:
            print(row(tally, runs[1]))
    for tally in spread:
        print(
            f"{tally['nodes']} nodes: cold {tally['share_cold']:.2%}, p99 {tally['wait_p99_ms']:.3g} ms, {tally['wasted_gb_h']:,.0f} GB·h"
        )
    if "--write-plots" in sys.argv or os.environ.get("SUNDOG_WRITE_PLOTS") == "1":
        draw(days, pressed)


def draw(days: list[Tally], pressed: list[Tally]) -> None:
    """The plots, by the interpreter that has matplotlib."""
    PLOTS.mkdir(exist_ok=True)
    python = installed.venv("plots", ("matplotlib==3.11.2",))
    data = json.dumps({"days": days, "pressed": pressed})
    subprocess.run(
        [str(python), str(Path(__file__).with_name("simulate_plots.py")), str(PLOTS)], input=data, text=True, check=True
    )


if __name__ == "__main__":
    main()
