"""Load: wrk for rates and latencies under load, and plain sockets for single requests and for several at the same moment."""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Request:
    """One HTTP request that is sent again and again."""

    url: str
    method: str = "GET"
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def raw(self) -> bytes:
        """As it goes over the socket."""
        parts = urlsplit(self.url)
        lines = [f"{self.method} {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.body or self.method != "GET":
            lines.append(f"Content-Length: {len(self.body.encode())}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + self.body.encode()

    def address(self) -> tuple[str, int]:
        """Where it goes."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80


@dataclass
class Load:
    """What wrk saw."""

    per_second: float
    p50_ms: float
    p99_ms: float
    requests: int
    refused: int  # answers that are no 2xx or 3xx
    broken: int


def wrk(request: Request, *, callers: int, seconds: float, threads: int = 1) -> Load:
    """Runs wrk with so many connections, each with one request under way at a time."""
    environment = {
        **os.environ,
        "BENCH_METHOD": request.method,
        "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in request.headers.items()),
    }
    if request.body:
        environment["BENCH_BODY"] = request.body
    command = ["wrk", f"-t{threads}", f"-c{callers}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
    command += ["-s", str(Path(__file__).with_name("post.lua")), request.url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds + 60, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise RuntimeError(f"wrk gave no result (status {done.returncode}): {done.stdout}{done.stderr}")
    seen = json.loads(line.removeprefix("RESULT "))
    return Load(
        seen["requests"] / seen["seconds"],
        seen["p50_us"] / 1000,
        seen["p99_us"] / 1000,
        seen["requests"],
        seen["refused"],
        seen["broken"],
    )


class Caller:
    """One open connection; call() takes some ten microseconds beyond the server's own time."""

    def __init__(self, request: Request) -> None:
        self.raw = request.raw()
        self.address = request.address()
        self.socket = socket.create_connection(self.address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        """Sends without waiting for the answer."""
        self.socket.sendall(self.raw)

    def receive(self) -> tuple[int, bytes]:
        """Status and body of the answer."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
        length = int(fields.get(b"content-length", b"0"))
        while len(body) < length:
            body += self._more()
        return int(lines[0].split()[1]), body

    def _more(self) -> bytes:
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("The server closed the connection.")
        return piece

    def call(self) -> bytes:
        """The body of a good answer.

        Raises:
            RuntimeError: The answer was no 2xx.
        """
        self.send()
        status, body = self.receive()
        if status // 100 != 2:
            raise RuntimeError(f"status {status}: {body[:300]!r}")
        return body

    def timed(self) -> tuple[float, bytes]:
        """Milliseconds of one call, and its body."""
        began = time.perf_counter()
        body = self.call()
        return (time.perf_counter() - began) * 1000, body

    def close(self) -> None:
        """Ends the connection."""
        self.socket.close()


def at_once(callers: list[Caller]) -> list[float]:
    """One call of each at the same moment; milliseconds until each was answered."""
    began = time.perf_counter()
    taken: list[float] = []
    with selectors.DefaultSelector() as selector:
        for caller in callers:
            caller.send()
            selector.register(caller.socket, selectors.EVENT_READ, caller)
        while len(taken) < len(callers):
            for key, _events in selector.select(30):
                status, body = key.data.receive()
                taken.append((time.perf_counter() - began) * 1000)
                selector.unregister(key.fileobj)
                if status // 100 != 2:
                    raise RuntimeError(f"status {status}: {body[:300]!r}")
    return taken


def keep_busy(callers: list[Caller], seconds: float) -> list[bytes]:
    """Each caller calls again as soon as it is answered; the bodies of all answers."""
    bodies: list[bytes] = []
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for caller in callers:
            caller.send()
            selector.register(caller.socket, selectors.EVENT_READ, caller)
        while selector.get_map():
            for key, _events in selector.select(30):
                status, body = key.data.receive()
                if status // 100 != 2:
                    raise RuntimeError(f"status {status}: {body[:300]!r}")
                bodies.append(body)
                if time.monotonic() < end:
                    key.data.send()
                else:
                    selector.unregister(key.fileobj)
    return bodies
