"""What people use today, side by side with Sundog: one model, one row, one load generator, one run.

Each is started, answers its first request, rests, is loaded by one caller and by 16, and is ended. What cannot be installed or
does not answer in time is reported as such.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bench_start
import bench_warm
import deployed
import floors
import installed
import machine
import psutil
from figures import QUICK, Figure, Report, absent, quantile
from load import Caller, Request, wrk

HERE = Path(__file__).resolve().parent / "peers"
START_LIMIT = 180.0  # seconds to the first answer
SECONDS = 3.0 if QUICK else 10.0


@dataclass
class Peer:
    """How one is installed and started."""

    id: str
    title: str
    packages: tuple[str, ...]
    command: Callable[[str, int], list[str]]  # of its interpreter and the port


def _module(name: str, *words: str) -> Callable[[str, int], list[str]]:
    return lambda python, port: [python, "-m", name, *(word.format(port=port) for word in words)]


def _program(file: str, *words: str) -> Callable[[str, int], list[str]]:
    return lambda python, port: [python, str(HERE / file), str(port), *words]


UVICORN = _module(
    "uvicorn", "fastapi_app:app", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1", "--log-level", "warning",
    "--no-access-log",
)  # fmt: skip
BENTO = _module("bentoml", "serve", "bentoml_app:Risk", "--host", "127.0.0.1", "--port", "{port}")
RAY = ("ray[serve]==2.60.0",)
PEERS = (
    Peer("fastapi", "FastAPI + uvicorn, 1 worker", ("fastapi==0.165.0", "uvicorn[standard]==0.54.0"), UVICORN),
    Peer("litserve", "LitServe, 1 worker", ("litserve==0.2.19",), _program("litserve_app.py")),
    Peer("bentoml", "BentoML, 1 worker", ("bentoml==1.4.40",), BENTO),
    Peer("ray", "Ray Serve, 1 replica", RAY, _program("ray_app.py", "1")),
    Peer("ray0", "Ray Serve, from zero replicas", RAY, _program("ray_app.py", "0")),
)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for whatever of its tree is left after it."""
    try:
        started = machine.tree(process.pid)
    except psutil.NoSuchProcess:
        started = []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _gone, left = psutil.wait_procs(started, timeout=5)
    for each in left:
        each.kill()  # psutil checks that it is the same process still


@contextmanager
def running(peer: Peer, python: Path, port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The peer's processes, ended with the block."""
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
        **floors.ONE_THREAD,
        "PYTHONPATH": f"{floors.folder_of('sklearn')}:{HERE}",
        "PATH": f"{python.parent}:{os.environ.get('PATH', '')}",
        "HOME": str(folder),
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
    }
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            peer.command(str(python), port), cwd=folder, env=environment, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            end(process)


def first_answer(request: Request, process: subprocess.Popen[bytes], limit: float) -> None:
    """Asks until the model has answered."""
    deadline = time.monotonic() + limit
    address = request.address()
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with status {process.returncode}")
        try:
            if floors.reachable(address[1]):
                caller = Caller(request)
                caller.socket.settimeout(limit)
                body = caller.call()
                caller.close()
                if b"p" in body:
                    return
        except (OSError, RuntimeError):
            pass
        time.sleep(0.005)
    raise RuntimeError(f"no answer within {limit:.0f} s")


def measure(report: Report, peer: Peer) -> None:
    """Start, rest, one caller, 16 callers."""
    python = installed.venv(peer.id.rstrip("0"), (*installed.COMMON, *peer.packages))
    port = floors.free_port()
    request = Request(
        f"http://127.0.0.1:{port}/predict", "POST", deployed.BODY["sklearn"], {"Content-Type": "application/json"}
    )
    with (
        tempfile.TemporaryDirectory(prefix="sb-") as folder,
        running_or_output(peer, python, port, Path(folder)) as process,
    ):
        if peer.id == "ray0":
            from_zero_replicas(report, peer, request, process)
            return
        began = time.monotonic()
        first_answer(request, process, START_LIMIT)
        took, cpu = time.monotonic() - began, machine.cpu_seconds(process.pid)
        time.sleep(2)  # what starts beside the first answer settles
        rows(report, peer.id, peer.title, took * 1000, cpu * 1e6, machine.memory_mib(process.pid), request, process.pid)


