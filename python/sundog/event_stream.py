"""AWS's event stream: the binary framing of a streamed answer (application/vnd.amazon.eventstream)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sundog.errors import Unavailable

_PRELUDE = struct.Struct(">III")  # whole length, headers' length, CRC-32 of the two
_CHECKSUM = struct.Struct(">I")
_LARGEST = 32 << 20  # bytes
_STRING = 7


@dataclass(frozen=True)
class Event:
    """One message: its headers (":event-type", …) and its payload."""

    headers: dict[str, str]
    payload: bytes

    @property
    def type(self) -> str:
        return self.headers.get(":event-type", "")


def read_events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """The messages in a body that comes in pieces of any size, each as soon as it is whole.

    Raises:
        Unavailable: The body broke off, or is no event stream.
    """
    buffer = b""
    for piece in pieces:
        buffer += piece
        while len(buffer) >= _PRELUDE.size:
            length, headers_length, checksum = _PRELUDE.unpack_from(buffer)
            if zlib.crc32(buffer[:8]) != checksum or not 16 + headers_length <= length <= _LARGEST:
                raise Unavailable("The server's answer is no event stream.")
            if len(buffer) < length:
                break
            message, buffer = buffer[:length], buffer[length:]
            if zlib.crc32(message[:-4]) != _CHECKSUM.unpack_from(message, length - 4)[0]:
                raise Unavailable("A piece of the streamed answer was damaged on its way.")
            end = _PRELUDE.size + headers_length
            yield Event(_headers(message[_PRELUDE.size : end]), message[end:-4])
    if buffer:
        raise Unavailable("The streamed answer broke off.")


def _headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    at = 0
    while at < len(block):
        name_end = at + 1 + block[at]
        if block[name_end] != _STRING:
            raise Unavailable("The streamed answer has a header that is no text.")
        value_at = name_end + 3
        value_end = value_at + int.from_bytes(block[name_end + 1 : value_at], "big")
        headers[block[at + 1 : name_end].decode()] = block[value_at:value_end].decode()
        at = value_end
    return headers
