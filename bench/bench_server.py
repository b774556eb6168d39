"""What an idle server costs and how fast it is ready: resident memory, CPU share, milliseconds to the first healthy answer."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Server, server_command

STARTS = 5
IDLE_SECONDS = 20


def seconds_until_ready(folder: Path) -> float:
    """From exec to the first 200 of /healthz, asked on a port that is fixed ahead."""
    import socket
    import subprocess

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = server_command(folder)
    command[command.index("--port") + 1] = str(port)
    began = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.002)
    took = time.perf_counter() - began
    process.terminate()
    process.wait()
    return took


def tree(pid: int) -> list[psutil.Process]:
    """The server and everything it started."""
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def main() -> None:
    """Prints one table."""
    with tempfile.TemporaryDirectory() as scratch:
        ready = [seconds_until_ready(Path(scratch) / f"data{n}") for n in range(STARTS)]
        server = Server(Path(scratch) / "idle").start()
        time.sleep(2)
        processes = tree(server.pid)
        before = sum(sum(p.cpu_times()[:2]) for p in processes)
        time.sleep(IDLE_SECONDS)
        after = sum(sum(p.cpu_times()[:2]) for p in processes)
        resident = {p.name(): p.memory_info().rss / 2**20 for p in processes}
        server.stop()
    print(f"ready after                 {statistics.median(ready) * 1000:8.0f} ms (median of {STARTS})")
    for name, megabytes in resident.items():
        print(f"resident, {name:17} {megabytes:8.1f} MB")
    print(f"idle CPU, whole tree        {(after - before) / IDLE_SECONDS * 100:8.2f} %")


if __name__ == "__main__":
    main()
