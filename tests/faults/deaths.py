"""Kills a server's processes at chosen moments and looks at what follows."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import httpx
from leftovers import Leftovers, parent_of, pids, read
from streams import End

from harness import Server, eventually

T = TypeVar("T")
LOST = "connection lost"  # before anything of an answer came: only a server that dies does that
TRACER = Path(__file__).with_name("tracer.py")


def descendants(top: int) -> list[int]:
    """Of a process, itself not among them."""
    parents = {pid: parent_of(pid) for pid in pids()}

    def descends(pid: int) -> bool:
        while pid > 1 and pid != top:
            pid = parents.get(pid, 0)
        return pid == top

    return [pid for pid in parents if pid != top and descends(pid)]


def descriptors(pid: int) -> int:
    """How many a process has open; 0 when it is gone."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def resident_mb(pid: int) -> float:
    """A process's own memory: what it shares with files is not counted."""
    for line in read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Death:
    """A tracer at work: kills whoever comes to moment `nth` (0: nobody) of the system calls that `pids` and their children make."""

    def __init__(self, nth: int, victims: Iterable[int]) -> None:
        self.nth = nth
        words = [sys.executable, "-I", "-S", str(TRACER), str(nth), *map(str, victims)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert "attached" in self.process.stdout.readline()
        self.said: list[dict[str, Any]] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    @property
    def came(self) -> dict[str, Any] | None:
        """Who was killed, and where; None until it has come."""
        return self.said[0] if self.said and self.nth else None

    def end(self) -> None:
        """Lets go of whatever is still traced."""
        self.process.terminate()
        self.process.wait()
        self.reader.join()


class Promises:
    """What was asked of a server, and that every question had an outcome in time."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float, float, str]] = []  # what, seconds it took, its limit, outcome
        self.events: list[str] = []  # accepted, by request id
        self.lock = threading.Lock()

    def ask(self, what: str, limit: float, send: Callable[[], httpx.Response]) -> httpx.Response | None:
        """Sends and waits; None when the connection broke (the server was killed)."""

        def word(response: httpx.Response) -> str:
            if response.status_code == 202 and "x-amzn-RequestId" in response.headers:
                with self.lock:
                    self.events.append(response.headers["x-amzn-RequestId"])
            if response.status_code < 400:
                return str(response.status_code)
            return f"{response.status_code} {response.headers.get('x-amzn-ErrorType', '')} {response.text[:200]}"

        return self._keep(what, limit, send, word)

    def read(self, what: str, limit: float, send: Callable[[], End]) -> End | None:
        """The same for a streamed answer, until its end."""
        return self._keep(what, limit, send, lambda end: end.how)

    def _keep(self, what: str, limit: float, send: Callable[[], T], word: Callable[[T], str]) -> T | None:
        began = time.monotonic()
        answer: T | None = None
        outcome = LOST
        try:
            answer = send()
            outcome = word(answer)
        except httpx.TimeoutException as error:
            raise AssertionError(f"{what} was left in silence for {time.monotonic() - began:.1f} s") from error
        except httpx.TransportError:
            pass
        took = time.monotonic() - began
        with self.lock:
            self.asked.append((what, took, limit, outcome))
        assert took <= limit, f"{what} had its outcome ({outcome}) after {took:.1f} s; its limit was {limit} s"
        return answer

    def outcomes(self) -> dict[str, int]:
        """How many questions ended how."""
        counted: dict[str, int] = {}
        for what, _took, _limit, outcome in self.asked:
            counted[f"{what}: {outcome}"] = counted.get(f"{what}: {outcome}", 0) + 1
        return counted


# What a server may say, at level error, when its launcher, a template or an instance was killed.
AFTER_A_KILL = ("launcher_lost", "template_not_started", "instance_not_started", "environment_template_not_started")


def unexpected_errors(server: Server) -> list[str]:
    """Lines of the server's log at level error that a killed process below it does not explain."""
    lines = [line for line in server.log.read_text().splitlines() if '"level":"error"' in line]
    return [line for line in lines if not any(f'"{word}"' in line for word in AFTER_A_KILL)]


def launcher_of(server: Server) -> int:
    """The running launcher; waits for it, since the server may be about to start it again."""

    def found() -> int:
        mine = (pid for pid in pids() if parent_of(pid) == server.pid)
        return next((pid for pid in mine if read(Path(f"/proc/{pid}/comm")).startswith("sundog-launcher")), 0)

    return eventually(found, within=15, what="a launcher")


def first_process_of(server: Server, pid: int) -> int:
    """Of the tree that a process is in: the launcher's child."""
    launcher = launcher_of(server)
    while (parent := parent_of(pid)) != launcher:
        assert parent > 1, f"{pid} is in no tree of the server's"
        pid = parent
    return pid


def wait_for_consequences(leftovers: Leftovers, server: Server, victim: int) -> None:
    """Until a killed process, and whatever dies with it, is gone."""

    def over() -> bool:
        return not Path(f"/proc/{victim}").exists() and not leftovers.strangers(server)

    eventually(over, within=10, what=f"the end of {victim} and of {leftovers.strangers(server)}")
