"""Hostile and broken requests against the real server: each gets a clear answer, and the server goes on."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from harness import Server, eventually


def raw(server: Server, data: bytes, *, limit: float = 20) -> bytes:
    """Sends bytes as they are and gives what came back until the server closed or a whole head arrived."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=limit) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", b"400"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
            b"431",
        ),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /v1/%2e%2e/x HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (
            b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
            b"4",
        ),
        (b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
    ],
)
def test_broken_http(server: Server, data: bytes, status: bytes) -> None:
    answer = raw(server, data)
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
    with server.http() as http:
        assert http.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{" * 10_000,
        b"\xff\xfe",
        b'{"role": 7}',
        b'{"role": "king"}',
    ],
)
def test_broken_json(server: Server, body: bytes) -> None:
    with server.http() as http:
        answer = http.post("/v1/keys", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_argument"
    assert answer.json()["error"]["message"]


TABLES = {
    "empty": (b"", "no rows"),
    "header only": (b"a,b\n", "no rows"),
    "no label column": (b"a,b\n1,2\n", "label"),
    "broken gzip": (b"\x1f\x8b\x08\x00broken", ""),
    "not parquet": (b"PAR1" + b"\x00" * 100 + b"PAR1", ""),
}


@pytest.mark.parametrize("name", TABLES)
def test_broken_tables(server: Server, name: str) -> None:
    content, words = TABLES[name]
    dataset = "bad-" + name.replace(" ", "-")
    with server.http() as http:
        blob = http.put("/v1/blobs", content=content).json()["id"]
        made = http.post(
            "/v1/datasets",
            json={
                "name": dataset,
                "blob": blob,
                "filename": "table.csv",
                "label": "label",
            },
        )
        assert made.status_code == 202, made.text

        def over() -> dict | None:
            job = http.get(f"/v1/jobs/{made.json()['id']}?wait=5").json()
            return job if job["state"] in ("succeeded", "failed") else None

        job = eventually(over, within=60, what="the job")
        assert job and job["state"] == "failed"
        assert words in job["error"]["message"]
        assert len(job["error"]["message"]) > 20
        assert http.get(f"/v1/datasets/{dataset}").status_code == 404


def test_ragged_rows_go_to_the_quarantine_and_none_is_lost(server: Server) -> None:
    lines = ["a,b,label"] + [f"{n},{n}.5,{n % 2}" for n in range(1000)]
    lines[11] = "1,2"
    lines[500] = "1,2,3,4"
    lines[700] = "7,seven,1"
    with server.http() as http:
        blob = http.put("/v1/blobs", content="\n".join(lines).encode()).json()["id"]
        made = http.post(
            "/v1/datasets",
            json={
                "name": "ragged",
                "blob": blob,
                "filename": "r.csv",
                "label": "label",
            },
        ).json()

        def over() -> dict | None:
            job = http.get(f"/v1/jobs/{made['id']}?wait=5").json()
            return job if job["state"] in ("succeeded", "failed") else None

        job = eventually(over, within=60, what="the job")
        assert job and job["state"] == "succeeded", job
        version = job["result"]
        assert version["rows"] + version["quarantined"] == 1000
        path = f"/v1/datasets/ragged/versions/{version['version']}/quarantine"
        items = http.get(path).json()["items"]
        assert sorted(item["line"] for item in items) == [12, 501, 701]
        assert all(item["reason"] for item in items)
