"""Every list of protocol/api.md: pages of a size, a cursor to the next, and a plain answer to what is neither."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from harness import Server
from sundog.cloud import connect

LISTS = ["jobs", "runs", "studies", "models", "endpoints", "datasets", "environments", "keys"]


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {server.token}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        yield client


def pages(http: httpx.Client, what: str, limit: int) -> Iterator[list[Any]]:
    after = ""
    while True:
        page = http.get(f"/v1/{what}", params={"limit": limit, "after": after}).json()
        yield page["items"]
        after = page["next"]
        if not after:
            return


@pytest.mark.parametrize("what", LISTS)
def test_a_list_says_what_it_takes(http: httpx.Client, what: str) -> None:
    assert set(http.get(f"/v1/{what}").json()) == {"items", "next"}
    for bad, says in [
        ("limit=0", "limit is 0"),
        ("limit=-3", "limit is -3"),
        ("limit=1001", "limit is 1001"),
        ("limit=many", '"many"'),
        ("after=../other/x", "no list answered"),
        ("after=" + "a" * 300, "no list answered"),
    ]:
        answer = http.get(f"/v1/{what}?{bad}")
        assert answer.status_code == 400, (what, bad, answer.text)
        assert answer.json()["error"]["code"] == "invalid_argument"
        assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize("bad", ["limit=0", "limit=10001", "after=none"])
def test_usage_does_too(http: httpx.Client, bad: str) -> None:
    assert http.get(f"/v1/usage?{bad}").status_code == 400


def test_jobs_come_newest_first_over_several_pages(server: Server, http: httpx.Client) -> None:
    blob = http.put("/v1/blobs", content=b"x\n1\n").json()["id"]
    made = [http.post("/v1/datasets", json={"name": "listed", "blob": blob}).json()["id"] for _ in range(5)]
    sdk = connect(server.url, server.token).jobs
    for job in made:
        sdk.wait(job)
    of_all = [job["id"] for page in pages(http, "jobs", 2) for job in page]
    assert [job for job in of_all if job in made] == list(reversed(made))
    assert len(set(of_all)) == len(of_all)
    assert all(len(page) <= 2 for page in pages(http, "jobs", 2))
    first = http.get("/v1/jobs?limit=1").json()["items"]
    assert "result" not in first[0], json.dumps(first)
    assert [job.id for job in sdk.list()] == of_all


def test_keys_and_environments_over_several_pages(http: httpx.Client) -> None:
    for number in range(3):
        assert http.post("/v1/keys", json={"role": "viewer", "name": f"listed-{number}"}).status_code == 200
    http.post("/v1/environments", json={"packages": []})
    for what in ("keys", "environments"):
        whole = [item["id"] for item in http.get(f"/v1/{what}?limit=1000").json()["items"]]
        assert [item["id"] for page in pages(http, what, 1) for item in page] == whole
    unknown = http.get("/v1/keys?after=AKSDNOTTHERE")
    assert unknown.status_code == 400
    assert "no key's id" in unknown.json()["error"]["message"]
