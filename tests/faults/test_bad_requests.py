"""Hostile and broken requests against the real server: each gets a clear answer, and the server goes on."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import pytest
from lambda_calls import job_over

from harness import Server


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


def ingest(http: httpx.Client, name: str, content: bytes, **more: object) -> dict:
    """The ended ingest job of a file with a label."""
    blob = http.put("/v1/blobs", content=content).json()["id"]
    body = {"name": name, "blob": blob, "filename": "table.csv", "label": "label", **more}
    made = http.post("/v1/datasets", json=body)
    assert made.status_code == 202, made.text
    return job_over(http, made.json()["id"])


HEADER = b"a,b,label\n"
TABLES = {
    "header only": (HEADER, {}, "no rows"),
    "no label column": (b"a,b\n1,2\n", {}, 'no column "label"'),
    "broken gzip": (b"\x1f\x8b\x08\x00broken", {}, "gz"),
    "not parquet": (b"PAR1" + b"\x00" * 100 + b"PAR1", {}, "Parquet"),
    "latin-1 as utf-8": (HEADER + "caf\xe9,1,0\n".encode("latin-1"), {}, "not valid UTF-8"),
    "unknown encoding": (HEADER + b"1,2,0\n", {"encoding": "klingon"}, '"klingon"'),
    "nothing but nul": (HEADER + b"\x00\x00\n" * 5, {}, "5 rows"),
}


@pytest.mark.parametrize("name", TABLES)
def test_broken_tables(server: Server, name: str) -> None:
    content, more, words = TABLES[name]
    dataset = "bad-" + name.replace(" ", "-")
    with server.http() as http:
        job = ingest(http, dataset, content, **more)
        assert job["state"] == "failed"
        assert job["error"]["code"] == "invalid_argument"
        assert words in job["error"]["message"]
        assert http.get(f"/v1/datasets/{dataset}").status_code == 404


def test_an_empty_file_is_refused_at_once(server: Server) -> None:
    with server.http() as http:
        blob = http.put("/v1/blobs", content=b"").json()["id"]
        refused = http.post("/v1/datasets", json={"name": "bad-empty", "blob": blob, "filename": "table.csv"})
    assert refused.status_code == 400, refused.text
    assert "empty" in refused.json()["error"]["message"]


LABELS = {
    "one class": (["1"], "There is nothing to learn from one class", "is always"),
    "missing": (["0", "1", ""], 'missing.drop_rows ["label"]', "20 of 60 rows have no label"),
    "not a number": (["0.5", "nan", "NaN"], 'missing.drop_rows ["label"]', "40 of 60 rows have no label"),
    "none at all": ([""], 'missing.drop_rows ["label"]', "60 of 60 rows have no label"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_nothing_can_be_learnt_from(server: Server, name: str) -> None:
    labels, hint, words = LABELS[name]
    dataset = "label-" + name.replace(" ", "-")
    rows = "".join(f"{n},{n % 7},{labels[n % len(labels)]}\n" for n in range(60)).encode()
    with server.http() as http:
        assert ingest(http, dataset, HEADER + rows)["state"] == "succeeded"
        path = f"/v1/datasets/{dataset}/versions/1"
        profile = job_over(http, http.post(f"{path}/profile", json={}).json()["id"])
        assert profile["state"] == "succeeded"
        assert any("label" in warning for warning in profile["result"]["warnings"])
        settings = {"balance": "undersample", "split": {"by": "stratified", "parts": [0.6, 0.2, 0.2]}}
        job = job_over(http, http.post(f"{path}/preprocess", json=settings).json()["id"])
        assert job["state"] == "failed"
        assert words in job["error"]["message"]
        assert hint in job["error"]["hint"]
        assert http.get(f"/v1/datasets/{dataset}").json()["versions"] == [1]


def test_encodings_that_are_named_or_marked_are_read(server: Server) -> None:
    text = "a,b,label\ncaf\xe9,1,0\nth\xe9,2,1\n"
    with server.http() as http:
        for name, content, more in (
            ("utf-16", text.encode("utf-16"), {}),
            ("latin-1", text.encode("latin-1"), {"encoding": "latin-1"}),
            ("windows-1252", text.encode("cp1252"), {"encoding": "windows-1252"}),
        ):
            assert ingest(http, f"read-{name}", content, **more)["state"] == "succeeded"
            rows = http.get(f"/v1/datasets/read-{name}/versions/1/rows").json()["rows"]
            assert [row[0] for row in rows] == ["caf\xe9", "th\xe9"]


def test_ragged_rows_go_to_the_quarantine_and_none_is_lost(server: Server) -> None:
    lines = ["a,b,label"] + [f"{n},{n}.5,{n % 2}" for n in range(1000)]
    lines[11] = "1,2"
    lines[500] = "1,2,3,4"
    lines[700] = "7,seven,1"
    with server.http() as http:
        job = ingest(http, "ragged", "\n".join(lines).encode())
        assert job["state"] == "succeeded", job
        version = job["result"]
        assert version["rows"] + version["quarantined"] == 1000
        path = f"/v1/datasets/ragged/versions/{version['version']}/quarantine"
        items = http.get(path).json()["items"]
        assert sorted(item["line"] for item in items) == [12, 501, 701]
        assert all(item["reason"] for item in items)
