"""Warm calls and starts from zero, over HTTP, one caller: milliseconds at p50 and p99, beside a constant reply of the same server."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Server, eventually

WARM_CALLS = 2000
STARTS = 40
SOURCE = "def handler(event, context):\n    return event\n"


def package() -> bytes:
    """A code package with a handler that gives back its event."""
    import io
    import zipfile

    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("app.py", SOURCE)
    return memory.getvalue()


def milliseconds(call: Callable[[], object], times: int) -> list[float]:
    """Each call's duration."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)


def row(name: str, taken: list[float]) -> str:
    """min / p50 / p99 of one measurement."""
    p99 = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    return f"{name:44} {taken[0]:8.2f} {statistics.median(taken):8.2f} {p99:8.2f}"


def main() -> None:
    """Prints one table."""
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(Path(scratch) / "data", "--idle-instance", "0", "--idle-template", "600").start()
        client = server.boto3()
        role = "arn:aws:iam::000000000000:role/any"
        for name, memory in (("cold", 256), ("warm", 256)):
            client.create_function(
                FunctionName=name,
                Runtime="python3.11",
                Role=role,
                Handler="app.handler",
                MemorySize=memory,
                Timeout=10,
                Code={"ZipFile": package()},
            )
            client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        with server.http() as http:

            def invoke() -> None:
                answer = http.post("/2015-03-31/functions/cold/invocations", content=b'{"n": 1}')
                assert answer.status_code == 200, answer.text

            def none_left() -> bool:
                return not http.get("/v1/fleet").json()["instances"]

            invoke()
            starts = []
            for _ in range(STARTS):
                eventually(none_left, what="no instance left")
                starts += milliseconds(invoke, 1)
            health = milliseconds(lambda: http.get("/healthz"), WARM_CALLS)
        server.stop()
        server = Server(Path(scratch) / "data").start()
        with server.http() as http:

            def invoke_warm():
                return http.post("/2015-03-31/functions/warm/invocations", content=b'{"n": 1}')

            invoke_warm()
            warm = milliseconds(invoke_warm, WARM_CALLS)
        server.stop()
    print(f"{'milliseconds':44} {'min':>8} {'p50':>8} {'p99':>8}")
    print(row("constant reply (/healthz), httpx client", health))
    print(row("warm call, bare handler", warm))
    print(row("start from zero instances, bare handler", sorted(starts)))
    added = statistics.median(warm) - statistics.median(health)
    print(
        f"a warm call adds {added:.2f} ms to a constant reply ({statistics.median(warm) / statistics.median(health):.2f} times)"
    )


if __name__ == "__main__":
    main()