@contextmanager
def running_or_output(peer: Peer, python: Path, port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """As running(); a failure carries the peer's last words."""
    try:
        with running(peer, python, port, folder) as process:
            yield process
    except RuntimeError as failure:
        words = (folder / "output").read_text(errors="replace").strip().splitlines()[-3:]
        raise RuntimeError(f"{failure}; it said: {' / '.join(words)[-300:]}") from failure


def from_zero_replicas(report: Report, peer: Peer, request: Request, process: subprocess.Popen[bytes]) -> None:
    """Everything runs but a replica: the request starts it."""
    deadline = time.monotonic() + START_LIMIT
    while "ray_app.py" not in "".join(process.args) or not floors.reachable(request.address()[1]):
        if time.monotonic() > deadline or process.poll() is not None:
            raise RuntimeError("its proxy did not come up")
        time.sleep(0.1)
    time.sleep(15)  # serve.run() deploys after the proxy listens
    memory, before = machine.memory_mib(process.pid), machine.cpu_seconds(process.pid)
    began = time.monotonic()
    first_answer(request, process, START_LIMIT)
    took, cpu = time.monotonic() - began, machine.cpu_seconds(process.pid) - before
    report.add(Figure(f"peers.{peer.id}.start", f"{peer.title}: request to answer", "ms", took * 1000, None, cpu * 1e6))
    report.add(Figure(f"peers.{peer.id}.memory", f"{peer.title}: memory at zero", "MiB", memory))


def rows(
    report: Report,
    identifier: str,
    title: str,
    start_ms: float | None,
    start_cpu_us: float | None,
    memory: float,
    request: Request,
    pid: int,
) -> None:
    """The five figures that all have."""
    if start_ms is not None:
        report.add(
            Figure(f"peers.{identifier}.start", f"{title}: start to first answer", "ms", start_ms, None, start_cpu_us)
        )
    report.add(Figure(f"peers.{identifier}.memory", f"{title}: idle memory", "MiB", memory))
    wrk(request, callers=1, seconds=1)
    one = wrk(request, callers=1, seconds=SECONDS)
    report.add(Figure(f"peers.{identifier}.one", f"{title}: one caller", "ms", one.p50_ms, one.p99_ms))
    before = machine.cpu_seconds(pid)
    many = wrk(request, callers=bench_warm.MANY, seconds=SECONDS)
    cpu = (machine.cpu_seconds(pid) - before) / many.requests * 1e6
    note = f"{many.refused} refused, {many.broken} broken" if many.refused or many.broken else ""
    report.add(
        Figure(f"peers.{identifier}.many", f"{title}: 16 callers", "1/s", many.per_second, None, cpu,
               note=f"p50 {many.p50_ms:.2f}, p99 {many.p99_ms:.2f} ms" + (f"; {note}" if note else ""))
    )  # fmt: skip


def ourselves(report: Report) -> None:
    """Sundog: a start is from zero instances of a deployed function."""
    with deployed.from_zero() as server:
        name = server.deploy("sklearn", "sklearn")
        count = 20 if QUICK else 100
        caller = server.caller(name, deployed.BODY["sklearn"])
        caller.call()
        before = machine.settled_cpu_seconds(server.server.pid)
        taken = bench_start.one_by_one(server, caller, count)
        cpu = (machine.settled_cpu_seconds(server.server.pid) - before) / (count + 1) * 1e6
        at_zero = machine.memory_mib(server.server.pid)
    with deployed.sundog("--idle-instance", "600", "--idle-template", "600") as server:
        name = server.deploy("sklearn", "sklearn", 1024)
        request = server.request(name, deployed.BODY["sklearn"])
        Caller(request).call()
        rows(
            report,
            "sundog",
            "Sundog",
            statistics.median(taken),
            cpu,
            machine.memory_mib(server.server.pid),
            request,
            server.server.pid,
        )
    report.add(Figure("peers.sundog.zero", "Sundog: memory at zero instances, its template parked", "MiB", at_zero))
    report.add(
        Figure(
            "peers.sundog.p99", "Sundog: start from zero, p99", "ms", statistics.median(taken), quantile(taken, 0.99)
        )
    )


def limit(report: Report) -> None:
    """nginx's constant reply, asked the same."""
    port = floors.free_port()
    with floors.constant_reply(port) as (request, pid):
        request = Request(request.url, "POST", deployed.BODY["sklearn"], {"Content-Type": "application/json"})
        rows(report, "nginx", "nginx, constant reply", None, None, machine.memory_mib(pid), request, pid)


def main() -> None:
    """Prints one table."""
    report = Report("peers")
    ourselves(report)
    try:
        limit(report)
    except installed.NotInstalled as failure:
        report.add(absent("peers.nginx.start", "nginx", "ms", f"not installed: {failure}"))
    for peer in PEERS:
        try:
            measure(report, peer)
        except (installed.NotInstalled, RuntimeError, subprocess.TimeoutExpired, OSError) as failure:
            report.add(absent(f"peers.{peer.id}.start", peer.title, "ms", f"not measured: {failure}"))
    report.write()


if __name__ == "__main__":
    sys.exit(main())
