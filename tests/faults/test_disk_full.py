"""A full disk under the data folder: a clear error, nothing half-written, the server goes on."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lambda_calls import create, invoke

from harness import Server, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
MEGABYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 24 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Takes all but `leave` bytes of the folder's disk."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - leave))
    return ballast


def test_every_store_says_so_and_goes_on(
    small_disk: Path, fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server(data=small_disk / "data").start()
    client = server.boto3()
    code = package(app="def handler(event, context):\n    return event")
    role = "arn:aws:iam::000000000000:role/any"
    server.deploy(code, FunctionName="kept", wait=True)
    with server.http() as http:
        whole = os.urandom(MEGABYTE)
        kept = http.put("/v1/blobs", content=whole).json()["id"]
        ballast = fill(small_disk, leave=0)

        blob = http.put("/v1/blobs", content=os.urandom(4 * MEGABYTE))
        assert blob.status_code == 503, blob.text
        assert "space" in json.dumps(blob.json()).lower()

        refused = 0
        for n in range(40):  # the catalog and the queue have some pages to reuse: go on until they have none
            body = {
                "FunctionName": f"f{n}",
                "Runtime": "python3.11",
                "Role": role,
                "Handler": "app.handler",
                "Code": {"ZipFile": base64.b64encode(package(app=f"# {os.urandom(20000).hex()}")).decode()},
            }
            refused += http.post("/2015-03-31/functions", json=body).status_code == 503
        assert refused
        event = http.post(
            "/2015-03-31/functions/kept/invocations",
            content=json.dumps({"x": "y" * 500_000}),
            headers={"X-Amz-Invocation-Type": "Event"},
        )
        assert event.status_code in (202, 503)
        assert http.get("/healthz").status_code == 200
        assert http.get(f"/v1/blobs/{kept}").content == whole

        ballast.unlink()
        assert http.put("/v1/blobs", content=os.urandom(2 * MEGABYTE)).status_code == 200
        assert client.invoke(FunctionName="kept", Payload=b"5")["Payload"].read() == b"5"
    assert server.stop() == 0
    server.start()
    with server.http() as http:
        assert http.get(f"/v1/blobs/{kept}").content == whole


def test_usage_is_kept_and_calls_are_refused_until_it_is_written(
    small_disk: Path, fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server(data=small_disk / "data").start()
    source = "def handler(event, context):\n    for n in range(event): print('line', n, 'x' * 60)\n    return event"
    with server.http() as http:
        create(http, "prints", package(app=source))
        answered = [invoke(http, "prints", 3).headers["x-amzn-RequestId"]]
        ballast = fill(small_disk, leave=0)
        refused = None
        for _ in range(200):  # until the page that the ledger has open is full
            answer = invoke(http, "prints", 300)
            if answer.status_code != 200:
                refused = answer
                break
            assert answer.json() == 300
            answered.append(answer.headers["x-amzn-RequestId"])
        assert refused is not None, "a full disk never stopped the calls"
        assert refused.status_code == 503, refused.text
        assert "ledger" in refused.text
        assert "space" in refused.text
        assert invoke(http, "prints", 1).status_code == 503
        assert http.get("/healthz").status_code == 200
        assert http.get("/v1/functions/prints/logs").status_code == 200  # writes what waits to be written

        ballast.unlink()
        after = invoke(http, "prints", 2)
        assert after.status_code == 200, after.text
        answered.append(after.headers["x-amzn-RequestId"])
        booked = [record["request_id"] for record in http.get("/v1/usage?limit=1000").json()["items"]]
        assert sorted(booked) == sorted(answered)

        def gap() -> bool:
            lines = http.get("/v1/functions/prints/logs?limit=10000&after=0").text
            return "lines before this one were not kept: " in lines and "No space left on device" in lines

        eventually(gap, what="the line that says which lines of the log were lost")
    assert server.stop() == 0
    server.start()
    with server.http() as http:
        booked = [record["request_id"] for record in http.get("/v1/usage?limit=1000").json()["items"]]
        assert sorted(booked) == sorted(answered)


def test_usage_that_was_never_written_is_told_at_the_end(
    small_disk: Path, fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server(data=small_disk / "data").start()
    with server.http() as http:
        create(http, "echo", package(app="def handler(event, context):\n    return event"))
        assert invoke(http, "echo", 1).status_code == 200
        fill(small_disk, leave=0)
        last = ""
        while (answer := invoke(http, "echo", 1)).status_code == 200:
            last = answer.headers["x-amzn-RequestId"]
        assert answer.status_code == 503
    assert server.stop() == 0
    (told,) = [line for line in server.tail().splitlines() if "ledger_not_synced" in line]
    assert last in told
