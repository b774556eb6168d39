"""SIGTERM while work is under way: exit status 0 within the grace period, and the next server ends the work well."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest
from lambda_calls import create, invoke, job_over, run_over
from leftovers import Leftovers

from harness import Server, eventually

ROWS = 400_000
TRAINER = """
import json, os, time
from sundog.runtime import host
def handler(payload, context):
    begun, files = host.call("run.start", {})
    if not begun["stop"] and begun["attempt"] == 1:
        host.call("run.metrics", {"step": 1, "values": {"auc": 0.1}})
        time.sleep(60)
    return json.dumps({"metrics": {"attempt": begun["attempt"]}, "artefact": None, "signature": None,
                       "stopped": begun["stop"]}).encode()
handler.__sundog_raw__ = True
"""


def test_a_running_ingest_is_taken_up_by_the_next_server(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server().start()
    table = "a,b,label\n" + "".join(f"{n},{n * 7 % 13},{n % 2}\n" for n in range(ROWS))
    with server.http() as http:
        blob = http.put("/v1/blobs", content=table.encode()).json()["id"]
        body = {"name": "big", "blob": blob, "filename": "big.csv", "label": "label"}
        job = http.post("/v1/datasets", json=body).json()["id"]
        eventually(lambda: http.get(f"/v1/jobs/{job}").json()["state"] == "running", what="a running job")
    leftovers = Leftovers(server)
    assert server.stop(within=30) == 0
    leftovers.assert_none()
    assert '"level":"error"' not in server.tail()
    server.start()
    with server.http() as http:
        ended = job_over(http, job)
        assert ended["state"] == "succeeded", ended
        assert http.get("/v1/datasets/big").json()["versions"] == [1]
        assert http.get("/v1/datasets/big/versions/1").json()["rows"] == ROWS


def test_a_running_training_run_is_taken_up_by_the_next_server(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server("--grace", "1").start()
    with server.http() as http:
        create(http, "trainer", package(app=TRAINER), timeout=120, kind="training")
        run = http.post("/v1/runs", json={"function": "trainer", "parameters": {}}).json()["id"]
        eventually(lambda: http.get(f"/v1/runs/{run}?metrics_after=0").json()["points"], what="the first point")
    leftovers = Leftovers(server)
    assert server.stop(within=10) == 0
    leftovers.assert_none()
    server.start()
    with server.http() as http:
        ended = run_over(http, run)
        assert ended["state"] == "succeeded", ended
        assert ended["attempt"] == 2
        assert ended["metrics"] == {"auc": 0.1, "attempt": 2}


def test_a_call_in_flight_is_answered_and_new_ones_are_refused(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server().start()
    answers = []
    with server.http() as http:
        create(
            http, "slow", package(app="import time\ndef handler(event, context):\n    time.sleep(1)\n    return event")
        )

        def call() -> None:
            with server.http() as other:
                answers.append(invoke(other, "slow", 7))

        caller = threading.Thread(target=call)
        caller.start()
        eventually(
            lambda: [one["state"] for one in http.get("/v1/fleet").json()["instances"]] == ["busy"], what="a busy one"
        )
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: http.get("/healthz").status_code == 503, what="a draining server")
        assert invoke(http, "slow", 8).status_code == 503
    caller.join(20)
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, 7)]
    assert server.wait_dead(within=10) == 0


@pytest.mark.parametrize("path", ["/v1/functions/talks/logs?follow=1", "/v1/jobs/{job}?wait=30"])
def test_a_waiting_client_does_not_hold_the_server(
    path: str, fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server().start()
    with server.http() as http:
        create(http, "talks", package(app="def handler(event, context):\n    print('hello')"))
        invoke(http, "talks", 1)
        table = "a,label\n" + "".join(f"{n},{n % 2}\n" for n in range(ROWS))
        blob = http.put("/v1/blobs", content=table.encode()).json()["id"]
        job = http.post("/v1/datasets", json={"name": "big", "blob": blob, "filename": "big.csv"}).json()["id"]
        with http.stream("GET", path.format(job=job)) as stream:
            lines = stream.iter_lines()
            if "follow" in path:
                assert any("hello" in line for line in lines)
            os.kill(server.pid, signal.SIGTERM)
            # Its answer ends as a whole one, instead of being cut off when the server has waited long enough.
            assert not any("hello" in line for line in lines)
            assert server.wait_dead(within=10) == 0
