"""kill -9 of whatever runs, at random moments under a mixed load; the random numbers are seeded, and a failure names its seed."""

from __future__ import annotations

import contextlib
import http.server
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
    LOST,
    Promises,
    descendants,
    launcher_of,
    resident_mb,
    unexpected_errors,
)
from lambda_calls import FUNCTIONS, create
from leftovers import Leftovers, parent_of, read
from streams import ROUTES, STREAMER
from streams import stream as read_stream
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
IDLE = 0.25  # seconds until an instance is parked
OPTIONS = ("--queue-limit", str(QUEUE), "--idle-instance", str(IDLE))
LIMIT = QUEUE + TIMEOUT + 10
GROWTH_MB = 16  # in the second half of the deaths: the page caches of the stores fill by the load, not by deaths


# Asks, through a tunnel of the way out that the network `egress` gives it, for a page that is long in coming.
FETCHER = """
import http.client
def handler(event, context):
    connection = http.client.HTTPConnection("127.0.0.1", 3128, timeout=20)
    connection.set_tunnel(event["address"])
    connection.request("GET", "/")
    page = connection.getresponse().read().decode()
    connection.close()
    return page
"""


class Page:
    """A page of the operator's that functions fetch; counts who waits for it."""

    def __init__(self) -> None:
        page = self
        self.asked: set[int] = set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                connection = self.connection.fileno()
                page.asked.add(connection)
                with contextlib.suppress(OSError):
                    if not self.left_within(0.1):
                        self.send_response(200)
                        self.send_header("Content-Length", "4")
                        self.end_headers()
                        self.wfile.write(b"page")
                page.asked.discard(connection)

            def left_within(self, seconds: float) -> bool:
                """Whether who asks goes away meanwhile, as a tunnel does when its instance dies."""
                self.connection.settimeout(seconds)
                try:
                    return not self.connection.recv(1)
                except TimeoutError:
                    return False

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        """Waits for its threads, and so for the end of every connection."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Load:
    """Threads that ask a server without a pause.

    Calls, streamed answers by each route, calls of one that is parked in between, of one that asks the world outside, events, uploads
    that become datasets, training runs; with a deployed model also offline predictions.
    """

    def __init__(self, storm: Storm, with_model: bool) -> None:
        self.storm = storm
        self.going = True
        self.failures: list[BaseException] = []
        works = [self.call, self.call, self.event, self.ingest, self.train, self.stream, self.rest]
        if storm.page:
            works.append(self.fetch)
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

    def rest(self, http: httpx.Client, chance: random.Random) -> None:
        """A call, and a rest about as long as it takes until the instance is parked."""
        n = chance.randrange(1 << 30)
        answer = self.ask("call after a rest", http, "POST", f"{FUNCTIONS}/rests/invocations", json={"n": n})
        if answer is not None and answer.status_code == 200 and "X-Amz-Function-Error" not in answer.headers:
            assert answer.json() == n, "an answer is the caller's own"
        time.sleep(2 * IDLE * chance.random())

    def stream(self, http: httpx.Client, chance: random.Random) -> None:
        """A streamed answer of some tenths of a second, by one of the routes."""
        route = chance.choice(sorted(ROUTES))
        event = {"n": chance.randrange(1 << 30), "pieces": chance.choice([1, 5, 20]), "s": 0.02}
        self.storm.promises.read(
            f"stream ({route})", LIMIT, lambda: read_stream(http, route, "streams", event, timeout=LIMIT)
        )

    def fetch(self, http: httpx.Client, chance: random.Random) -> None:
        """A call that waits for somebody outside."""
        assert self.storm.page
        body = {"address": self.storm.page.address}
        answer = self.ask("fetch", http, "POST", f"{FUNCTIONS}/fetches/invocations", json=body)
        if answer is not None and answer.status_code == 200 and "X-Amz-Function-Error" not in answer.headers:
            assert answer.json() == "page"

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

    def __init__(self, server: Server, seed: int, page: Page | None) -> None:
        self.server = server
        self.page = page
        self.chance = random.Random(seed)
        self.promises = Promises()
        self.deaths: Counter[str] = Counter()
        self.there = threading.Event()
        self.there.set()

    def roles(self) -> dict[str, list[int]]:
        """Who runs below the server, by what it is."""
        launcher = launcher_of(self.server)
        parked = self.parked()
        found: dict[str, list[int]] = {"launcher": [launcher], "server": [self.server.pid]}
        for pid in descendants(self.server.pid):
            name = read_name(pid)
            parent = parent_of(pid)
            if pid == launcher or not name:
                continue
            if parent == launcher:
                role = "first process of a tree"
            elif pid in parked:
                role = "parked instance"
            elif name.startswith("sundog-data"):
                role = "data instance"
            elif read_name(parent).startswith("python"):
                role = "instance"
            else:
                role = "template" if name.startswith("python") else "other"
            found.setdefault(role, []).append(pid)
        return found

    def parked(self) -> set[int]:
        """The instances that are, as far as is known."""
        with self.server.http() as http:
            fleet = http.get("/v1/fleet").json()["instances"]
        return {one["pid"] for one in fleet if one["state"] == "parked"}

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
        """Each function answers rightly, once what dies with a victim is dead."""

        def answered() -> bool:
            answers = [http.post(f"{FUNCTIONS}/{name}/invocations", json={"n": 5}) for name in ("waits", "rests")]
            streams = [read_stream(http, route, "streams", {"n": 5, "pieces": 2}) for route in ROUTES]
            return {(one.status_code, one.text) for one in answers} == {(200, "5")} and all(
                one.whole for one in streams
            )

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


BELOW = {"launcher", "first process of a tree", "template", "instance", "parked instance", "data instance", "other"}


def storm(
    server: Server, package: Callable[..., bytes], deaths: int, among: set[str], seed: int, with_model: bool = True
) -> Storm:
    """So many deaths under load; then what was promised is looked at, and the server ends with nothing left of it."""
    server.start()
    page = Page() if os.geteuid() == 0 else None  # without root a way out cannot be sealed
    with server.http() as http:
        create(http, "waits", package(app=SOURCE), timeout=TIMEOUT)
        create(http, "rests", package(app=SOURCE), timeout=TIMEOUT)
        create(http, "streams", package(app=STREAMER), timeout=TIMEOUT)
        create(http, "trainer", package(app=TRAINER), timeout=TIMEOUT, kind="training")
        if page:
            egress = {"sundog:network": "egress", "sundog:allow": page.address}
            create(http, "fetches", package(app=FETCHER), timeout=TIMEOUT, tags=egress)
        if with_model:
            deploy_adder(http)
            drive_upload(http, {}, b"")
        blowing = Storm(server, seed, page)
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
    outcomes = blowing.promises.outcomes()
    if "server" not in among:
        assert not [outcome for outcome in outcomes if LOST in outcome], outcomes
    if page:
        eventually(lambda: not page.asked, what="the end of every way out")
        page.close()
    print(f"{outcomes}; MB before {before}, after {after}", flush=True)
    if "server" not in among:
        assert after["server"] < before["server"] + GROWTH_MB
    if not among & {"server", "launcher"}:
        assert after["launcher"] < before["launcher"] + GROWTH_MB
    leftovers = Leftovers(server)
    leftovers.assert_only_of(server)
    assert server.stop() == 0
    leftovers.assert_none()
    assert any(outcome.startswith(f"stream ({route}): whole") for route in ROUTES for outcome in outcomes)
    return blowing


def test_a_breeze(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    blown = storm(fresh_server(*OPTIONS), package, 12, {*BELOW, "server"}, 1, with_model=False)
    assert sum(blown.deaths.values()) == 12
    assert any(outcome.startswith("call: 200") for outcome in blown.promises.outcomes())


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_below_one_server(
    seed: int, fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    blown = storm(fresh_server(*OPTIONS), package, 200, BELOW - {"launcher"}, seed)
    assert blown.deaths["parked instance"]


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [3, 4])
def test_a_storm_over_everything(seed: int, fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    storm(fresh_server(*OPTIONS), package, 100, {*BELOW, "server"}, seed)
