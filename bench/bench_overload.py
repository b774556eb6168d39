"""Four times what a node can serve: throughput against the peak, the waits of what was taken, how fast the rest is refused, and a
second tenant beside a flood.

Handlers sleep 50 ms, so that instances are what is short, not the cores that the callers share. The floor of the second
tenant's wait is the same call on the same server before the flood.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import handlers
import httpx
from deployed import ROLE, Deployed, sundog
from figures import QUICK, Figure, Report, against, quantile
from load import Request

from harness import eventually

SLEEP = 0.05
SOURCE = f"import time\ndef handler(event, context):\n    time.sleep({SLEEP})\n    return 1\n"
MEMORY_MB = 1400  # room for some nine instances of 128 MB beside the templates
QUEUE_LIMIT = 2
SECONDS = 4.0 if QUICK else 20.0
CALLS = 30 if QUICK else 200  # of the second tenant


@dataclass
class Seen:
    """What open-loop callers saw."""

    taken_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    other: int = 0


class Connections:
    """Connections that are used again, as many as there are requests under way."""

    def __init__(self, request: Request) -> None:
        parts = urlsplit(request.url)
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.raw = request.raw()
        self.free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self) -> int:
        """The status of one call."""
        reader, writer = self.free.pop() if self.free else await asyncio.open_connection(*self.address)
        writer.write(self.raw)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        await reader.readexactly(int(fields.get(b"content-length", b"0")))
        self.free.append((reader, writer))
        return int(head.split(b" ", 2)[1])


async def open_loop(request: Request, per_second: float, seconds: float) -> Seen:
    """Calls at a steady rate, whatever comes back."""
    connections, seen = Connections(request), Seen()
    under_way: set[asyncio.Task[None]] = set()

    async def one() -> None:
        began = time.perf_counter()
        status = await connections.call()
        taken = (time.perf_counter() - began) * 1000
        if status == 200:
            seen.taken_ms.append(taken)
        elif status == 429:
            seen.refused_ms.append(taken)
        else:
            seen.other += 1

    began = time.perf_counter()
    for number in range(round(per_second * seconds)):
        await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
        task = asyncio.create_task(one())
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    return seen


async def closed_loop(request: Request, callers: int, seconds: float) -> float:
    """Good answers a second of callers that call again at once."""
    connections, good = Connections(request), 0
    end = time.perf_counter() + seconds

    async def one() -> None:
        nonlocal good
        while time.perf_counter() < end:
            status = await connections.call()
            good += status == 200

    await asyncio.gather(*(one() for _ in range(callers)))
    return good / seconds


def deploy(server: Deployed, tenant: str) -> Request:
    """The function in a tenant of its own, and a request for it."""
    key = server.http.post("/v1/keys", json={"role": "admin", "tenant": tenant}).json()
    headers = {"Authorization": f"Bearer {key['token']}", "Content-Type": "application/json"}
    with httpx.Client(base_url=server.server.url, headers=headers, timeout=60) as http:
        import base64

        code = base64.b64encode(handlers.package(SOURCE)).decode()
        body = {"FunctionName": "f", "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "MemorySize": 128}
        made = http.post("/2015-03-31/functions", json={**body, "Timeout": 10, "Code": {"ZipFile": code}})
        made.raise_for_status()
        eventually(
            lambda: http.post("/2015-03-31/functions/f/invocations", json=1).status_code == 200, what="an answer"
        )
    return Request(f"{server.server.url}/2015-03-31/functions/f/invocations", "POST", "1", headers)


async def one_by_one(request: Request, count: int) -> list[float]:
    """Milliseconds of calls one after the other; a refusal counts as the whole queue limit."""
    connections = Connections(request)
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        status = await connections.call()
        taken.append((time.perf_counter() - began) * 1000 if status == 200 else QUEUE_LIMIT * 1000)
        await asyncio.sleep(0.02)
    return taken


async def beside(flood: Request, rate: float, other: Request) -> tuple[list[float], Seen]:
    """The second tenant's calls while the first floods."""
    flooding = asyncio.create_task(open_loop(flood, rate, SECONDS))
    await asyncio.sleep(1)
    taken = await one_by_one(other, CALLS)
    return taken, await flooding


def add(report: Report, identifier: str, what: str, taken: Sequence[float], **more: object) -> None:
    """A row of milliseconds."""
    report.add(Figure(identifier, what, "ms", quantile(taken, 0.5), quantile(taken, 0.99), **more))  # type: ignore[arg-type]


def main() -> None:
    """Peak, overload, and a tenant beside a flood."""
    report = Report("overload")
    with sundog("--memory-mb", str(MEMORY_MB), "--queue-limit", str(QUEUE_LIMIT)) as server:
        rich, poor = deploy(server, "rich"), deploy(server, "poor")
        peak = max(asyncio.run(closed_loop(rich, callers, SECONDS)) for callers in (8, 12, 24))
        seen = asyncio.run(open_loop(rich, 4 * peak, SECONDS))
        last = max(SECONDS, SECONDS + QUEUE_LIMIT * 0.75)
        good = len(seen.taken_ms) / last
        report.add(
            Figure("overload.throughput", "answers a second at four times the peak", "1/s", good, None, None, peak, "peak, closed loop",
                   against(good, peak, more_is_better=True), "within 10 % of the peak", good >= 0.9 * peak,
                   f"{len(seen.refused_ms)} refused, {seen.other} other answers")
        )  # fmt: skip
        add(report, "overload.taken", "what was taken, to its answer", seen.taken_ms, target=f"p99 ≤ {QUEUE_LIMIT} s and the handler's time",
            met=quantile(seen.taken_ms, 0.99) <= (QUEUE_LIMIT + SLEEP) * 1000)  # fmt: skip
        add(report, "overload.refused", "what was not, to its 429", seen.refused_ms or [0.0], target="at once")
        alone = asyncio.run(one_by_one(poor, CALLS))
        under, flood = asyncio.run(beside(rich, 4 * peak, poor))
        floor, loaded = quantile(alone, 0.99), quantile(under, 0.99)
        add(report, "overload.tenant", "another tenant's call beside a flood", under, floor=floor, floor_what="alone, p99",
            ratio=loaded / floor, target="p99 ≤ 2 × alone", met=loaded <= 2 * floor,
            note=f"the flood: {len(flood.taken_ms)} served, {len(flood.refused_ms)} refused")  # fmt: skip
    report.write()
    print(json.dumps({"peak": peak, "slots_s": SLEEP}))


if __name__ == "__main__":
    main()
