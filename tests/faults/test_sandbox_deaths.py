"""kill -9 of the launcher, of a tree's first process, of a template and of an instance, at every moment of their lives.

The moments are counted from outside (tracer.py): before and after each system call that makes, moves, seals, feeds or ends a
process, made by anybody below the server while one way is gone from nothing to nothing. Moment after moment, one round each, until
one is past the last. What must hold then: every question has an outcome before its limit, the next one is answered rightly, and
nothing remains: no process, cgroup, mount or descriptor.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator

import httpx
import pytest
from deaths import Death, Promises, descendants, descriptors, launcher_of, unexpected_errors, wait_for_consequences
from lambda_calls import FUNCTIONS, function_body
from leftovers import Leftovers
from streams import PLAIN, STREAMER, End, stream

from harness import Server, eventually

SOURCE = """
import os, threading
{init}
def handler(event, context):
    print("asked", event)
    if event == "end":
        os._exit(3)
    return event
"""
FORKED = SOURCE.format(init="")
# A thread that init leaves behind: no fork survives that, so each instance runs init in a tree of its own.
ALONE = SOURCE.format(init="threading.Thread(target=threading.Event().wait, daemon=True).start()")
CSV = "a,b,label\n" + "".join(f"{n},{n * 7 % 13},{n % 2}\n" for n in range(50))
TIMEOUT, QUEUE = 5, 10  # seconds: a function's own, and until an instance must have been found
LIMIT = QUEUE + TIMEOUT + 5
# An idle instance is soon parked, or ends; the template of an environment without functions soon ends.
SHORT_LIVES = ("--idle-instance", "0.2", "--idle-environment", "1")
MOST_LAUNCHER_DEATHS = 4  # of one server: the pause before its next start doubles with each


class World:
    """One server after the other, and the death that is under way."""

    def __init__(self, fresh_server: Callable[..., Server]) -> None:
        self.fresh_server = fresh_server
        self.promises = Promises()
        self.death: Death | None = None
        self.verified = self.before_launcher = 0
        self.launcher_deaths = 0
        self.begin()

    def begin(self) -> None:
        """Another server, on a folder of its own."""
        self.server = self.fresh_server("--queue-limit", str(QUEUE), "--idle-template", "600", *SHORT_LIVES).start()
        self.leftovers = Leftovers(self.server)
        self.http = self.server.http()
        self.launcher_deaths = 0

    def end(self) -> None:
        """The server ends in order, and nothing of it remains."""
        self.http.close()
        assert self.server.stop() == 0
        self.leftovers.assert_none()
        assert not unexpected_errors(self.server)

    def ask(self, what: str, method: str, path: str, **options: object) -> httpx.Response:
        """One question, whose outcome must come in time; the server itself never dies here."""
        response = self.promises.ask(
            what,
            LIMIT,
            lambda: self.http.request(method, path, timeout=LIMIT, **options),  # type: ignore[arg-type]
        )
        assert response is not None
        return response

    def kill_at(self, nth: int) -> None:
        """From now on whoever comes to this moment dies."""
        self.verified = 0
        self.before_launcher = launcher_of(self.server)
        self.death = Death(nth, descendants(self.server.pid))

    def died(self) -> bool:
        """Whether somebody has, and its consequences are over. True once for each death."""
        if self.death is None or self.death.came is None or self.verified:
            return False
        self.verified = victim = self.death.came["pid"]
        wait_for_consequences(self.leftovers, self.server, victim)
        if victim == self.before_launcher:
            self.launcher_deaths += 1
            launcher_of(self.server)
        return True

    def nothing_runs(self, within: float = 15) -> None:
        """No template and no instance is left, and no cgroup of one."""

        def left() -> list[object]:
            mine = [*self.leftovers.processes().items()]
            own = ([["server"], ["launcher"]], [["launcher"], ["server"]])
            cells = [cell for cell in self.leftovers.cgroups() if not cell.endswith(self.leftovers.name)]
            return [*([] if [marks for _, marks in mine] in own else mine), *cells]

        eventually(lambda: not left(), within=within, what=f"an idle machine ({left()})")

    def closes_all_but(self, count: int) -> None:
        """The server has no more descriptors open than `count`, and one for a connection."""

        def extra() -> int:
            return max(0, descriptors(self.server.pid) - count - 1)

        eventually(lambda: not extra(), within=10, what=f"the end of {extra()} descriptors")


def function_way(world: World, name: str, zipped: bytes) -> None:
    """A function is made, called, ends its instance, is called again, and is deleted."""

    def works() -> None:
        if world.died():
            next_one = world.ask("the next call", "POST", f"{FUNCTIONS}/{name}/invocations", json=7)
            assert (next_one.status_code, next_one.text) == (200, "7"), next_one.text
            assert "X-Amz-Function-Error" not in next_one.headers

    created = world.ask("create", "POST", FUNCTIONS, json=function_body(name, zipped, timeout=TIMEOUT))
    assert created.status_code == 201, created.text
    works()
    for payload in (1, "end", 2):
        answer = world.ask("call", "POST", f"{FUNCTIONS}/{name}/invocations", json=payload)
        assert answer.status_code in (200, 429, 503), answer.text
        works()
    deleted = world.ask("delete", "DELETE", f"{FUNCTIONS}/{name}")
    assert deleted.status_code == 204, deleted.text


def rest_way(world: World, name: str, zipped: bytes) -> None:
    """A function streams, its instance is parked, and streams once more."""

    def read(what: str) -> End:
        event = {"n": 7, "pieces": 3}
        end = world.promises.read(what, LIMIT, lambda: stream(world.http, PLAIN, name, event, timeout=LIMIT))
        assert end is not None
        return end

    def works() -> None:
        if world.died():
            assert read("the next stream").whole

    def nobody_works() -> bool:
        found = world.ask("fleet", "GET", "/v1/fleet").json()["instances"]
        return {one["state"] for one in found} <= {"parked"}

    created = world.ask("create", "POST", FUNCTIONS, json=function_body(name, zipped, timeout=TIMEOUT))
    assert created.status_code == 201, created.text
    works()
    for _ in range(2):
        read("stream")
        works()
        eventually(nobody_works, what="rest")
        works()
    deleted = world.ask("delete", "DELETE", f"{FUNCTIONS}/{name}")
    assert deleted.status_code == 204, deleted.text


def data_way(world: World, name: str, zipped: bytes) -> None:
    """A table is taken in by sundog-data, in instances that are executed and not forked."""

    def ingest(table: str) -> str:
        body = {"name": table, "blob": blob, "filename": "table.csv", "label": "label"}
        job = world.ask("ingest", "POST", "/v1/datasets", json=body)
        assert job.status_code == 202, job.text

        def over() -> str:
            state: str = world.ask("job", "GET", f"/v1/jobs/{job.json()['id']}").json()["state"]
            return state if state in ("succeeded", "failed") else ""

        return eventually(over, within=LIMIT, what=f"the end of the job ({table})")

    blob = world.ask("upload", "PUT", "/v1/blobs", content=CSV.encode()).json()["id"]
    ended = ingest(name)
    if world.died():
        assert ingest(f"{name}-next") == "succeeded"
    else:
        assert ended == "succeeded"


WAYS = {
    "forked": (function_way, FORKED),
    "alone": (function_way, ALONE),
    "rested": (rest_way, STREAMER),
    "native": (data_way, ""),
}


def one_round(world: World, way: str, nth: int, zipped: bytes) -> dict | None:
    """Goes a way with a death at one moment; None when that moment is past the last."""
    go, _source = WAYS[way]
    world.kill_at(nth)
    try:
        assert world.death is not None
        go(world, f"{way}-{nth}", zipped)
        world.nothing_runs()
        came = world.death.came
    finally:
        assert world.death is not None
        world.death.end()
    if came and not world.verified:  # it fell when nothing was asked any more
        world.died()
        world.nothing_runs()
    return came


def count_moments(world: World, way: str, zipped: bytes) -> tuple[int, int]:
    """How many moments a way has when nobody dies, and how many descriptors the server has after it."""
    go, _source = WAYS[way]
    world.kill_at(0)
    try:
        assert world.death is not None
        go(world, f"{way}-whole", zipped)
        world.nothing_runs()
    finally:
        assert world.death is not None
        world.death.end()
    return len(world.death.said), descriptors(world.server.pid)


def rounds(world: World, way: str, moments: Iterator[int], zipped: bytes, open_before: int) -> int:
    """One round for each moment, of a server that had so many descriptors before the first; gives how many died.

    A way's moments are not quite the same in number each time (a cgroup is removed at the first try or at the third), so that one
    which nobody comes to is past the last only if the next two are.
    """
    deaths = missed = 0
    for nth in moments:
        came = one_round(world, way, nth, zipped)
        if came is None:
            missed += 1
            if missed == 3:
                break
            continue
        deaths += 1
        missed = 0
        print(f"{way} {nth}: {came['comm']} {came['at']}", flush=True)
        world.closes_all_but(open_before)
        if world.launcher_deaths >= MOST_LAUNCHER_DEATHS:
            world.end()
            world.begin()
            _count, open_before = count_moments(world, way, zipped)
    return deaths


@pytest.fixture
def world(fresh_server: Callable[..., Server]) -> World:
    return World(fresh_server)


@pytest.mark.parametrize("way", WAYS)
def test_a_few_moments(way: str, world: World, package: Callable[..., bytes]) -> None:
    zipped = package(app=WAYS[way][1])
    count, open_before = count_moments(world, way, zipped)
    assert count > 50, "the tracer sees a way"
    chosen = sorted(random.Random(4).sample(range(1, count - count // 10), 4))
    assert rounds(world, way, iter(chosen), zipped, open_before) >= 2
    world.end()


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("way", WAYS)
def test_every_moment(way: str, world: World, package: Callable[..., bytes]) -> None:
    moments = itertools.count(1, int(os.environ.get("SUNDOG_SOAK_STEP", "1")))
    zipped = package(app=WAYS[way][1])
    _count, open_before = count_moments(world, way, zipped)
    deaths = rounds(world, way, moments, zipped, open_before)
    world.end()
    print(f"{way}: {deaths} deaths; {world.promises.outcomes()}", flush=True)
    assert deaths
