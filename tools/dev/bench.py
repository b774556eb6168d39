"""./dev bench [name…]: runs the programs of bench/ one after another, alone on the machine."""

from __future__ import annotations

from .build import build
from .steps import BUILD, PYTHON, ROOT, StepFailed, say, step


def main(names: list[str]) -> None:
    """Runs bench/NAME.py for each name; all of them if none is given."""
    build("release")
    programs = sorted((ROOT / "bench").glob("bench_*.py"))
    chosen = [p for p in programs if not names or p.stem.removeprefix("bench_") in names]
    if not chosen:
        known = ", ".join(p.stem.removeprefix("bench_") for p in programs)
        raise StepFailed(f"No benchmark is called {' or '.join(names)}; there are: {known}.")
    extra = {
        "SUNDOG_BIN_DIR": str(BUILD / "release" / "bin"),
        "PYTHONPATH": f"{BUILD / 'release' / 'python'}:{ROOT / 'python'}",
    }
    for program in chosen:
        step(f"benchmark {program.stem}", [PYTHON, program], extra=extra)
    say("the promised figures stand in docs/SPEC.md")
