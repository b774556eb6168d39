"""Warm calls over HTTP: CPU and latency beyond the handler's own, requests a second, and a scikit-learn handler beside its bare loop.

The load generator (wrk, one thread) shares the cores with what it measures. Floor: nginx's constant reply to the same requests.
"""

from __future__ import annotations

import os

import floors
import installed
import machine
from deployed import BODY, Deployed, sundog
from figures import QUICK, Figure, Report, absent, against
from load import Load, Request, wrk

SECONDS = 3.0 if QUICK else 10.0
CPU_TARGET, ADDED_TARGET, RATE_TARGET = 60, 120, 12_000  # µs, µs, requests a second
MANY = 16
CONSTANT = Load(float("nan"), float("nan"), float("nan"), 0, 0, 0)


def measured(request: Request, pid: int, callers: int) -> tuple[Load, float]:
    """What wrk saw, and the CPU microseconds of one request in the whole tree below `pid`."""
    wrk(request, callers=callers, seconds=1)
    before = machine.cpu_seconds(pid)
    load = wrk(request, callers=callers, seconds=SECONDS)
    cpu = machine.cpu_seconds(pid) - before
    if load.refused or load.broken:
        raise RuntimeError(f"{load.refused} requests were refused and {load.broken} broken of {load.requests}.")
    return load, cpu / load.requests * 1e6


def constant() -> tuple[Load, float, Load, float]:
    """nginx: one caller, then many, each with its CPU."""
    with floors.constant_reply(floors.free_port()) as (request, pid):
        return (*measured(request, pid, 1), *measured(request, pid, MANY))


def bare(report: Report, server: Deployed, limit: tuple[Load, float, Load, float] | None) -> None:
    """A handler that does next to nothing."""
    one_limit, one_limit_cpu, many_limit, many_limit_cpu = limit or (CONSTANT, 0.0, CONSTANT, 0.0)
    name = server.deploy("bare", "bare", 512)
    request = server.request(name, BODY["bare"])
    own = floors.fork("bare", 2)["handler_us"]
    one, one_cpu = measured(request, server.server.pid, 1)
    many, many_cpu = measured(request, server.server.pid, MANY)
    beyond = one_cpu - own
    report.add(
        Figure("warm.cpu", "warm call, CPU beyond the handler's own, 1 caller", "µs", beyond, None, one_cpu, one_limit_cpu or None,
               "nginx", against(beyond, one_limit_cpu) if limit else None, f"≤ {CPU_TARGET} µs", beyond <= CPU_TARGET,
               f"server and runtime {one_cpu:.1f} µs, the handler itself {own:.2f} µs")
    )  # fmt: skip
    beyond = many_cpu - own
    report.add(
        Figure("warm.cpu16", "warm call, CPU beyond the handler's own, 16 callers", "µs", beyond, None, many_cpu,
               many_limit_cpu or None, "nginx", against(beyond, many_limit_cpu) if limit else None, f"≤ {CPU_TARGET} µs",
               beyond <= CPU_TARGET)
    )  # fmt: skip
    if limit:
        added = (one.p50_ms - one_limit.p50_ms) * 1000
        report.add(
            Figure("warm.added", "warm call, latency beyond a constant reply", "µs", added,
                   (one.p99_ms - one_limit.p99_ms) * 1000, one_cpu, one_limit.p50_ms * 1000, "nginx",
                   against(one.p50_ms, one_limit.p50_ms), f"p50 ≤ {ADDED_TARGET} µs", added <= ADDED_TARGET,
                   "the ratio compares the whole call with nginx's")
        )  # fmt: skip
    else:
        report.add(
            absent("warm.added", "warm call, latency beyond a constant reply", "µs", "absent: no nginx to compare with")
        )
    report.add(
        Figure("warm.call", "warm call over HTTP, 1 caller", "ms", one.p50_ms, one.p99_ms, one_cpu, one_limit.p50_ms if limit else None,
               "nginx", against(one.p50_ms, one_limit.p50_ms) if limit else None)
    )  # fmt: skip
    report.add(
        Figure("warm.rate", f"requests a second, bare handler, {MANY} callers", "1/s", many.per_second, None, many_cpu,
               many_limit.per_second if limit else None, "nginx",
               against(many.per_second, many_limit.per_second, more_is_better=True) if limit else None,
               f"≥ {RATE_TARGET:,}", many.per_second >= RATE_TARGET, f"p50 {many.p50_ms:.2f}, p99 {many.p99_ms:.2f} ms")
    )  # fmt: skip


def learned(report: Report, server: Deployed, kind: str, title: str) -> None:
    """A handler that predicts, beside the same code in a bare loop on the same cores."""
    loop = floors.bare_loop_per_second(kind, SECONDS)
    name = server.deploy(kind, kind)
    load, cpu = measured(server.request(name, BODY[kind]), server.server.pid, 2 * len(os.sched_getaffinity(0)))
    ratio = against(load.per_second, loop, more_is_better=True)
    wanted = kind == "sklearn"
    report.add(
        Figure(f"loop.{kind}", f"requests a second, {title} handler", "1/s", load.per_second, None, cpu, loop, "bare loop", ratio,
               "within 10 % of a bare loop" if wanted else "", ratio <= 1.1 if wanted else None,
               f"p50 {load.p50_ms:.2f}, p99 {load.p99_ms:.2f} ms")
    )  # fmt: skip


def main() -> None:
    """Prints one table."""
    report = Report("warm")
    try:
        limit = constant()
    except installed.NotInstalled as failure:
        print(f"nginx cannot be had: {failure}")
        limit = None
    with sundog() as server:
        bare(report, server, limit)
        learned(report, server, "sklearn", "scikit-learn")
        learned(report, server, "onnx", "onnxruntime")
    report.write()


if __name__ == "__main__":
    main()
