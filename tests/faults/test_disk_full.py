"""A full disk under the data folder: a clear error, nothing half-written, the server goes on."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import Server

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
    client.create_function(
        FunctionName="kept",
        Runtime="python3.11",
        Role=role,
        Handler="app.handler",
        Code={"ZipFile": code},
    )
    client.get_waiter("function_active_v2").wait(FunctionName="kept", WaiterConfig={"Delay": 1})
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
        assert event.status_code in (202, 500, 503)
        assert http.get("/healthz").status_code == 200
        assert http.get(f"/v1/blobs/{kept}").content == whole

        ballast.unlink()
        assert http.put("/v1/blobs", content=os.urandom(2 * MEGABYTE)).status_code == 200
        assert client.invoke(FunctionName="kept", Payload=b"5")["Payload"].read() == b"5"
    assert server.stop() == 0
    server.start()
    with server.http() as http:
        assert http.get(f"/v1/blobs/{kept}").content == whole
