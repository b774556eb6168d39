"""Event invocations: from the durable acceptance to the running handler on a warm function, and how many are accepted a second.

The handler notes the moment it begins; the caller notes when it sent the request and when it had the 202. Floor: one append and
fdatasync of a file, which an acceptance cannot do without.
"""

from __future__ import annotations

import json
import statistics
import time

import floors
import handlers
import machine
from deployed import ROLE, Deployed, eventually, sundog
from figures import QUICK, Figure, Report, against, quantile
from load import Caller, wrk

EVENTS = 200 if QUICK else 1000
SECONDS = 3.0 if QUICK else 10.0
CALLERS = 64
SOURCE = """
import time

began = {}
count = 0

def handler(event, context):
    global count
    if event.get("report"):
        taken = dict(began)
        began.clear()
        return {"began": taken, "count": count}
    count += 1
    if "n" in event:
        began[event["n"]] = time.time_ns()
"""


def deploy(server: Deployed) -> str:
    """The function whose handler notes when it begins."""
    client = server.server.boto3()
    client.create_function(
        FunctionName="events",
        Runtime="python3.11",
        Role=ROLE,
        Handler="app.handler",
        MemorySize=256,
        Timeout=10,
        Code={"ZipFile": handlers.package(SOURCE)},
    )
    client.get_waiter("function_active_v2").wait(FunctionName="events", WaiterConfig={"Delay": 1})
    # One instance, so that the handler's own count is whole.
    client.put_function_concurrency(FunctionName="events", ReservedConcurrentExecutions=1)
    return "events"


def one_by_one(report: Report, server: Deployed, name: str) -> None:
    """Each event is sent when the last one's handler has run."""
    asking = server.caller(name, '{"report":true}')
    asking.call()
    caller = Caller(server.request(name, "{}", event=True))
    sent, accepted, began = [], [], []
    for n in range(EVENTS):
        caller.raw = server.request(name, json.dumps({"n": n}), event=True).raw()
        sent.append(time.time_ns())
        caller.call()
        accepted.append(time.time_ns())
        seen: dict[str, int] = {}
        while str(n) not in seen:
            time.sleep(0.002)
            seen = json.loads(asking.call())["began"]
        began.append(seen[str(n)])
    write = floors.durable_write_ms()
    floor = statistics.median(write)
    after = [(b - a) / 1e6 for a, b in zip(accepted, began, strict=True)]
    whole = [(b - s) / 1e6 for s, b in zip(sent, began, strict=True)]
    p50 = statistics.median(after)
    report.add(
        Figure("events.after", "event: 202 at the caller to handler running", "ms", p50, quantile(after, 0.99), None, floor,
               "write + fdatasync", None, "p50 ≤ 1 ms", p50 <= 1, "below 0 when the handler ran before the caller had its answer")
    )  # fmt: skip
    p50 = statistics.median(whole)
    report.add(
        Figure("events.whole", "event: request sent to handler running", "ms", p50, quantile(whole, 0.99), None, floor,
               "write + fdatasync", against(p50, floor))
    )  # fmt: skip


def flood(report: Report, server: Deployed, name: str) -> None:
    """As many events as the server accepts; all of them run."""
    server.server.boto3().delete_function_concurrency(FunctionName=name)
    synchronous = wrk(server.request(name, "{}"), callers=CALLERS, seconds=2)
    pid = server.server.pid
    before, ran = machine.cpu_seconds(pid), invocations(server)
    load = wrk(server.request(name, "{}", event=True), callers=CALLERS, seconds=SECONDS)
    if load.refused or load.broken:
        raise RuntimeError(f"{load.refused} events were refused and {load.broken} broken of {load.requests}.")
    began = time.monotonic()
    eventually(lambda: invocations(server) - ran >= load.requests, within=300, what="all events run")
    drain = time.monotonic() - began
    cpu = (machine.cpu_seconds(pid) - before) / load.requests * 1e6
    report.add(
        Figure("events.rate", f"events accepted durably a second, {CALLERS} callers", "1/s", load.per_second, None, cpu,
               synchronous.per_second, "warm calls", against(load.per_second, synchronous.per_second, more_is_better=True),
               "≥ 5,000", load.per_second >= 5000,
               f"acceptance p50 {load.p50_ms:.1f}, p99 {load.p99_ms:.1f} ms; all {load.requests:,} booked {drain:.1f} s after the last; "
               "CPU holds the runs")
    )  # fmt: skip


def invocations(server: Deployed) -> int:
    """How many invocations the ledger holds."""
    return sum(line["invocations"] for line in server.http.get("/v1/bill").json()["lines"])


def main() -> None:
    """Prints one table."""
    report = Report("events")
    with sundog("--idle-instance", "600", "--idle-template", "600") as server:
        name = deploy(server)
        one_by_one(report, server, name)
        flood(report, server, name)
    report.write()


if __name__ == "__main__":
    main()
