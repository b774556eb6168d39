"""A flame graph of what the server's processes do under one benchmark's load: ./dev bench --flame NAME.

perf samples the server and everything below it, instances included; flame_graph.py draws docs/benchmarks/flame_NAME.svg. Ours are
compiled with frame pointers, Python and its libraries are not: stacks are unwound from their unwind tables (dwarf). CPython 3.11 has no
names of Python functions to give, so that a handler shows as the interpreter and the native code below it. The kernel ends a process's
events before it takes its memory back: what the end of an instance costs is not in the picture (bench_start.py counts it).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import flame_graph
import installed
import machine
from deployed import BODY, Deployed, from_zero, sundog
from figures import QUICK
from load import keep_busy, wrk

SECONDS = 4.0 if QUICK else 10.0
HERTZ = 1999
PLOTS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"


@dataclass
class Subject:
    """One load, and which processes it makes work."""

    title: str
    kind: str  # of deployed.SOURCES
    callers: int
    starts: bool = False  # every call finds no instance

    def memory(self) -> int:
        """As the benchmark of the same load has it, MB."""
        return 512 if self.kind == "bare" else 1769


SUBJECTS = {
    "warm": Subject("warm calls of a bare handler, one caller", "bare", 1),
    "warm16": Subject("warm calls of a bare handler, 16 callers", "bare", 16),
    "sklearn": Subject("warm calls of a scikit-learn handler, 4 callers", "sklearn", 4),
    "start_sklearn": Subject("starts from zero, scikit-learn", "sklearn", 1, starts=True),
    "start_onnx": Subject("starts from zero, onnxruntime", "onnx", 1, starts=True),
}


def load(server: Deployed, subject: Subject, name: str) -> Callable[[float], None]:
    """What makes the server work for so many seconds."""
    request = server.request(name, BODY[subject.kind])
    if not subject.starts:
        return lambda seconds: print(
            f"{wrk(request, callers=subject.callers, seconds=seconds).per_second:,.0f} requests a second"
        )
    callers = [server.caller(name, BODY[subject.kind]) for _ in range(subject.callers)]

    def starts(seconds: float) -> None:
        bodies = keep_busy(callers, seconds)
        first = sum(json.loads(body)["calls"] == 1 for body in bodies)
        print(f"{first} of {len(bodies)} answers came from an instance that was made for them")

    return starts


@contextmanager
def recorded(pid: int, file: Path) -> Iterator[None]:
    """perf on a process and all that is below it or comes to be below it meanwhile."""
    pids = ",".join(str(process.pid) for process in machine.tree(pid))
    command = ["perf", "record", "-B", "-N", "-e", "cpu-clock", "-F", str(HERTZ), "--call-graph", "dwarf,16384"]
    try:
        perf = subprocess.Popen([*command, "-p", pids, "-o", str(file)], stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        sys.exit(
            "There is no perf: apt-get install linux-perf. It needs root, or kernel.perf_event_paranoid at most 1."
        )
    time.sleep(0.5)  # until it has attached itself
    if perf.poll() is not None:
        sys.exit(f"perf cannot record here: {perf.stderr.read() if perf.stderr else ''}")
    try:
        yield
    finally:
        perf.terminate()
        perf.communicate(timeout=60)


def stacks(file: Path) -> str:
    """What perf saw, as text; while the processes live it finds their libraries in their own mount namespaces."""
    command = ["perf", "script", "-i", str(file), "-F", "comm,ip,sym,dso", "--no-inline", "--max-stack", "96"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """flame.py NAME."""
    wanted = sys.argv[1]
    if wanted not in SUBJECTS:
        sys.exit(f"There is no flame graph of {wanted}; there are: {', '.join(SUBJECTS)}.")
    subject = SUBJECTS[wanted]
    file = installed.FOLDER / f"perf_{wanted}.data"
    with (from_zero if subject.starts else sundog)() as server:
        name = server.deploy(subject.kind, subject.kind, subject.memory())
        run = load(server, subject, name)
        run(1.0)
        if subject.starts:
            server.wait_for_none()  # perf takes no process that ends meanwhile
        machine.settled_cpu_seconds(server.server.pid)  # a template may still be made anew, with what was learned
        with recorded(server.server.pid, file):
            run(SECONDS)
        text = stacks(file)
    file.unlink()
    folded = flame_graph.fold(text.splitlines())
    print(flame_graph.summary(folded))
    PLOTS.mkdir(exist_ok=True)
    target = PLOTS / f"flame_{wanted}.svg"
    target.write_text(flame_graph.svg(folded, f"CPU of the server and its instances: {subject.title}"))
    print(f"{target.name}: {target.stat().st_size >> 10} KB")


if __name__ == "__main__":
    main()
