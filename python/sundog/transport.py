"""Requests as values, and the thin client that sends them.

`Request` is built by pure functions beside each noun; `Transport` adds the key, retries what may be retried, and turns
answers of 400 and more into the errors of `sundog.errors`. The HTTP itself is httpx, whose transport can be replaced:
tests pass `httpx.MockTransport`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sundog.errors import DeadlineExceeded, SundogError, Throttled, Unavailable, error_from_reply

if TYPE_CHECKING:
    import httpx

Json = Any
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})


@dataclass(frozen=True)
class Request:
    """One HTTP request, not yet sent.

    Attributes:
        body: Sent as JSON, unless None.
        content: Raw body: bytes, or a function that gives a fresh iterator of pieces (so that a retry can begin anew).
        timeout: Seconds to wait for the answer's next byte.
        idempotent: Whether sending it twice does no harm; None: as its method says.
    """

    method: str
    path: str
    params: Mapping[str, str | int | float | None] = field(default_factory=dict)
    body: Json = None
    content: bytes | Callable[[], Iterator[bytes]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60.0
    idempotent: bool | None = None

    @property
    def may_repeat(self) -> bool:
        return self.method in _IDEMPOTENT if self.idempotent is None else self.idempotent


@dataclass(frozen=True)
class Reply:
    """A whole answer of less than 400."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Json:
        return json.loads(self.content) if self.content.strip() else None


class NotSent(Unavailable):
    """No connection came about: the request never left, so it may be sent again whatever it does."""


class Transport:
    """Sends requests to one server with one key. May be used from several threads.

    Args:
        url: Where the server answers, e.g. "http://127.0.0.1:9000".
        key: The bearer token ("sk-…"), or "".
        http: Replaces the network, e.g. `httpx.MockTransport(handler)`.
        attempts: How often an idempotent or throttled request is sent in all.
        sleep: Waits between attempts, in seconds.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        http: httpx.BaseTransport | None = None,
        attempts: int = 4,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        import httpx

        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=20)
        # trust_env off: a proxy of the environment must not come between this machine and its own server.
        local = any(host in self.url for host in ("//127.", "//localhost", "//[::1]"))
        self._client = httpx.Client(
            base_url=self.url, headers=headers, transport=http, limits=limits, trust_env=not local, timeout=60.0
        )
        self._attempts = attempts
        self._sleep = sleep

    def close(self) -> None:
        self._client.close()

    def call(self, request: Request) -> Json:
        """Sends it and gives the answer's JSON (None for an empty body)."""
        return self.send(request).json()

    def send(self, request: Request) -> Reply:
        """Sends it, again if it may be, and gives the whole answer.

        Raises:
            SundogError: The server's answer was 400 or more.
            Unavailable: No server answers.
            DeadlineExceeded: No answer within `request.timeout`.
        """
        import tenacity

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: _may_retry(request, error)),
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=_wait,
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._send_once, request)

    def lines(self, request: Request) -> Iterator[str]:
        """The lines of a streamed answer, as they come; never retried."""
        with self._guard(request), self._open(request) as response:
            yield from response.iter_lines()

    def pieces(self, request: Request) -> Iterator[bytes]:
        """The answer's body in pieces, as they come; never retried."""
        with self._guard(request), self._open(request) as response:
            yield from response.iter_bytes()

    def download(self, request: Request, write: Callable[[bytes], Any]) -> int:
        """Hands the answer's body to `write` piece by piece; gives its size in bytes; never retried."""
        size = 0
        with self._guard(request), self._open(request) as response:
            for piece in response.iter_bytes():
                write(piece)
                size += len(piece)
        return size

    def _send_once(self, request: Request) -> Reply:
        with self._guard(request), self._open(request) as response:
            return Reply(response.status_code, response.headers, response.read())

    def _open(self, request: Request) -> _Opened:
        return _Opened(self._client, request)

    def _guard(self, request: Request) -> _Guard:
        return _Guard(self.url, request)


class _Opened:
    """An answer being read; its errors already raised."""

    def __init__(self, client: httpx.Client, request: Request) -> None:
        content = request.content() if callable(request.content) else request.content
        params = {name: value for name, value in request.params.items() if value is not None}
        headers = dict(request.headers)
        if request.body is not None:
            content = json.dumps(request.body, separators=(",", ":"), allow_nan=False).encode()
            headers.setdefault("content-type", "application/json")
        self._context = client.stream(
            request.method, request.path, params=params, content=content, headers=headers, timeout=request.timeout
        )

    def __enter__(self) -> httpx.Response:
        response = self._context.__enter__()
        if response.status_code >= 400:
            body = response.read()
            self._context.__exit__(None, None, None)
            raise error_from_reply(response.status_code, response.headers, body)
        return response

    def __exit__(self, *exc: Any) -> None:
        self._context.__exit__(*exc)


class _Guard:
    """Turns httpx's exceptions into ours."""

    def __init__(self, url: str, request: Request) -> None:
        self._url, self._request = url, request

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        import httpx

        what = f"{self._request.method} {self._request.path}"
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            raise NotSent(f"No server answers at {self._url}.", "Start one with: sundog up") from error
        if isinstance(error, httpx.TimeoutException):
            raise DeadlineExceeded(f"{what} had no answer within {self._request.timeout:g} s.") from error
        if isinstance(error, httpx.TransportError):
            raise Unavailable(f"The connection to {self._url} broke during {what}: {error}.") from error


def _may_retry(request: Request, error: BaseException) -> bool:
    if isinstance(error, Throttled | NotSent):
        return True
    return isinstance(error, Unavailable) and request.may_repeat


def _wait(state: Any) -> float:
    """Seconds before the next attempt: what the server asked for, else 0.1, 0.2, 0.4 …, at most 5 s."""
    error = state.outcome.exception()
    backoff: float = min(5.0, 0.1 * 2.0 ** (int(state.attempt_number) - 1))
    if isinstance(error, Throttled):
        backoff = min(30.0, max(error.retry_after, backoff))
    return backoff


def items(transport: Transport, path: str, params: Mapping[str, str | int] | None = None) -> Iterator[Json]:
    """Every item of a paged list, page by page."""
    after = ""
    while True:
        page = transport.call(Request("GET", path, params={**(params or {}), **({"after": after} if after else {})}))
        yield from page.get("items", [])
        after = page.get("next") or ""
        if not after:
            return


__all__ = ["Json", "NotSent", "Reply", "Request", "SundogError", "Transport", "items"]
