"""./dev bench [name…]: runs the programs of bench/ one after another, alone on the machine, and keeps what they measured."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .build import build
from .steps import BUILD, PYTHON, ROOT, StepFailed, say, step

FOLDER = ROOT / "bench"
RECORDED = FOLDER / "recorded.json"
TARGETS = [
    "sundog-server",
    "sundog-launcher",
    "sundog-data",
    "sundog-runtime-api",
    "sundog_native",
    "http_bench",
    "store_bench",
    "sundog-simulate",
]
WORSE = 1.2  # a ratio that is more than so many times the recorded one is a regression


@dataclass
class Asked:
    """What the command line said."""

    names: list[str] = field(default_factory=list)
    quick: bool = False
    check: bool = False
    record: bool = False
    write_docs: bool = False
    flame: str = ""


def chosen(names: list[str]) -> list[Path]:
    """The programs of these names; all of them if none is given."""
    programs = sorted(FOLDER.glob("bench_*.py"))
    known = [program.stem.removeprefix("bench_") for program in programs]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise StepFailed(f"No benchmark is called {' or '.join(wrong)}; there are: {', '.join(known)}.")
    return [program for program in programs if not names or program.stem.removeprefix("bench_") in names]


def surroundings(quick: bool) -> dict[str, str]:
    """Environment variables of every program of bench/: the release build's binaries and Python code."""
    return {
        "SUNDOG_BIN_DIR": str(BUILD / "release" / "bin"),
        "SUNDOG_BENCH_QUICK": "1" if quick else "0",
        "PYTHONPATH": f"{BUILD / 'release' / 'python'}:{ROOT / 'python'}",
    }


def run(program: Path, results: Path, quick: bool) -> None:
    """One program; its figures go to `results`, in place of those of an earlier run."""
    name = program.stem.removeprefix("bench_")
    (results / f"{name}.json").unlink(missing_ok=True)
    step(f"benchmark {name}", [PYTHON, program], extra={**surroundings(quick), "SUNDOG_BENCH_RESULTS": str(results)})


def flame(name: str, quick: bool) -> None:
    """./dev bench --flame NAME: what dominates a figure, as docs/benchmarks/flame_NAME.svg."""
    build("release", ["programs"])
    step(f"flame graph {name}", [PYTHON, FOLDER / "flame.py", name], extra=surroundings(quick))


def ratios(results: Path, programs: list[Path]) -> dict[str, dict[str, float]]:
    """Benchmark → figure → how many times its floor of the same run it took, of those that say so."""
    found = {}
    for program in programs:
        name = program.stem.removeprefix("bench_")
        file = results / f"{name}.json"
        figures: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
        of_one = {figure["id"]: round(figure["ratio"], 3) for figure in figures if figure["ratio"] is not None}
        if of_one:
            found[name] = of_one
    return found


def regressions(measured: dict[str, dict[str, float]], recorded: dict[str, dict[str, float]]) -> dict[str, list[str]]:
    """Benchmark → sentences about its figures that are more than 20 % worse than recorded."""
    worse: dict[str, list[str]] = {}
    for name, figures in measured.items():
        for identifier, ratio in figures.items():
            before = recorded.get(name, {}).get(identifier)
            if before is not None and ratio > before * WORSE:
                worse.setdefault(name, []).append(f"{identifier} is {ratio} times its floor; recorded: {before}")
    return worse


def missing(
    measured: dict[str, dict[str, float]], recorded: dict[str, dict[str, float]], programs: list[Path]
) -> list[str]:
    """The recorded figures of these programs that were not measured."""
    names = [program.stem.removeprefix("bench_") for program in programs]
    return [f"{name}: {one}" for name in names for one in recorded.get(name, {}) if one not in measured.get(name, {})]


def check(results: Path, programs: list[Path], quick: bool) -> None:
    """Fails on a regression that shows twice (one busy moment is none), and on a recorded figure that is missing."""
    recorded = json.loads(RECORDED.read_text())
    measured = ratios(results, programs)
    if absent := missing(measured, recorded, programs):
        raise StepFailed("Recorded, but not measured: " + "; ".join(absent) + ".")
    worse = regressions(measured, recorded)
    again = [program for program in programs if program.stem.removeprefix("bench_") in worse]
    for program in again:
        for sentence in worse[program.stem.removeprefix("bench_")]:
            say(f"{sentence}; measured once more")
        run(program, results, quick)
    measured = ratios(results, again)
    still = [f"{figure} was not measured again" for figure in missing(measured, recorded, again)]
    still += [line for lines in regressions(measured, recorded).values() for line in lines]
    if still:
        raise StepFailed("More than 20 % worse than recorded: " + "; ".join(still) + ".")
    say("no figure is more than 20 % worse than recorded")


def record(results: Path, programs: list[Path]) -> None:
    """Writes the ratios of these programs into bench/recorded.json; what others recorded stays."""
    known = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    known.update(ratios(results, programs))
    RECORDED.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    say(f"recorded in {RECORDED.relative_to(ROOT)}")


def main(asked: Asked) -> None:
    """./dev bench."""
    if asked.flame:
        flame(asked.flame, asked.quick)
        return
    programs = chosen(asked.names)
    if asked.check and not RECORDED.exists():
        raise StepFailed(
            "bench/recorded.json, which --check compares with, is not there yet; ./dev bench --record makes it."
        )
    build("release", TARGETS)
    results = BUILD / "bench" / ("quick" if asked.quick else "results")
    results.mkdir(parents=True, exist_ok=True)
    for program in programs:
        run(program, results, asked.quick)
    if asked.check:
        check(results, programs, asked.quick)
    if asked.record:
        record(results, programs)
    if asked.write_docs:
        step("writing docs/benchmarks.md", [PYTHON, FOLDER / "page.py", results])
    say("the promised figures stand in docs/SPEC.md")
