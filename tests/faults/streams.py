"""Streamed answers, read so that one that broke off is never taken for a whole one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from harness import Server
from sundog.event_stream import read_events

STREAMER = """
import time
def handler(event, context):
    for n in range(event["pieces"]):
        yield f"{event['n']}:{n};"
        time.sleep(event.get("s", 0))
"""
PLAIN, EVENTS = "plain", "events"  # a chunked body of the pieces themselves; Lambda's event stream
ROUTES = {PLAIN: "/v1/functions/{}/stream", EVENTS: "/2021-11-15/functions/{}/response-streaming-invocations"}


@dataclass(frozen=True)
class End:
    """How a streamed answer ended: `whole`, or why not; and what had come of it."""

    how: str
    body: bytes = b""
    request_id: str = ""

    @property
    def whole(self) -> bool:
        return self.how == "whole"


def expected(event: dict) -> bytes:
    """What STREAMER answers."""
    return "".join(f"{event['n']}:{n};" for n in range(event["pieces"])).encode()


class _Reader:
    """The body as it comes, and whether its own last word said that it is all."""

    def __init__(self, answer: httpx.Response, route: str, on_piece: Callable[[], None]) -> None:
        self.answer, self.route, self.on_piece = answer, route, on_piece
        self.body = b""

    def _take(self, piece: bytes) -> None:
        self.body += piece
        self.on_piece()

    def read(self) -> str:
        """How it ended; a connection that ends before the body does is httpx's error."""
        if self.route == PLAIN:
            for piece in self.answer.iter_raw():
                self._take(piece)
            return "whole"
        for event in read_events(self.answer.iter_raw()):
            if event.type == "PayloadChunk":
                self._take(event.payload)
            else:
                complete = json.loads(event.payload)
                return f"error {complete['ErrorCode']}" if complete.get("ErrorCode") else "whole"
        raise AssertionError(f"an event stream ended as if it were whole, without its last event: {self.body!r}")


def stream(
    http: httpx.Client,
    route: str,
    name: str,
    event: dict,
    *,
    timeout: float = 30,
    on_piece: Callable[[], None] = lambda: None,
) -> End:
    """Calls a STREAMER and reads to the end; fails if what came is not what it says, or ends as a whole and is none.

    Raises:
        httpx.TransportError: Nothing of an answer came; TimeoutException also for a pause of `timeout` within it.
    """
    with http.stream("POST", ROUTES[route].format(name), json=event, timeout=timeout) as answer:
        if answer.status_code != 200:
            answer.read()
            return End(f"{answer.status_code} {answer.text[:200]}")
        reader = _Reader(answer, route, on_piece)
        try:
            how = reader.read()
        except httpx.TimeoutException:
            raise
        except httpx.TransportError:
            how = "broken off"
        assert expected(event).startswith(reader.body), f"{reader.body!r} is no beginning of the answer"
        if how == "whole":
            assert reader.body == expected(event), f"{reader.body!r} looks like a whole answer and is none"
        return End(how, reader.body, answer.headers["x-amzn-RequestId"])


class Reading:
    """A streamed answer that is read in a thread of its own; `began` once its first piece is there."""

    def __init__(self, server: Server, route: str, name: str, event: dict) -> None:
        self.end: End | None = None
        self.began = threading.Event()

        def read() -> None:
            with server.http() as http:
                try:
                    self.end = stream(http, route, name, event, on_piece=self.began.set)
                except httpx.TransportError as error:
                    self.end = End(f"connection lost: {error}")

        self.thread = threading.Thread(target=read)
        self.thread.start()

    def ended(self, within: float = 8) -> End:
        """Its end, which must come long before the function's own time is over."""
        self.thread.join(within)
        assert not self.thread.is_alive(), "the reader was left waiting"
        assert self.end is not None, "what was read is wrong; the thread's own error says how"
        return self.end
