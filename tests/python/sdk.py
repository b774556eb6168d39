"""A server that answers from a table, for tests of the SDK: no sockets, no waiting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from sundog.cloud import Cloud
from sundog.transport import Transport

GOLDEN = Path(__file__).resolve().parents[2] / "protocol" / "golden" / "api"
Answer = Callable[[httpx.Request], Any]


def golden(name: str) -> Any:
    """A golden file of protocol/golden/api."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


class FakeServer:
    """Answers requests by method and path; keeps what it was asked.

    An answer is JSON (status 200), an `httpx.Response`, an exception to raise, a list of these (one a request; the last one
    stays), or a function of the request that gives one of them.
    """

    def __init__(self, answers: dict[tuple[str, str], Any]) -> None:
        self.answers = {("GET", "/v1/status"): {"version": "0.1.0"}, **answers}
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.get((request.method, request.url.path))
        if answer is None:
            body = {"error": {"code": "not_found", "message": f"No {request.method} {request.url.path}.", "hint": ""}}
            return httpx.Response(404, json=body)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def transport(self) -> Transport:
        return Transport("http://sundog.test", "sk-1", http=httpx.MockTransport(self), sleep=self.waits.append)

    def cloud(self) -> Cloud:
        return Cloud(self.transport())

    def bodies(self, method: str, path: str) -> list[Any]:
        """The JSON bodies of the requests to a path."""
        return [json.loads(r.content) for r in self.requests if (r.method, r.url.path) == (method, path)]
