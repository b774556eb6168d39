"""What travels on the sockets of an instance and of a template: frame types, limits, JSON as bytes.

The frames themselves are read and written by `_native`, a call's two wholly; docs/formats/instance.md describes them.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

READY, HOST_CALL, HOST_REPLY, STREAM = 1, 4, 5, 6  # INVOKE and RESULT are _native's
# Between server and template only.
CONFIGURE, PARKED, FORK, FORKED, EXITED, CONFIGURED = 16, 17, 18, 19, 20, 21
# Between server and an environment's template.
CONFIGURE_ENVIRONMENT, PRELOAD, PRELOADED, FORK_TEMPLATE, IMPORTING = 22, 23, 24, 25, 26

MAX_ANSWER = 6_291_556  # bytes, Lambda's limit for a response
MAX_PIECE = 256 * 1024  # bytes of one STREAM frame


def to_json(value: Any) -> bytes:
    """Serialises one of our own headers."""
    return json.dumps(value, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_decode = json.JSONDecoder().raw_decode


def unmarshal(raw: bytes) -> Any:
    """What a handler gets as its event; ValueError if it is no JSON in UTF-8."""
    text = raw.decode()
    try:
        value, end = _decode(text)
        if end == len(text):
            return value
    except ValueError:
        pass
    return json.loads(text)  # with white space around it, or wrong


_encode = json.JSONEncoder(default=_plain).encode


def marshal(answer: Any) -> bytes:
    """Serialises a handler's answer as Lambda does; TypeError or ValueError if it cannot be."""
    return _encode(answer).encode()
