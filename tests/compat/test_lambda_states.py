"""States and waiters: Pending while an environment is built, Active, and Failed with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError, WaiterError

from harness import Server, eventually

LAYER = "arn:aws:lambda:local:000000000000:layer:sundog-environment-{}:1"
SOON = {"Delay": 1, "MaxAttempts": 60}
# A package that exists, at a version that does not.
IMPOSSIBLE = "six==0.0.0.1"


@pytest.fixture
def http(server: Server) -> httpx.Client:
    return server.http()


def environment(http: httpx.Client, *packages: str) -> dict[str, Any]:
    made = http.post("/v1/environments", json={"packages": list(packages)})
    assert made.status_code == 200, made.text
    return made.json()


def test_a_function_waits_for_its_environment(
    lambda_client: Any, deployed: Callable[..., str], http: httpx.Client
) -> None:
    made = environment(http, "six==1.17.0")
    source = "import six\ndef handler(event, context):\n    return six.__version__\n"
    name = deployed(source, wait=False, Layers=[LAYER.format(made["id"])])
    seen = lambda_client.get_function_configuration(FunctionName=name)
    assert seen["State"] in ("Pending", "Active")
    if seen["State"] == "Pending":
        assert seen["StateReasonCode"] == "Creating"
        assert seen["StateReason"]
    lambda_client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=SOON)
    answer = lambda_client.invoke(FunctionName=name, Payload=b"1")
    assert json.loads(answer["Payload"].read()) == "1.17.0"
    shown = lambda_client.get_function_configuration(FunctionName=name)
    assert shown["Layers"][0]["Arn"] == LAYER.format(made["id"])
    assert shown["Layers"][0]["CodeSize"] > 0


def test_an_environment_that_fails_fails_its_function(
    lambda_client: Any, deployed: Callable[..., str], http: httpx.Client
) -> None:
    made = environment(http, IMPOSSIBLE)
    name = deployed(wait=False, Layers=[LAYER.format(made["id"])])
    with pytest.raises(WaiterError):
        lambda_client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=SOON)
    shown = lambda_client.get_function_configuration(FunctionName=name)
    assert shown["State"] == "Failed"
    assert shown["StateReasonCode"]
    assert "six" in shown["StateReason"], shown["StateReason"]
    built = http.get(f"/v1/environments/{made['id']}", params={"wait": 60}).json()
    assert built["state"] == "failed"
    assert "six" in built["log"]
    with pytest.raises(ClientError) as caught:
        lambda_client.invoke(FunctionName=name, Payload=b"1")
    answer = caught.value.response
    assert 400 <= answer["ResponseMetadata"]["HTTPStatusCode"] < 500, answer
    lambda_client.update_function_configuration(FunctionName=name, Layers=[])
    lambda_client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=SOON)
    assert "FunctionError" not in lambda_client.invoke(FunctionName=name, Payload=b"1")


def test_an_update_to_a_failing_environment_leaves_what_ran(
    lambda_client: Any, deployed: Callable[..., str], http: httpx.Client
) -> None:
    name = deployed()
    made = environment(http, IMPOSSIBLE)
    eventually(
        lambda: http.get(f"/v1/environments/{made['id']}").json()["state"] == "failed", within=60, what="the failure"
    )
    with_it = {"FunctionName": name, "Layers": [LAYER.format(made["id"])]}
    try:
        lambda_client.update_function_configuration(**with_it)
    except ClientError as refused:
        assert refused.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    else:
        shown = lambda_client.get_function_configuration(FunctionName=name)
        assert shown["LastUpdateStatus"] == "Failed"
        assert shown["LastUpdateStatusReason"]
    assert "FunctionError" not in lambda_client.invoke(FunctionName=name, Payload=b"1")


def test_what_is_not_there_is_not_waited_for(lambda_client: Any) -> None:
    with pytest.raises(WaiterError):
        lambda_client.get_waiter("function_exists").wait(
            FunctionName="compat-none", WaiterConfig={"Delay": 0, "MaxAttempts": 2}
        )
    with pytest.raises(ClientError):
        lambda_client.get_function(FunctionName="compat-none")


def test_an_unknown_environment_is_refused(lambda_client: Any, deployed: Callable[..., str]) -> None:
    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException) as caught:
        deployed(Layers=[LAYER.format("nothing")])
    assert "nothing" in str(caught.value)


def test_an_init_that_raises_comes_back_and_is_shown(lambda_client: Any, deployed: Callable[..., str]) -> None:
    name = deployed("import os\nos.environ['MISSING']\ndef handler(event, context):\n    pass\n", wait=False)
    answer = lambda_client.invoke(FunctionName=name, Payload=b"1", LogType="Tail")
    assert answer["FunctionError"] == "Unhandled"
    error = json.loads(answer["Payload"].read())
    assert error["errorType"] == "KeyError"
    assert any("app.py" in line for line in error["stackTrace"])
