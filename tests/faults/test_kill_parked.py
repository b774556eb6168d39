"""kill -9 around parked instances: while one rests, while it is being parked, while it is being thawed; and called again at once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deaths import first_process_of, launcher_of, unexpected_errors
from lambda_calls import create, invoke
from leftovers import Leftovers, parent_of, read
from test_kill_processes import Waiting

from harness import Server, eventually

SOURCE = """
import time
def handler(event, context):
    time.sleep(event)
    return event
"""
IDLE = 0.1  # seconds until one is parked


class Resting:
    """A server whose function's instance is parked soon after a call."""

    def __init__(self, server: Server, zipped: bytes) -> None:
        self.server = server.start()
        self.leftovers = Leftovers(server)
        self.http = server.http()
        create(self.http, "rests", zipped, timeout=20)

    def fleet(self) -> list[dict]:
        """The function's instances."""
        found: list[dict] = self.http.get("/v1/fleet").json()["instances"]
        return found

    def works(self) -> None:
        """The next call is answered, rightly and at the first try."""
        answer = invoke(self.http, "rests", 0)
        assert answer.status_code == 200, answer.text
        assert "X-Amz-Function-Error" not in answer.headers, answer.text
        assert answer.json() == 0

    def idle(self) -> int:
        """Calls; the one that answered, which nobody has parked yet as far as is known."""
        self.works()
        return next(one["pid"] for one in self.fleet())

    def parked(self) -> int:
        """Calls, and waits until the one that answered is parked."""
        self.works()
        eventually(lambda: {one["state"] for one in self.fleet()} == {"parked"}, what="a parked instance")
        return int(self.fleet()[-1]["pid"])

    def end(self) -> None:
        """In order; nothing is left."""
        self.http.close()
        assert not unexpected_errors(self.server)
        assert self.server.stop() == 0
        self.leftovers.assert_none()


@pytest.fixture
def resting(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> Iterator[Resting]:
    world = Resting(fresh_server("--idle-instance", str(IDLE)), package(app=SOURCE))
    yield world
    world.end()


def die(pid: int) -> None:
    """kill -9, and waits until it is dead."""
    os.kill(pid, signal.SIGKILL)
    wait_for_death(pid)


def wait_for_death(pid: int) -> None:
    """Until it is buried, or a zombie that its parent has not looked at."""
    eventually(lambda: state_of(pid) in ("", "Z"), what=f"the end of {pid}")


def state_of(pid: int) -> str:
    """R, S, T, Z…; empty when it is gone."""
    return read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].strip()[:1]


def test_one_that_rests(resting: Resting) -> None:
    """Called again before it is dead, or after it: a killed process takes its time."""
    for n in range(6):
        pid = resting.parked()
        os.kill(pid, signal.SIGKILL)
        if n % 2:
            wait_for_death(pid)
        resting.works()


def template(server: Server, pid: int) -> int:
    return parent_of(pid)


def launcher(server: Server, pid: int) -> int:
    return launcher_of(server)


@pytest.mark.parametrize("victim", [template, first_process_of, launcher])
def test_whoever_it_hangs_on(resting: Resting, victim: Callable[[Server, int], int]) -> None:
    pid = resting.parked()
    die(victim(resting.server, pid))
    if victim is launcher:
        # Its trees die after it, one by one: a call that is there before them is in flight, and may end with an error.
        wait_for_death(pid)
    resting.works()


def test_one_whose_end_nobody_has_told(resting: Resting) -> None:
    """Its parent, which would, is held up: the server must see for itself that nobody is there to be called."""
    pid = resting.parked()
    template = parent_of(pid)
    os.kill(template, signal.SIGSTOP)
    die(pid)
    calling = Waiting(resting.server, "rests", 0)
    eventually(
        lambda: not calling.thread.is_alive() or "starting" in [one["state"] for one in resting.fleet()],
        what="another instance, or an answer",
    )
    os.kill(template, signal.SIGCONT)
    answer = calling.ended()
    assert "X-Amz-Function-Error" not in answer.headers, answer.text
    assert answer.json() == 0


def test_one_that_is_being_thawed(resting: Resting) -> None:
    """It dies with the call in its hands, unread: another takes it."""
    pid = resting.parked()
    os.kill(pid, signal.SIGSTOP)
    calling = Waiting(resting.server, "rests", 0)
    eventually(lambda: [one["state"] for one in resting.fleet()] == ["busy"], what="a call that is handed over")
    os.kill(pid, signal.SIGKILL)
    answer = calling.ended()
    assert "X-Amz-Function-Error" not in answer.headers, answer.text
    assert answer.json() == 0
    resting.works()


def test_at_random_moments_around_both(resting: Resting) -> None:
    """Of a call's going and of an instance's coming to rest."""
    chance = random.Random(17)
    for _ in range(10):
        pid = resting.idle()
        time.sleep(IDLE * 2 * chance.random())  # the moment is what is random here
        calling = Waiting(resting.server, "rests", 0) if chance.random() < 0.5 else None
        time.sleep(0.004 * chance.random())
        os.kill(pid, signal.SIGKILL)
        if calling is not None:
            answer = calling.ended()
            assert answer.status_code == 200, answer.text
            assert answer.json() == 0 or answer.json()["errorType"] == "Runtime.ExitError"
        wait_for_death(pid)
        resting.works()
