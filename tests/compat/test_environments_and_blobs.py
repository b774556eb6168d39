"""Environments and blobs over plain HTTP, as protocol/api.md says."""

from __future__ import annotations

import hashlib
import os
import uuid

import httpx
import pytest

from harness import Server


@pytest.fixture
def http(server: Server) -> httpx.Client:
    return httpx.Client(
        base_url=server.url,
        headers={"Authorization": f"Bearer {server.token}"},
        timeout=60,
    )


def test_an_empty_environment_is_ready_at_once(http: httpx.Client) -> None:
    made = http.post("/v1/environments", json={"packages": []}).json()
    assert made["state"] == "ready"
    assert http.get(f"/v1/environments/{made['id']}").json() == made
    assert made["id"] in [each["id"] for each in http.get("/v1/environments").json()["items"]]


@pytest.mark.parametrize("package", ["-r /etc/passwd", "https://host/x.whl", "./here", "x @ file:///x"])
def test_what_is_no_package_is_refused(http: httpx.Client, package: str) -> None:
    answer = http.post("/v1/environments", json={"packages": [package]})
    assert answer.status_code == 400
    assert package in answer.json()["error"]["message"]


def test_a_blob_comes_back_whole_and_in_parts(http: httpx.Client) -> None:
    content = os.urandom(5 << 20)
    put = http.put("/v1/blobs", content=content).json()
    assert put == {"id": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path = f"/v1/blobs/{put['id']}"
    assert http.get(path).content == content
    assert http.head(path).headers["content-length"] == str(len(content))
    for asked, expected in [
        ("bytes=0-9", content[:10]),
        ("bytes=100-", content[100:]),
        ("bytes=-7", content[-7:]),
        (f"bytes={len(content) - 3}-999999999", content[-3:]),
    ]:
        answer = http.get(path, headers={"Range": asked})
        assert answer.status_code == 206
        assert answer.content == expected
    beyond = http.get(path, headers={"Range": f"bytes={len(content)}-"})
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{len(content)}"


def test_blobs_of_others_are_absent(http: httpx.Client) -> None:
    content = uuid.uuid4().bytes
    put = http.put("/v1/blobs", content=content).json()
    key = http.post("/v1/keys", json={"role": "viewer", "tenant": "other"}).json()
    other = {"Authorization": f"Bearer {key['token']}"}
    assert http.get(f"/v1/blobs/{put['id']}", headers=other).status_code == 404
    assert http.get(f"/v1/blobs/{'0' * 64}").status_code == 404
    assert http.get("/v1/blobs/..%2f..%2fetc").status_code in (400, 404)
