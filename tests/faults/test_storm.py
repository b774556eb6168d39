"""kill -9 of whatever runs, at random moments under a mixed load; the random numbers are seeded, and a failure names its seed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from deaths import (
    Promises,
    descendants,
    launcher_of,
    resident_mb,
    unexpected_errors,
)
from lambda_calls import FUNCTIONS, create
from leftovers import Leftovers, parent_of, read
from ways import CSV, TRAINER, booked, check_ledger, deploy_adder, drive_upload

from harness import Server, eventually

SOURCE = """
import time
def handler(event, context):
    print("asked", event)
    time.sleep(event.get("s", 0))
    return event["n"]
"""
TIMEOUT, QUEUE = 5, 10
LIMIT = QUEUE + TIMEOUT + 10
GROWTH_MB = 16  # in the second half of the deaths: the threads' heaps and the stores' page caches fill by the load, not by deaths


class Load:
    """Threads that ask a server without a pause: calls, events, uploads that become datasets, training runs.

    With a deployed model also offline predictions.
    """

    def __init__(self, storm: Storm, with_model: bool) -> None:
        self.storm = storm
        self.going = True
        self.failures: list[BaseException] = []
        works = [self.call, self.call, self.event, self.ingest, self.train]
        if with_model:
            works.append(self.predict)
        self.threads = [threading.Thread(target=self.run, args=(work, seed)) for seed, work in enumerate(works)]

    def run(self, work: Callable[[httpx.Client, random.Random], None], seed: int) -> None:
        """Asks until it is told to end; a server that is away is waited for."""
        chance = random.Random(seed)
        try:
            while self.going:
                self.storm.there.wait(30)
                with self.storm.server.http() as http:
                    work(http, chance)
        except BaseException as failure:
            self.failures.append(failure)

    def ask(self, what: str, http: httpx.Client, method: str, path: str, **options: object) -> httpx.Response | None:
        """One question, in time."""
        promises = self.storm.promises
        return promises.ask(what, LIMIT, lambda: http.request(method, path, timeout=LIMIT, **options))  # type: ignore[arg-type]

    def call(self, http: httpx.Client, chance: random.Random) -> None:
        """A call of some milliseconds."""
        n = chance.randrange(1 << 30)
        body = {"n": n, "s": chance.choice([0, 0, 0, 0.05, 0.2])}
        answer = self.ask("call", http, "POST", f"{FUNCTIONS}/waits/invocations", json=body)
        if answer is not None and answer.status_code == 200 and "X-Amz-Function-Error" not in answer.headers:
            assert answer.json() == n, "an answer is the caller's own"

    def event(self, http: httpx.Client, chance: random.Random) -> None:
        """An event; Promises keeps those that were accepted."""
        headers = {"X-Amz-Invocation-Type": "Event"}
        path = f"{FUNCTIONS}/waits/invocations"
        self.ask("event", http, "POST", path, json={"n": 1, "s": 0.02}, headers=headers)
        time.sleep(0.05)  # a pace, not a wait: without it the queue would only grow

    def predict(self, http: httpx.Client, chance: random.Random) -> None:
        """A dataset scored offline."""
        body = {"dataset": "table@1", "as": "scored"}
        job = self.ask("predict", http, "POST", "/v1/models/adder/predictions", json=body)
        if job is not None and job.status_code == 202:
            self.until_over(http, f"/v1/jobs/{job.json()['id']}?wait=2")

    def ingest(self, http: httpx.Client, chance: random.Random) -> None:
        """A dataset, made by an instance of sundog-data."""
        blob = self.ask("upload", http, "PUT", "/v1/blobs", content=CSV.encode())
        if blob is None or blob.status_code >= 400:
            return
        body = {"name": "table", "blob": blob.json()["id"], "filename": "table.csv", "label": "label"}
        job = self.ask("ingest", http, "POST", "/v1/datasets", json=body)
        if job is not None and job.status_code == 202:
            self.until_over(http, f"/v1/jobs/{job.json()['id']}?wait=2")

    def train(self, http: httpx.Client, chance: random.Random) -> None:
        """A training run."""
        run = self.ask("train", http, "POST", "/v1/runs", json={"function": "trainer", "parameters": {}})
        if run is not None and run.status_code == 202:
            self.until_over(http, f"/v1/runs/{run.json()['id']}?wait=2")

    def until_over(self, http: httpx.Client, path: str) -> None:
        """Polls until it is over, or the server has gone."""
        while self.going:
            answer = self.ask("poll", http, "GET", path)
            if answer is None or answer.json().get("state") not in ("queued", "running"):
                return

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.going = False
        for thread in self.threads:
            thread.join(3 * LIMIT)
        if self.failures:
            raise self.failures[0]


class Storm:
    """A server under load, and who kills what is below it, or itself."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.chance = random.Random(seed)
        self.promises = Promises()
        self.deaths: Counter[str] = Counter()
        self.there = threading.Event()
        self.there.set()

    def roles(self) -> dict[str, list[int]]:
        """Who runs below the server, by what it is."""
        launcher = launcher_of(self.server)
        found: dict[str, list[int]] = {"launcher": [launcher], "server": [self.server.pid]}
        for pid in descendants(self.server.pid):
            name = read_name(pid)
            parent = parent_of(pid)
            if pid == launcher or not name:
                continue
            if parent == launcher:
                role = "first process of a tree"
            elif name.startswith("sundog-data"):
                role = "data instance"
            elif read_name(parent).startswith("python"):
                role = "instance"
            else:
                role = "template" if name.startswith("python") else "other"
            found.setdefault(role, []).append(pid)
        return found

    def kill_one(self, among: set[str]) -> None:
        """Waits a random time, then kills a random one of a random role."""
        time.sleep(self.chance.random() * 0.25)  # the moment is what is random here
        roles = eventually(
            lambda: {role: pids for role, pids in self.roles().items() if role in among}, within=60, what="a victim"
        )
        role = self.chance.choice(sorted(roles))
        if role == "server":
            self.there.clear()
            self.server.kill()
            self.server.start()
            self.there.set()
        else:
            kill(self.chance.choice(sorted(roles[role])))
        self.deaths[role] += 1

    def works(self, http: httpx.Client) -> None:
        """A call is answered rightly, once what dies with a victim is dead."""

        def answered() -> bool:
            answer = http.post(f"{FUNCTIONS}/waits/invocations", json={"n": 5})
            return answer.status_code == 200 and answer.text == "5"

        # One whose processes all die in a row is taken for one that crashes, and waits up to 30 s for its next start.
        eventually(answered, within=LIMIT + 30, what="a right answer")

    def events_ran(self) -> None:
        """Every accepted event was executed."""
        eventually(
            lambda: set(self.promises.events) <= {record["request_id"] for record in booked(self.server)},
            within=120,
            what="a record of every accepted event",
        )


