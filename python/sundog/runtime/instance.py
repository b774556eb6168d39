"""The loop of an instance: one invocation at a time, until the server closes the socket."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any, NoReturn

from sundog.runtime import _native, host, randomness, snapshots, wire
from sundog.runtime.context import Context
from sundog.runtime.failures import handler_error, init_failure

Handler = Callable[[Any, Context], Any]
# As _native.next_invocation() gives it: id, payload, Context's arguments, and the clocks at its begin.
Call = tuple[int, bytes, str, int, str, str, str, int, str, str, int, int]


class AnswerFault(Exception):
    """The handler returned what cannot be sent."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # the user's code replaced or closed it


def _event_of(raw: bytes) -> Any:
    if not raw:
        return {}
    try:
        return wire.unmarshal(raw)
    except ValueError as error:
        raise AnswerFault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def _to_bytes(answer: Any, raw_handler: bool) -> bytes:
    if raw_handler and isinstance(answer, (bytes, bytearray, memoryview)):
        data = bytes(answer)
    else:
        try:
            data = wire.marshal(answer)
        except (TypeError, ValueError, RecursionError) as error:
            raise AnswerFault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None
    if len(data) > wire.MAX_ANSWER:
        raise AnswerFault(
            "Function.ResponseSizeTooLarge",
            f"Response payload size ({len(data)} bytes) exceeded maximum allowed payload size ({wire.MAX_ANSWER} bytes).",
        )
    return data


def _send_pieces(socket: int, number: int, pieces: Iterator[Any]) -> None:
    for piece in pieces:
        data = piece.encode() if isinstance(piece, str) else bytes(piece)
        for at in range(0, len(data), wire.MAX_PIECE):
            _native.send(socket, wire.STREAM, number, b"{}", data[at : at + wire.MAX_PIECE])


class RequestIds:
    """The running invocation's id, for log lines."""

    current = ""


def _run(socket: int, call: Call, handler: Handler) -> None:
    number, raw = call[:2]
    context = Context(*call[2:10])
    RequestIds.current = context.aws_request_id
    host._channel.running = True
    raw_handler = bool(getattr(handler, "__sundog_raw__", False))
    ok, streamed = True, False
    try:
        answer = handler(raw if raw_handler else _event_of(raw), context)
        if isinstance(answer, GeneratorType):
            streamed = True
            _send_pieces(socket, number, answer)
            data = b""
        else:
            data = _to_bytes(answer, raw_handler)
    except AnswerFault as fault:
        ok, data = (
            False,
            wire.marshal(
                {"errorMessage": str(fault), "errorType": fault.kind, "requestId": RequestIds.current, "stackTrace": []}
            ),
        )
    except Exception as error:
        ok, data = False, wire.marshal(handler_error(error, RequestIds.current))
        print(f"[ERROR] {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        host._channel.running = False
    _flush()
    _native.answer(socket, number, ok, streamed, data[: wire.MAX_ANSWER], *call[10:])


def _restore() -> dict[str, Any] | None:
    """What makes this instance different from the others. What went wrong in the user's hooks, as init's failures look."""
    try:
        randomness.reseed()
        snapshots.run_after_restore()
    except BaseException as error:
        failure = init_failure(error)
        print(f"[ERROR] {failure['type']}: {failure['message']}", file=sys.stderr)
        return failure
    return None


def _answer_with(socket: int, call: Call, failure: dict[str, Any]) -> NoReturn:
    """The invocation that this instance was made for gets the failure; there is no second one."""
    error = {"errorMessage": failure["message"], "errorType": failure["type"], "requestId": call[2],
             "stackTrace": failure["stack"]}  # fmt: skip
    _flush()
    _native.answer(socket, call[0], False, False, wire.marshal(error)[: wire.MAX_ANSWER], *call[10:])
    os._exit(1)


def serve(socket: int, handler: Handler) -> NoReturn:
    """Announces the instance and serves it; never returns."""
    status = 0
    try:
        failure = _restore()
        host._channel.socket = socket
        _native.send(socket, wire.READY, 0, wire.to_json({"pid": os.getpid()}), b"")
        while True:
            call = _native.next_invocation(socket)
            if call is None:
                break
            if failure is not None:
                _answer_with(socket, call, failure)
            _run(socket, call, handler)
    except SystemExit as error:
        if isinstance(error.code, int):
            status = error.code & 0xFF
        elif error.code is not None:
            print(error.code, file=sys.stderr)
            status = 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    _flush()
    os._exit(status)
