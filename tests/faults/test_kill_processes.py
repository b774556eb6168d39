"""kill -9 of the launcher, a template or an instance while an invocation runs: its caller is told, the next call works."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import httpx
import pytest
from deaths import launcher_of
from lambda_calls import create, invoke, run_over
from leftovers import Leftovers, parent_of

from harness import Server, eventually

SOURCE = """
import time
def handler(event, context):
    time.sleep(event)
    return event
"""


DEAF = """
import json, time
from sundog.runtime import host
def handler(payload, context):
    begun, _ = host.call("run.start", {})
    if not begun["stop"]:
        time.sleep(100)
    return json.dumps({"metrics": {}, "artefact": None, "signature": None, "stopped": begun["stop"]}).encode()
handler.__sundog_raw__ = True
"""


class Waiting:
    """A call of a function that waits, made in a thread of its own."""

    def __init__(self, server: Server, function: str, seconds: int) -> None:
        self.answer: httpx.Response | None = None

        def call() -> None:
            with server.http() as http:
                self.answer = invoke(http, function, seconds)

        self.thread = threading.Thread(target=call)
        self.thread.start()

    def ended(self) -> httpx.Response:
        """The answer, which must come long before the function's own time is over."""
        self.thread.join(8)
        assert not self.thread.is_alive(), "the caller was left waiting"
        assert self.answer is not None
        return self.answer


def busy(server: Server, http: httpx.Client, seconds: int) -> Waiting:
    """A call of the function `waits`, once an instance is at work on it."""
    waiting = Waiting(server, "waits", seconds)
    eventually(
        lambda: [one["state"] for one in http.get("/v1/fleet").json()["instances"]] == ["busy"],
        what="a busy instance",
    )
    return waiting


def launcher(server: Server, http: httpx.Client) -> int:
    """The launcher."""
    return launcher_of(server)


def instance(server: Server, http: httpx.Client) -> int:
    """The one instance."""
    (found,) = http.get("/v1/fleet").json()["instances"]
    pid: int = found["pid"]
    return pid


def template(server: Server, http: httpx.Client) -> int:
    """What the instance was forked from."""
    return parent_of(instance(server, http))


@pytest.mark.parametrize("victim", [launcher, instance])
def test_a_process_is_killed_during_an_invocation(
    victim: Callable[[Server, httpx.Client], int], fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server("--idle-instance", "1", "--idle-template", "1").start()
    leftovers = Leftovers(server)
    with server.http() as http:
        create(http, "waits", package(app=SOURCE), timeout=30)
        waiting = busy(server, http, 25)
        os.kill(victim(server, http), signal.SIGKILL)
        answer = waiting.ended()
        assert answer.status_code == 200, answer.text
        assert answer.headers["X-Amz-Function-Error"] == "Unhandled"
        assert answer.json()["errorType"] == "Runtime.ExitError"
        assert answer.headers["x-amzn-RequestId"] in answer.json()["errorMessage"]
        again = invoke(http, "waits", 0)
        assert again.status_code == 200, again.text
        assert again.json() == 0
    assert server.stop() == 0
    leftovers.assert_none()


def test_what_runs_outlives_its_template(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    server = fresh_server("--idle-instance", "1", "--idle-template", "1").start()
    leftovers = Leftovers(server)
    with server.http() as http:
        create(http, "waits", package(app=SOURCE), timeout=30)
        waiting = busy(server, http, 2)
        os.kill(template(server, http), signal.SIGKILL)
        eventually(lambda: not http.get("/v1/fleet").json()["templates"], what="a template that is known to be dead")
        again = invoke(http, "waits", 0)
        assert again.status_code == 200, again.text
        assert again.json() == 0
        answer = waiting.ended()
        assert "X-Amz-Function-Error" not in answer.headers, answer.text
        assert answer.json() == 2
    assert server.stop() == 0
    leftovers.assert_none()


@pytest.mark.soak  # for the ten seconds that such a run is given
def test_a_run_that_hears_nothing_is_stopped(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server("--idle-instance", "1", "--idle-template", "1").start()
    leftovers = Leftovers(server)
    with server.http() as http:
        create(http, "deaf", package(app=DEAF), timeout=120, kind="training")
        run = http.post("/v1/runs", json={"function": "deaf", "parameters": {}}).json()["id"]
        eventually(lambda: http.get(f"/v1/runs/{run}").json()["state"] == "running", what="a running run")
        assert http.post(f"/v1/runs/{run}/stop").status_code == 200
        assert run_over(http, run, within=60)["state"] == "stopped"
    assert server.stop() == 0
    leftovers.assert_none()
