"""Provisioned concurrency by boto3, on real instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from harness import Server, eventually

SOURCE = "def handler(event, context):\n    return 1\n"


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, int]:
    """The exception and status of a call that must not work."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_instances_are_ready_before_anybody_calls(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server("--idle-instance", "1", "--idle-template", "1").start()
    client = server.boto3()
    made = client.create_function(
        FunctionName="kept",
        Runtime="python3.11",
        Role="arn:aws:iam::000000000000:role/any",
        Handler="app.handler",
        Code={"ZipFile": package(app=SOURCE)},
        Publish=True,
    )
    assert made["Version"] == "1"
    client.create_alias(FunctionName="kept", Name="live", FunctionVersion="1")
    of_live = {"FunctionName": "kept", "Qualifier": "live"}

    assert refused(
        client.put_provisioned_concurrency_config,
        FunctionName="kept",
        Qualifier="$LATEST",
        ProvisionedConcurrentExecutions=1,
    ) == ("InvalidParameterValueException", 400)
    assert refused(
        client.put_provisioned_concurrency_config, FunctionName="kept", Qualifier="9", ProvisionedConcurrentExecutions=1
    ) == ("ResourceNotFoundException", 404)
    assert refused(client.get_provisioned_concurrency_config, **of_live) == (
        "ProvisionedConcurrencyConfigNotFoundException",
        404,
    )

    put = client.put_provisioned_concurrency_config(**of_live, ProvisionedConcurrentExecutions=2)
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert put["RequestedProvisionedConcurrentExecutions"] == 2
    assert put["Status"] in ("IN_PROGRESS", "READY")

    def status() -> str:
        return client.get_provisioned_concurrency_config(**of_live)["Status"]

    eventually(lambda: status() == "READY", within=30, what="two ready instances")
    with server.http() as http:

        def kept() -> list[str]:
            return [one["state"] for one in http.get("/v1/fleet").json()["instances"]]

        assert kept() == ["idle", "idle"]
        # The answer of an instance that was ready waited for no start.
        assert client.invoke(**of_live)["Payload"].read() == b"1"
        record = http.get("/v1/usage").json()["items"][-1]
        assert record["restore_ms"] == record["init_ms"] == 0
        client.put_function_concurrency(FunctionName="kept", ReservedConcurrentExecutions=2)
        assert refused(client.put_provisioned_concurrency_config, **of_live, ProvisionedConcurrentExecutions=3) == (
            "InvalidParameterValueException",
            400,
        )
        assert refused(
            client.put_provisioned_concurrency_config,
            FunctionName="kept",
            Qualifier="1",
            ProvisionedConcurrentExecutions=1,
        ) == ("ResourceConflictException", 409)
        (listed,) = client.list_provisioned_concurrency_configs(FunctionName="kept")["ProvisionedConcurrencyConfigs"]
        assert listed["FunctionArn"].endswith(":function:kept:live")
        assert listed["AvailableProvisionedConcurrentExecutions"] == 2

        # It outlives the server, and is over when it is deleted.
        server.kill()
        server.start()
    client = server.boto3()
    eventually(lambda: status() == "READY", within=30, what="two ready instances of the next server")
    client.delete_provisioned_concurrency_config(**of_live)
    assert client.list_provisioned_concurrency_configs(FunctionName="kept")["ProvisionedConcurrencyConfigs"] == []
    with server.http() as http:
        eventually(lambda: not http.get("/v1/fleet").json()["instances"], within=30, what="no instance")


def test_a_function_that_cannot_start_is_shown_as_failed(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server().start()
    client = server.boto3()
    broken = server.deploy(package(app="raise RuntimeError('no model here')\n"), Publish=True)
    named = {"FunctionName": broken, "Qualifier": "1"}
    client.put_provisioned_concurrency_config(**named, ProvisionedConcurrentExecutions=1)

    def failed() -> dict[str, Any] | None:
        found = client.get_provisioned_concurrency_config(**named)
        return found if found["Status"] == "FAILED" else None

    assert "no model here" in eventually(failed, within=30, what="FAILED")["StatusReason"]
