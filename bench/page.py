"""docs/benchmarks.md and its plots, from the figures that the last run left; `./dev bench --write-docs` calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import installed
import machine
from figures import number

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "benchmarks"
Figures = list[dict[str, Any]]

TITLES = {
    "start": "Starting from zero",
    "warm": "Warm calls",
    "memory": "Memory of an idle instance",
    "events": "Event invocations",
    "overload": "Four times what a node can serve",
    "simulate": "The scaling policy over synthetic days",
    "many": "A thousand functions",
    "density": "A thousand functions over one environment",
    "server": "The server itself",
}
INTRODUCTION = """# Benchmarks

Everything here is measured by one command, `./dev bench --write-docs`, in one run on one machine: Sundog, the floor that the machine
sets, and what people use today, with the same model (logistic regression, 30 numbers), the same rows and the same load generator
(wrk, one thread, on the same cores). [bench/README.md](../bench/README.md) says how each figure comes about. Absolute times belong to
the machine; the ratio to the floor of the same run is what to compare, and what `./dev bench --check` holds.
"""

FLAMES = """## What dominates

Where the CPU of the server and its instances goes, sampled by perf under each load; each is drawn by `./dev bench --flame NAME`. Root
below, a rectangle's width is its share; grey is the kernel, dark orange Sundog, yellow CPython, light orange libraries.

A warm call is two thirds kernel: the answer's way over TCP, waking the instance and then the server, and their sleep; what is left is
the interpreter and small pieces everywhere. A start is four fifths kernel: the fork, which copies the page tables of a thousand
mappings, and the pages that the interpreter and the first prediction write to and so copy. Of 100 starts whose sleeps were recorded
(perf's sched_switch) one waited for a lock in its fork and none for an RCU period, a cgroup or the disk; the end of an instance does
wait for an RCU period, after the answer.
"""


def table(figures: Figures) -> list[str]:
    """What was measured, with floor, ratio and target."""
    lines = ["| | p50 | p99 | CPU µs | floor | × floor | to reach |", "| --- | --- | --- | --- | --- | --- | --- |"]
    notes = []
    for figure in figures:
        if figure["p50"] is None:
            lines.append(f"| {figure['what']} | {figure['note']} | | | | | {figure['target']} |")
            continue
        verdict = {None: "", True: ": met", False: ": **missed**"}[figure["met"]]
        floor = f"{number(figure['floor'])} ({figure['floor_what']})" if figure["floor"] is not None else "–"
        cells = [
            f"{figure['what']}, {figure['unit']}",
            number(figure["p50"]),
            number(figure["p99"]),
            number(figure["cpu_us"]),
        ]
        cells += [floor, number(figure["ratio"]), figure["target"] + verdict]
        lines.append("| " + " | ".join(cells) + " |")
        if figure["note"]:
            notes.append(f"{figure['what']}: {figure['note']}")
    return [*lines, "", *("- " + note for note in notes)] if notes else lines


def peers_table(figures: Figures) -> list[str]:
    """One row for each that was measured."""
    by_peer: dict[str, dict[str, dict[str, Any]]] = {}
    for figure in figures:
        _peers, peer, what = figure["id"].split(".")
        by_peer.setdefault(peer, {})[what] = figure
    lines = [
        "| | start to first answer, ms (CPU ms) | one caller, p50 / p99 ms | 16 callers, requests/s | CPU µs a request | idle memory, MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for rows in by_peer.values():
        title = next(iter(rows.values()))["what"].split(":")[0]
        start, one, many, memory = (rows.get(what) for what in ("start", "one", "many", "memory"))
        if start is not None and start["p50"] is None:
            lines.append(f"| {title} | {start['note']} | | | | |")
            continue
        cpu = f" ({number(start['cpu_us'] / 1000)})" if start and start["cpu_us"] else ""
        held = number(memory["p50"]) if memory else "–"
        if "zero" in rows:
            held += f"; {number(rows['zero']['p50'])} at zero"
        lines.append(
            f"| {title} | {number(start['p50']) if start else '–'}{cpu} | "
            + (f"{number(one['p50'])} / {number(one['p99'])}" if one else "–")
            + f" | {number(many['p50']) if many else '–'} | {number(many['cpu_us']) if many else '–'} | {held} |"
        )
    return lines


def main() -> None:
    """page.py RESULTS."""
    results = Path(sys.argv[1])
    if unknown := sorted({file.stem for file in results.glob("*.json")} - {*TITLES, "peers"}):
        raise SystemExit(f"page.py has no title for {', '.join(unknown)}: add one to TITLES.")
    sections = [INTRODUCTION]
    sections.append(
        "\n".join(["| machine | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in machine.describe().items())])
    )
    for name, title in TITLES.items():
        file = results / f"{name}.json"
        if file.exists():
            sections.append("\n".join([f"## {title}", "", *table(json.loads(file.read_text()))]))
    peers = results / "peers.json"
    PLOTS.mkdir(exist_ok=True)
    if peers.exists():
        sections.append("\n".join(["## Beside its peers", "", *peers_table(json.loads(peers.read_text()))]))
    subprocess.run(
        [str(installed.own_python()), str(Path(__file__).with_name("plots.py")), str(results), str(PLOTS)], check=True
    )
    shown = {
        plot.stem: f"![{plot.stem.replace('_', ' ')}](benchmarks/{plot.name})" for plot in sorted(PLOTS.glob("*.svg"))
    }
    flames = [image for name, image in shown.items() if name.startswith("flame_")]
    if plots := [image for image in shown.values() if image not in flames]:
        sections.append("\n\n".join(plots))
    if flames:
        sections.append("\n\n".join([FLAMES, *flames]))
    PAGE.write_text("\n\n".join(section.strip() for section in sections) + "\n")


if __name__ == "__main__":
    main()
