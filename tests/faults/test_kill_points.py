"""kill -9 of the server at named moments: nothing acknowledged is lost, nothing is billed twice, nothing of the old run remains."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from deaths import descendants
from lambda_calls import FUNCTIONS, create
from leftovers import Leftovers
from ways import POINTS, SOURCE, Died, check_ledger

from harness import ROOT, Server, eventually


def dies_late(http: httpx.Client, within: float) -> bool:
    """What was asked is done; the moment may still be to come, behind the last answer."""
    try:
        eventually(lambda: http.get("/healthz") is None, within=within)
    except httpx.TransportError:
        return True
    except AssertionError:
        return False
    return False


def die_at(point: str, visit: int, fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> bool:
    """Goes a point's way on a server that dies there; another goes on. False when it came there fewer than `visit` times."""
    way = POINTS[point]
    server = fresh_server(env={"SUNDOG_KILL_POINT": f"{point}:{visit}"}).start()
    kept: dict = {}
    died = False
    with server.http() as http:
        try:
            way.drive(http, kept, package(app=way.source))
            died = dies_late(http, within=10 if visit == 1 else 2)
        except Died:
            died = True
    if not died:
        assert server.stop() == 0
        return False
    assert server.wait_dead() == -9
    server.env = {}
    server.start()
    leftovers = Leftovers(server)
    leftovers.assert_only_of(server)
    with server.http() as http:
        way.check(server, http, kept)
    check_ledger(server)
    assert server.stop() == 0
    leftovers.assert_none()
    return True


@pytest.mark.parametrize("point", POINTS)
def test_kill_at(point: str, fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    assert die_at(point, 1, fresh_server, package)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("point", POINTS)
def test_kill_at_each_visit(point: str, fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    deaths = 1
    while deaths < 12 and die_at(point, deaths, fresh_server, package):
        deaths += 1
    print(f"{point}: {deaths - 1} deaths", flush=True)


def test_leftovers_sees_what_there_is_to_see(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server().start()
    leftovers = Leftovers(server)
    with server.http() as http:
        create(http, "kept", package(app=SOURCE))
        assert http.post(f"{FUNCTIONS}/kept/invocations", json=1).status_code == 200
    seen = leftovers.processes()
    for marks in (["server"], ["launcher"], ["cell", "code"]):
        assert marks in seen.values()
    assert set(descendants(server.pid)) < set(seen)
    assert any("/c" in cell.rpartition("sundog-")[2] for cell in leftovers.cgroups())
    assert not leftovers.strangers(server)
    server.kill()
    leftovers.assert_processes_end()


def test_every_kill_point_has_a_way() -> None:
    sources = (path.read_text() for path in (ROOT / "server").rglob("*.cc"))
    placed = {name for text in sources for name in re.findall(r'kill_point\("([a-z_.]+)"\)', text)}
    assert placed == set(POINTS)
