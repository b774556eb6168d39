"""What running code may ask of the server that runs it: blobs, files, run metrics, other functions.

Usable only while an invocation runs, from any thread; one call at a time.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from typing import IO, Any

from sundog.runtime import wire


class HostError(Exception):
    """The server refused a call; `code` is the machine's word, `hint` says what to do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message + (" " + hint if hint else ""))
        self.code = code
        self.message = message
        self.hint = hint


class _Channel:
    """The instance's socket while an invocation runs."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.socket = -1
        self.running = False
        self.next_id = 0


_channel = _Channel()


def call(name: str, arguments: dict[str, Any] | None = None, fds: Sequence[int] = ()) -> tuple[Any, list[int]]:
    """Asks the server and waits for its answer.

    Args:
        name: As in docs/formats/instance.md: "blob.open", "run.metrics", …
        arguments: What JSON can hold.
        fds: Descriptors to send along, at most 4; they stay open here.

    Returns:
        The result and the descriptors that came with it, which are the caller's to close.

    Raises:
        HostError: The server refused.
        RuntimeError: No invocation runs.
    """
    from sundog.runtime import _native

    with _channel.lock:
        if not _channel.running:
            raise RuntimeError("The host can only be called while an invocation runs.")
        _channel.next_id += 1
        request = _channel.next_id
        header = wire.to_json({"call": name, "arguments": arguments or {}})
        _native.send(_channel.socket, wire.HOST_CALL, request, header, b"", fds)
        frame = _native.receive(_channel.socket)
        if frame is None:
            os._exit(0)  # the server has let this instance go
        kind, answered, reply, _raw, received = frame
        if kind != wire.HOST_REPLY or answered != request:
            raise RuntimeError(f"The host sent a frame of type {kind} instead of a reply.")
    answer = json.loads(reply)
    if not answer.get("ok"):
        for fd in received:
            os.close(fd)
        error = answer.get("error") or {}
        raise HostError(
            error.get("code", "internal"), error.get("message", "The host call failed."), error.get("hint", "")
        )
    return answer.get("result"), received


def open_blob(blob: str) -> IO[bytes]:
    """Opens a blob that this invocation was granted, for reading."""
    _result, fds = call("blob.open", {"blob": blob})
    return os.fdopen(fds[0], "rb")


class HostFile:
    """A new file of the host: write to it, then commit() makes it a durable blob."""

    def __init__(self, handle: Any, file: IO[bytes]) -> None:
        self._handle = handle
        self._file = file
        self.bytes = 0

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def fileno(self) -> int:
        return self._file.fileno()

    @property
    def file(self) -> IO[bytes]:
        """The open file, seekable, readable and writable."""
        return self._file

    def commit(self) -> str:
        """Makes what was written durable.

        Returns:
            The blob's id. The file is closed.
        """
        self._file.flush()
        result, _fds = call("file.commit", {"handle": self._handle})
        self._file.close()
        self.bytes = int(result["bytes"])
        return str(result["blob"])

    def __enter__(self) -> HostFile:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()


def create_file() -> HostFile:
    """Creates a file on the host, unlinked until it is committed."""
    result, fds = call("file.create")
    return HostFile(result["handle"], os.fdopen(fds[0], "w+b"))


def invoke(function: str, payload: Any, *, qualifier: str | None = None) -> Any:
    """Invokes another function of the same tenant and waits for its answer.

    Raises:
        HostError: The invocation was refused, or the function failed (code "function_error").
    """
    arguments = {"function": function, "payload": payload}
    if qualifier is not None:
        arguments["qualifier"] = qualifier
    result, _fds = call("invoke", arguments)
    if result.get("function_error"):
        raise HostError("function_error", f'The function "{function}" failed: {json.dumps(result.get("payload"))}')
    return result.get("payload")
