"""kill -9 while a streamed answer is on its way: its reader sees an error or a whole answer, never a part that looks whole."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from deaths import first_process_of, launcher_of, unexpected_errors
from lambda_calls import create
from leftovers import Leftovers, parent_of
from streams import EVENTS, PLAIN, ROUTES, STREAMER, End, Reading, stream

from harness import Server

LONG = {"n": 1, "pieces": 200, "s": 0.1}
SHORT = {"n": 2, "pieces": 3}


def busy(server: Server) -> list[int]:
    """The instances that are at work."""
    with server.http() as http:
        return [one["pid"] for one in http.get("/v1/fleet").json()["instances"] if one["state"] == "busy"]


def instances(server: Server) -> list[int]:
    return busy(server)


def launcher(server: Server) -> list[int]:
    return [launcher_of(server)]


def first_process(server: Server) -> list[int]:
    return [first_process_of(server, busy(server)[0])]


def template(server: Server) -> list[int]:
    return [parent_of(busy(server)[0])]


class Streams:
    """A server with one answer on its way by each route."""

    def __init__(self, server: Server, zipped: bytes, event: dict) -> None:
        self.server = server.start()
        self.leftovers = Leftovers(server)
        with server.http() as http:
            create(http, "streams", zipped, timeout=60)
        self.reading = {route: Reading(server, route, "streams", event) for route in ROUTES}
        for route, one in self.reading.items():
            assert one.began.wait(20), f"no piece by {route}"

    def ends(self) -> dict[str, End]:
        return {route: one.ended() for route, one in self.reading.items()}

    def goes_on(self) -> None:
        """The next ones are whole, and nothing of any is left."""
        with self.server.http() as http:
            for route in ROUTES:
                assert stream(http, route, "streams", SHORT).whole
        assert not unexpected_errors(self.server)
        assert self.server.stop() == 0
        self.leftovers.assert_none()


@pytest.mark.parametrize("victims", [instances, launcher, first_process])
def test_who_reads_is_told(
    victims: Callable[[Server], list[int]], fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    streams = Streams(fresh_server(), package(app=STREAMER), LONG)
    for pid in victims(streams.server):
        os.kill(pid, signal.SIGKILL)
    ends = streams.ends()
    assert ends[PLAIN].how == "broken off"
    assert ends[EVENTS].how == "error Unhandled"
    assert all(end.body for end in ends.values())
    streams.goes_on()


def test_http_1_0_sees_it_too(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    """There a body's end is the connection's: one that breaks off is reset."""
    streams = Streams(fresh_server(), package(app=STREAMER), LONG)
    where = urlsplit(streams.server.url)
    body = json.dumps(LONG).encode()
    with socket.create_connection((where.hostname, where.port), timeout=20) as client:
        client.sendall(
            f"POST {ROUTES[PLAIN].format('streams')} HTTP/1.0\r\nAuthorization: Bearer {streams.server.token}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        come = b""
        while b"1:0;" not in come:
            come += client.recv(4096)
        for pid in busy(streams.server):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ConnectionResetError):
            while client.recv(4096):
                continue
    streams.ends()
    streams.goes_on()


def test_what_streams_outlives_its_template(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    streams = Streams(fresh_server(), package(app=STREAMER), {"n": 1, "pieces": 5, "s": 0.1})
    for pid in template(streams.server):
        os.kill(pid, signal.SIGKILL)
    assert {end.how for end in streams.ends().values()} == {"whole"}
    streams.goes_on()


def test_who_reads_sees_that_the_server_died(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    streams = Streams(fresh_server(), package(app=STREAMER), LONG)
    streams.server.kill()
    ends = streams.ends()
    assert {end.how for end in ends.values()} == {"broken off"}
    streams.server.start()
    streams.leftovers.assert_only_of(streams.server)
    streams.goes_on()
