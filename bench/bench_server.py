"""What an idle server costs and how fast it is ready: resident memory, CPU share, milliseconds to the first healthy answer."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import floors
import machine
from figures import QUICK, Figure, Report, quantile
from load import Caller, Request

from harness import Server, server_command

STARTS = 5 if QUICK else 15
IDLE_SECONDS = 5 if QUICK else 20


def milliseconds_until_ready(folder: Path) -> float:
    """From exec to the first 200 of /healthz, asked on a port that is fixed ahead."""
    port = floors.free_port()
    command = server_command(folder)
    command[command.index("--port") + 1] = str(port)
    began = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not floors.reachable(port):
        time.sleep(0.001)
    caller = Caller(Request(f"http://127.0.0.1:{port}/healthz"))
    caller.call()
    took = (time.perf_counter() - began) * 1000
    caller.close()
    process.terminate()
    process.wait()
    return took


def main() -> None:
    """Prints one table."""
    report = Report("server")
    with tempfile.TemporaryDirectory() as scratch:
        ready = [milliseconds_until_ready(Path(scratch) / f"data{n}") for n in range(STARTS)]
        server = Server(Path(scratch) / "idle").start()
        machine.settled_cpu_seconds(server.pid)
        processes = machine.tree(server.pid)
        before = machine.cpu_seconds(server.pid)
        time.sleep(IDLE_SECONDS)
        share = (machine.cpu_seconds(server.pid) - before) / IDLE_SECONDS * 100
        resident = {process.name(): process.memory_info().rss / 2**20 for process in processes}
        server.stop()
    p50 = statistics.median(ready)
    report.add(
        Figure("server.ready", "ready after", "ms", p50, quantile(ready, 0.99), target="≤ 300 ms", met=p50 <= 300)
    )
    for name, megabytes in resident.items():
        report.add(Figure(f"server.{name}", f"resident, {name}", "MiB", megabytes))
    report.add(Figure("server.idle", "idle CPU, whole tree", "%", share, target="≤ 0.1 %", met=share <= 0.1))
    report.write()


if __name__ == "__main__":
    main()
