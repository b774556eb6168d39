"""Starting, stopping, keys and roles of the real server."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from botocore.exceptions import ClientError

from harness import Server, eventually, server_command


def test_idle_server_is_small(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server().start()
    status = Path(f"/proc/{server.pid}/status").read_text()
    resident_kb = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert resident_kb < 60 * 1024


def test_no_call_without_a_key_but_health(server: Server) -> None:
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert httpx.get(f"{server.url}/metrics").status_code == 200
    for path in (
        "/v1/status",
        "/v1/keys",
        "/2015-03-31/functions/",
        "/v1/datasets",
        "/v1/bill",
        "/v1/fleet",
    ):
        assert httpx.get(f"{server.url}{path}").status_code in (401, 403), path


def test_metrics_can_be_closed(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server("--no-metrics").start()
    assert httpx.get(f"{server.url}/metrics").status_code in (401, 403)
    with server.http() as http:
        assert http.get("/metrics").status_code == 200


def test_roles_and_revocation(server: Server) -> None:
    with server.http() as http:
        made = http.post("/v1/keys", json={"role": "viewer", "name": "looker"}).json()
        listed = http.get("/v1/keys").json()["items"]
        assert made["id"] in [key["id"] for key in listed]
        assert all("token" not in key and "secret" not in key for key in listed)
        headers = {"Authorization": f"Bearer {made['token']}"}
        assert httpx.get(f"{server.url}/v1/status", headers=headers).json()["role"] == "viewer"
        assert httpx.post(f"{server.url}/v1/keys", json={"role": "admin"}, headers=headers).status_code == 403
        assert http.delete(f"/v1/keys/{made['id']}").status_code in (200, 204)
        assert httpx.get(f"{server.url}/v1/status", headers=headers).status_code == 401


def test_boto3_with_a_wrong_secret(server: Server) -> None:
    import boto3

    client = boto3.client(
        "lambda",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.key_id,
        aws_secret_access_key="not-the-secret",
    )
    with pytest.raises(ClientError) as refused:
        client.list_functions()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (401, 403)


def test_second_server_on_the_folder_is_refused(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server().start()
    second = subprocess.run(
        server_command(server.data),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode != 0
    assert "Another server uses the data folder" in second.stderr


def test_newer_folder_is_refused(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server().start()
    assert server.stop() == 0
    (server.data / "layout-version").write_text("999\n")
    second = subprocess.run(
        server_command(server.data),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode != 0
    assert "layout 999" in second.stderr


def test_stop_lets_invocations_finish(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    server = fresh_server().start()
    client = server.boto3()
    code = package(app="import time\ndef handler(event, context):\n    time.sleep(3)\n    return 'whole'")
    server.deploy(code, FunctionName="slow", Timeout=30, wait=True)
    answers: list[bytes] = []
    caller = threading.Thread(target=lambda: answers.append(client.invoke(FunctionName="slow")["Payload"].read()))
    caller.start()
    with server.http() as http:
        eventually(
            lambda: any(i["state"] == "busy" for i in http.get("/v1/fleet").json()["instances"]),
            what="a busy instance",
        )
    assert server.stop() == 0
    caller.join()
    assert answers == [b'"whole"']


def test_data_survives_a_restart(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    server = fresh_server().start()
    client = server.boto3()
    server.deploy(package(app="def handler(event, context):\n    return 7"), FunctionName="kept", wait=True)
    assert client.invoke(FunctionName="kept")["Payload"].read() == b"7"
    server.kill()
    server.start()
    client = server.boto3()
    assert client.invoke(FunctionName="kept")["Payload"].read() == b"7"
    with server.http() as http:
        assert sum(line["invocations"] for line in http.get("/v1/bill?by=function").json()["lines"]) == 2