def read_name(pid: int) -> str:
    """A process's name; empty when it is gone."""
    return read(Path(f"/proc/{pid}/comm")).strip()


def kill(pid: int) -> None:
    """kill -9 of one that may have ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def memory(server: Server) -> dict[str, float]:
    """MB of what runs all the time."""
    return {name: resident_mb(pid) for name, pid in (("server", server.pid), ("launcher", launcher_of(server)))}


BELOW = {"launcher", "first process of a tree", "template", "instance", "data instance", "other"}


def storm(
    server: Server, package: Callable[..., bytes], deaths: int, among: set[str], seed: int, with_model: bool = True
) -> Storm:
    """So many deaths under load; then what was promised is looked at, and the server ends with nothing left of it."""
    server.start()
    with server.http() as http:
        create(http, "waits", package(app=SOURCE), timeout=TIMEOUT)
        create(http, "trainer", package(app=TRAINER), timeout=TIMEOUT, kind="training")
        if with_model:
            deploy_adder(http)
            drive_upload(http, {}, b"")
        blowing = Storm(server, seed)
        blowing.works(http)
    print(f"seed {seed}", flush=True)
    before = {}
    with Load(blowing, with_model):
        for round_ in range(1, deaths + 1):
            blowing.kill_one(among)
            if round_ == deaths // 2:  # what is cached and pooled has its size by now
                before = memory(server)
            if round_ % 20 == 0:
                print(f"{round_}: {dict(blowing.deaths)}", flush=True)
    with server.http() as http:
        blowing.works(http)
        blowing.events_ran()
        jobs = http.get("/v1/jobs").json()["items"]
        eventually(
            lambda: all(http.get(f"/v1/jobs/{job['id']}").json()["state"] not in ("queued", "running") for job in jobs),
            within=60,
            what="the end of every job",
        )
    check_ledger(server)
    assert not unexpected_errors(server)
    after = memory(server)
    print(f"{blowing.promises.outcomes()}; MB before {before}, after {after}", flush=True)
    if "server" not in among:
        assert after["server"] < before["server"] + GROWTH_MB
    if not among & {"server", "launcher"}:
        assert after["launcher"] < before["launcher"] + GROWTH_MB
    leftovers = Leftovers(server)
    leftovers.assert_only_of(server)
    assert server.stop() == 0
    leftovers.assert_none()
    return blowing


def test_a_breeze(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    blown = storm(fresh_server("--queue-limit", str(QUEUE)), package, 12, {*BELOW, "server"}, 1, with_model=False)
    assert sum(blown.deaths.values()) == 12
    assert any(outcome.startswith("call: 200") for outcome in blown.promises.outcomes())


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_below_one_server(
    seed: int, fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    storm(fresh_server("--queue-limit", str(QUEUE)), package, 200, BELOW - {"launcher"}, seed)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [3, 4])
def test_a_storm_over_everything(seed: int, fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    storm(fresh_server("--queue-limit", str(QUEUE)), package, 100, {*BELOW, "server"}, seed)
