"""What an idle instance holds for itself: the larger of its cgroup's account and its private pages. Floor: a bare fork's child."""

from __future__ import annotations

import statistics

import floors
import machine
from deployed import BODY, TITLE, eventually, sundog
from figures import QUICK, Figure, Report, against, quantile
from load import at_once

INSTANCES = 6 if QUICK else 16
LIMITS = {"bare": None, "sklearn": 5.0, "onnx": 1.2}


def main() -> None:
    """Prints one table."""
    report = Report("memory")
    for kind, limit in LIMITS.items():
        floor = floors.fork(kind, 2)["own_mib"]
        with sundog("--idle-instance", "600", "--idle-template", "600") as server:
            name = server.deploy(kind, kind)
            callers = [server.caller(name, BODY[kind]) for _ in range(INSTANCES)]
            callers[0].call()
            while len(server.instances()) < INSTANCES // 2:
                at_once(callers)
            eventually(
                lambda: not server.instances("starting") and not server.instances("busy"), what="all instances idle"
            )
            idle = server.instances("idle")
            charged = [each["memory_mb"] for each in idle]
            private = [machine.own_mib(each["pid"]) if each["pid"] else 0.0 for each in idle]
            held = [max(pair) for pair in zip(charged, private, strict=True)]
        p50 = statistics.median(held)
        report.add(
            Figure(f"memory.{kind}", f"idle instance, {TITLE[kind]}", "MiB", p50, quantile(held, 0.99), None, floor, "bare fork",
                   against(p50, floor), f"≤ {limit} MiB" if limit else "", p50 <= limit if limit else None,
                   f"{len(held)} instances; by its cgroup {statistics.median(charged):.2f} MiB, private pages {statistics.median(private):.2f} MiB")
        )  # fmt: skip
    report.write()


if __name__ == "__main__":
    main()
