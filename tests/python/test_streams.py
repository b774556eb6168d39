"""Streamed answers in the SDK: the event stream's framing, and what a caller sees."""

from __future__ import annotations

import json
import struct
import zlib

import httpx
import pytest

from sdk import FakeServer
from sundog.errors import FunctionError, NotFound, Unavailable
from sundog.event_stream import read_events

PATH = "/2021-11-15/functions/f/response-streaming-invocations"


def message(kind: str, payload: bytes) -> bytes:
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in ((":event-type", kind), (":message-type", "event"))
    )
    head = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head += struct.pack(">I", zlib.crc32(head))
    body = head + headers + payload
    return body + struct.pack(">I", zlib.crc32(body))


def answer(*messages: bytes) -> httpx.Response:
    return httpx.Response(
        200, content=b"".join(messages), headers={"content-type": "application/vnd.amazon.eventstream"}
    )


def stream(*messages: bytes) -> list[bytes]:
    fake = FakeServer(
        {("POST", PATH): answer(*messages), ("GET", "/2015-03-31/functions/f/configuration"): {"FunctionName": "f"}}
    )
    return list(fake.cloud().functions.get("f").stream({"n": 1}))


def test_pieces_come_in_order() -> None:
    assert stream(message("PayloadChunk", b"a"), message("PayloadChunk", b"b"), message("InvokeComplete", b"{}")) == [
        b"a",
        b"b",
    ]


def test_messages_may_be_cut_anywhere() -> None:
    whole = message("PayloadChunk", bytes(range(256))) + message("InvokeComplete", b"{}")
    for step in (1, 7, len(whole)):
        events = list(read_events(whole[at : at + step] for at in range(0, len(whole), step)))
        assert [event.type for event in events] == ["PayloadChunk", "InvokeComplete"]
        assert events[0].payload == bytes(range(256))


def test_an_error_comes_after_the_pieces() -> None:
    details = json.dumps({"errorType": "ValueError", "errorMessage": "as asked"})
    end = message("InvokeComplete", json.dumps({"ErrorCode": "Unhandled", "ErrorDetails": details}).encode())
    fake = FakeServer(
        {
            ("POST", PATH): answer(message("PayloadChunk", b"a"), end),
            ("GET", "/2015-03-31/functions/f/configuration"): {"FunctionName": "f"},
        }
    )
    pieces = fake.cloud().functions.get("f").stream()
    assert next(pieces) == b"a"
    with pytest.raises(FunctionError, match="as asked") as failed:
        next(pieces)
    assert failed.value.error_type == "ValueError"


@pytest.mark.parametrize(
    "content",
    [
        message("PayloadChunk", b"a"),  # no end
        message("PayloadChunk", b"a") + message("InvokeComplete", b"{}")[:-1],
        b"not an event stream",
        message("PayloadChunk", b"a")[:-1] + b"x",
    ],
    ids=["no end", "half an end", "no event stream", "a wrong checksum"],
)
def test_an_answer_that_is_not_whole_is_no_answer(content: bytes) -> None:
    with pytest.raises(Unavailable):
        stream(content)


def test_refusals_are_raised_before_the_first_piece() -> None:
    fake = FakeServer({("GET", "/2015-03-31/functions/f/configuration"): {"FunctionName": "f"}})
    with pytest.raises(NotFound):
        next(fake.cloud().functions.get("f").stream())
