"""From zero instances to the first answer over HTTP, everything sealed: one at a time, eight at once, sustained, and parked.

Instances end as soon as they are idle (--idle-instance 0 --parked 0), so that every call finds none; only for the figures with a
parked one the defaults hold. Floor: a bare fork of the same warmed process, without server and seal, to its first answer.
"""

from __future__ import annotations

import json
import statistics
import time

import floors
import machine
from deployed import BODY, TITLE, Deployed, from_zero, sundog
from figures import QUICK, Figure, Report, absent, against, quantile
from load import Caller, at_once, keep_busy

STARTS = 60 if QUICK else 400
ROUNDS = 8 if QUICK else 40  # of eight starts at once
CALLERS = 3  # of sustained starts
SUSTAINED = 4.0 if QUICK else 15.0  # seconds
TARGETS = {"bare": (None, None), "sklearn": (8.5, 11.0), "onnx": (2.8, None)}
PARKED = {"sklearn": 1.8, "onnx": 0.7}
PER_CORE_SECOND = {"sklearn": 80, "onnx": 180}
PATIENCE = 20.0  # seconds for an idle instance to be parked, where there is such a thing


def one_by_one(server: Deployed, caller: Caller, count: int) -> list[float]:
    """Milliseconds of starts, each from zero; an answer of an instance that was there already is refused."""
    caller.call()
    taken = []
    for _ in range(count):
        server.wait_for_none()
        milliseconds, body = caller.timed()
        if json.loads(body)["calls"] != 1:
            raise RuntimeError("An instance that was there already answered a start.")
        taken.append(milliseconds)
    return taken


def single(report: Report, server: Deployed, kind: str, name: str, floor: dict) -> None:
    """One start at a time."""
    taken = one_by_one(server, server.caller(name, BODY[kind]), STARTS)
    fresh = floors.fresh_process(kind, 2 if QUICK else 5)
    p50, p99 = statistics.median(taken), quantile(taken, 0.99)
    base = statistics.median(floor["ms"])
    most, most99 = TARGETS[kind]
    target = f"p50 ≤ {most} ms" + (f", p99 ≤ {most99} ms" if most99 else "") if most else ""
    met = (p50 <= most and (most99 is None or p99 <= most99)) if most else None
    report.add(
        Figure(f"start.{kind}", f"start from zero, {TITLE[kind]}", "ms", p50, p99, None, base, "bare fork", against(p50, base), target, met,
               f"min {min(taken):.2f}; floor p99 {quantile(floor['ms'], 0.99):.2f}; {len(taken)} starts")
    )  # fmt: skip
    times = statistics.median(fresh) / p50
    wanted = kind == "sklearn"
    report.add(
        Figure(f"fresh.{kind}", f"fresh process beside it, {TITLE[kind]}", "ms", statistics.median(fresh), max(fresh),
               target="a start takes 200 times less" if wanted else "", met=times >= 200 if wanted else None,
               note=f"a start takes {times:.0f} times less")
    )  # fmt: skip


def eight(report: Report, server: Deployed, kind: str, name: str, floor: dict) -> None:
    """Eight starts at the same moment."""
    callers = [server.caller(name, BODY[kind]) for _ in range(8)]
    taken: list[float] = []
    for _ in range(ROUNDS):
        server.wait_for_none()
        taken += at_once(callers)
    base = statistics.median(floor["ms"])
    p50 = statistics.median(taken)
    report.add(
        Figure(f"start8.{kind}", f"8 starts at once, {TITLE[kind]}", "ms", p50, quantile(taken, 0.99), None, base, "bare fork",
               against(p50, base), "reported")
    )  # fmt: skip


def sustained(report: Report, server: Deployed, kind: str, floor: dict) -> None:
    """As many starts as the machine makes, with CPU counted to the end of the teardown.

    A function for each caller, so that every call finds its function without an instance.
    """
    names = [server.deploy(kind, f"{kind}-{number}") for number in range(CALLERS)]
    callers = [server.caller(name, BODY[kind]) for name in names]
    for caller in callers:
        caller.call()
    server.wait_for_none()
    pid = server.server.pid
    before, busy = machine.settled_cpu_seconds(pid), machine.machine_busy_seconds()
    began = time.monotonic()
    bodies = keep_busy(callers, SUSTAINED)
    took = time.monotonic() - began
    server.wait_for_none()
    cpu = machine.settled_cpu_seconds(pid) - before
    busy = machine.machine_busy_seconds() - busy
    starts = sum(json.loads(body)["calls"] == 1 for body in bodies)
    per_core_second, base = starts / cpu, 1e6 / floor["cpu_us"]
    wanted = PER_CORE_SECOND.get(kind)
    report.add(
        Figure(f"starts.{kind}", f"starts per core-second, sustained, {TITLE[kind]}", "1/s", per_core_second, None, cpu / starts * 1e6,
               base, "bare fork", against(per_core_second, base, more_is_better=True), f"≥ {wanted}" if wanted else "",
               per_core_second >= wanted if wanted else None,
               f"{starts} starts in {took:.1f} s, {len(bodies) - starts} answers of instances in use; whole machine busy "
               f"{busy:.1f} s with the client's own work")
    )  # fmt: skip


def parked(report: Report, kind: str) -> None:
    """With the default policy: what answers while an instance of the function is parked."""
    title, identifier = f"with a parked instance, {TITLE[kind]}", f"parked.{kind}"
    with sundog() as server:
        name = server.deploy(kind, kind)
        caller = server.caller(name, BODY[kind])
        base: list[float] = []
        for _ in range(3):
            caller.call()

        def is_parked() -> bool:
            return bool(server.instances("parked")) and not server.instances("idle") and not server.instances("busy")

        end = time.monotonic() + PATIENCE
        while not is_parked() and time.monotonic() < end:
            time.sleep(0.1)
        if not is_parked():
            report.add(
                absent(
                    identifier, title, "ms", f"absent: no instance was parked within {PATIENCE:.0f} s of the last call"
                )
            )
            return
        for _ in range(5 if QUICK else 20):
            end = time.monotonic() + PATIENCE
            while not is_parked() and time.monotonic() < end:
                time.sleep(0.05)
            base.append(caller.timed()[0])
    p50 = statistics.median(base)
    most = PARKED[kind]
    floor = statistics.median(floors.fork(kind, 40)["ms"])
    report.add(
        Figure(identifier, title, "ms", p50, quantile(base, 0.99), None, floor, "bare fork", against(p50, floor), f"p50 ≤ {most} ms", p50 <= most,
               f"{len(base)} calls")
    )  # fmt: skip


def main() -> None:
    """Prints one table."""
    report = Report("start")
    for kind in ("bare", "sklearn", "onnx"):
        floor = floors.fork(kind, 60 if QUICK else 300)
        with from_zero() as server:
            name = server.deploy(kind, kind)
            single(report, server, kind, name, floor)
            eight(report, server, kind, name, floor)
            sustained(report, server, kind, floor)
    for kind in ("sklearn", "onnx"):
        parked(report, kind)
    report.write()


if __name__ == "__main__":
    main()
