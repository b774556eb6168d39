"""Calls of Lambda's API as plain HTTP, for tests that watch the connection itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import httpx

from harness import eventually

ROLE = "arn:aws:iam::000000000000:role/any"
FUNCTIONS = "/2015-03-31/functions"


def function_body(name: str, zipped: bytes, *, timeout: int = 10, tags: Mapping[str, str] | None = None) -> dict:
    """CreateFunction's body."""
    return {
        "FunctionName": name,
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Timeout": timeout,
        "Code": {"ZipFile": base64.b64encode(zipped).decode()},
        "Tags": dict(tags or {}),
    }


def create(
    http: httpx.Client,
    name: str,
    zipped: bytes,
    *,
    timeout: int = 10,
    kind: str = "function",
    tags: Mapping[str, str] | None = None,
) -> None:
    """Creates a function and waits until it is active."""
    body = function_body(name, zipped, timeout=timeout, tags={"sundog:kind": kind, **(tags or {})})
    made = http.post(FUNCTIONS, json=body)
    assert made.status_code == 201, made.text
    eventually(
        lambda: http.get(f"{FUNCTIONS}/{name}").json()["Configuration"]["State"] == "Active", what=f"an active {name}"
    )


def invoke(http: httpx.Client, name: str, payload: object) -> httpx.Response:
    """Invoke, and wait for the answer."""
    return http.post(f"{FUNCTIONS}/{name}/invocations", json=payload)


def job_over(http: httpx.Client, job: str, *, within: float = 60) -> dict:
    """Waits for a job's end and gives it."""

    def over() -> dict | None:
        state = http.get(f"/v1/jobs/{job}?wait=5").json()
        return state if state["state"] in ("succeeded", "failed", "cancelled") else None

    ended = eventually(over, within=within, what=f"the end of {job}")
    assert ended
    return ended


def run_over(http: httpx.Client, run: str, *, within: float = 60) -> dict:
    """Waits for a training run's end and gives it."""

    def over() -> dict | None:
        state = http.get(f"/v1/runs/{run}?wait=5").json()
        return state if state["state"] in ("succeeded", "failed", "stopped") else None

    ended = eventually(over, within=within, what=f"the end of {run}")
    assert ended
    return ended
