"""Each exception class that boto3's model of Lambda has and Sundog answers with: type, status, message, Retry-After."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import Server, eventually

WAIT_FOR_FILE = """
import time
def handler(event, context):
    time.sleep(event["seconds"])
    return "done"
"""


def caught(call: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return error.value.response


def test_exception_classes_are_the_model_s(lambda_client: Any, deployed: Callable[..., str]) -> None:
    name = deployed()
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException) as missing:
        lambda_client.get_function(FunctionName="compat-none")
    assert missing.value.response["Type"] == "User"
    with pytest.raises(lambda_client.exceptions.ResourceConflictException):
        deployed(FunctionName=name)
    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException):
        lambda_client.update_function_configuration(FunctionName=name, Runtime="java21")
    with pytest.raises(lambda_client.exceptions.InvalidRequestContentException):
        lambda_client.invoke(FunctionName=name, Payload=b"{")
    with pytest.raises(lambda_client.exceptions.RequestTooLargeException):
        lambda_client.invoke(FunctionName=name, Payload=b'"' + b"x" * (6 * 1024 * 1024) + b'"')
    with pytest.raises(lambda_client.exceptions.PreconditionFailedException):
        lambda_client.publish_version(FunctionName=name, RevisionId="never")
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(lambda_client.exceptions.TooManyRequestsException) as throttled:
        lambda_client.invoke(FunctionName=name, Payload=b"1")
    assert int(throttled.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"]) >= 1


def test_every_error_carries_a_request_id_and_json(server: Server) -> None:
    with server.http() as http:
        for path, status in [
            ("/2015-03-31/functions/compat-none", 404),
            ("/2015-03-31/functions?MaxItems=x", 400),
            ("/2015-03-31/nothing", 404),
        ]:
            answer = http.get(path)
            assert answer.status_code == status, answer.text
            assert answer.headers["x-amzn-errortype"]
            assert answer.json()["Message"] == answer.json()["message"]
            assert answer.headers["x-amzn-requestid"]
        answer = http.request("PATCH", "/2015-03-31/functions")
        assert answer.status_code == 405
        assert "POST" in answer.headers["allow"]


def test_keys_that_do_not_fit(server: Server) -> None:
    with server.http() as http:
        made = http.post("/v1/keys", json={"role": "viewer"}).json()

    def with_key(identity: str, secret: str) -> Any:
        return boto3.client(
            "lambda",
            endpoint_url=server.url,
            region_name="eu-central-1",
            aws_access_key_id=identity,
            aws_secret_access_key=secret,
            config=Config(retries={"max_attempts": 0}),
        )

    viewer = with_key(made["id"], made["secret"])
    viewer.list_functions()
    denied = caught(viewer.delete_function, FunctionName="compat-none")
    assert (denied["Error"]["Code"], denied["ResponseMetadata"]["HTTPStatusCode"]) == ("AccessDeniedException", 403)
    unknown = caught(with_key("AKSDNONE", "x").list_functions)
    assert unknown["ResponseMetadata"]["HTTPStatusCode"] == 403
    with server.http() as http:
        assert http.delete(f"/v1/keys/{made['id']}").status_code == 200
    assert caught(viewer.list_functions)["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert httpx.get(f"{server.url}/2015-03-31/functions").status_code == 403
    assert httpx.get(f"{server.url}/v1/status").status_code == 401


def test_a_function_at_its_reserved_concurrency_waits_and_then_throttles(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server("--queue-limit", "1").start()
    client = server.boto3()
    server.deploy(package(app=WAIT_FOR_FILE), FunctionName="busy", Timeout=30)
    client.put_function_concurrency(FunctionName="busy", ReservedConcurrentExecutions=1)
    assert client.get_function_concurrency(FunctionName="busy")["ReservedConcurrentExecutions"] == 1

    def call(seconds: float) -> str:
        try:
            answer = client.invoke(FunctionName="busy", Payload=json.dumps({"seconds": seconds}))
        except client.exceptions.TooManyRequestsException as error:
            return f"throttled after {error.response['ResponseMetadata']['HTTPHeaders']['retry-after']}"
        return str(json.loads(answer["Payload"].read()))

    call(0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(call, 6)
        with server.http() as http:
            eventually(
                lambda: [each for each in http.get("/v1/fleet").json()["instances"] if each["state"] == "busy"],
                what="the busy instance",
            )
        assert call(0).startswith("throttled after")
        assert first.result() == "done"
    assert call(0) == "done"
    server.stop()


def test_account_settings_count_what_is_reserved(
    server: Server, lambda_client: Any, deployed: Callable[..., str]
) -> None:
    before = lambda_client.get_account_settings()
    name = deployed()
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=7)
    after = lambda_client.get_account_settings()
    assert after["AccountUsage"]["FunctionCount"] == before["AccountUsage"]["FunctionCount"] + 1
    assert after["AccountUsage"]["TotalCodeSize"] > before["AccountUsage"]["TotalCodeSize"]
    limits = ("UnreservedConcurrentExecutions", "ConcurrentExecutions")
    assert before["AccountLimit"][limits[0]] - after["AccountLimit"][limits[0]] == 7
    assert after["AccountLimit"][limits[1]] == 1000
    with server.http() as http:
        path = f"/2017-10-31/functions/{name}/concurrency"
        refused = http.put(path, json={"ReservedConcurrentExecutions": -1})
    assert refused.status_code == 400, refused.text
    assert refused.headers["x-amzn-errortype"] == "InvalidParameterValueException"


def test_an_answer_over_the_limit_is_the_function_s_error(lambda_client: Any, deployed: Callable[..., str]) -> None:
    name = deployed("def handler(event, context):\n    return 'x' * event\n")
    most = 6 * 1024 * 1024
    answer = lambda_client.invoke(FunctionName=name, Payload=str(most - 2).encode())
    assert "FunctionError" not in answer
    assert len(answer["Payload"].read()) == most
    # Lambda allows an answer 100 bytes more than a request.
    answer = lambda_client.invoke(FunctionName=name, Payload=str(most + 99).encode())
    assert answer["FunctionError"] == "Unhandled"
    assert "ResponseSizeTooLarge" in json.loads(answer["Payload"].read())["errorType"]
