"""Response streaming: boto3's invoke_with_response_stream, the plain chunked route, and the SDK."""

from __future__ import annotations

import base64
import json
import os
import socket
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from botocore.exceptions import ClientError

from harness import Server, eventually

Deploy = Callable[..., str]

PIECES = """
def handler(event, context):
    print("streaming", event)
    for piece in event["pieces"]:
        yield piece
    if event.get("then") == "raise":
        raise ValueError("too late")
    if event.get("then") == "sleep":
        import time
        time.sleep(60)
    if event.get("then") == "exit":
        import os
        os._exit(3)
"""


def events_of(client: Any, name: str, event: Any, **more: Any) -> tuple[dict[str, Any], list[bytes], dict[str, Any]]:
    response = client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event).encode(), **more)
    events = list(response["EventStream"])
    (end,) = [e["InvokeComplete"] for e in events if "InvokeComplete" in e]
    assert "InvokeComplete" in events[-1], "it is the last"
    return response, [e["PayloadChunk"]["Payload"] for e in events if "PayloadChunk" in e], end


def test_pieces_arrive_as_they_were_yielded(lambda_client: Any, deployed: Deploy) -> None:
    name = deployed(PIECES)
    response, pieces, end = events_of(lambda_client, name, {"pieces": ["one", "zwei ü", "three"]}, LogType="Tail")
    assert pieces == [b"one", "zwei ü".encode(), b"three"]
    assert response["StatusCode"] == 200
    assert response["ExecutedVersion"] == "$LATEST"
    assert response["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    assert not end.get("ErrorCode")
    tail = base64.b64decode(end["LogResult"]).decode()
    assert "streaming" in tail and "REPORT RequestId: " + response["ResponseMetadata"]["RequestId"] in tail


def test_a_handler_that_returns_gives_one_piece(lambda_client: Any, deployed: Deploy) -> None:
    name = deployed("def handler(event, context):\n    return [event, 2]\n")
    assert events_of(lambda_client, name, 1)[1] == [b"[1, 2]"]
    assert "LogResult" not in events_of(lambda_client, name, 1)[2]


GATE = """
import os
def handler(event, context):
    if event == "open":
        open("/tmp/open", "w").close()
    return os.path.exists("/tmp/open")
"""
WAITS = """
import time
from sundog.runtime import host
def handler(event, context):
    yield "first"
    while not host.invoke(event, "look"):
        time.sleep(0.01)
    yield "second"
"""


def test_the_first_piece_arrives_while_the_handler_runs(lambda_client: Any, deployed: Deploy) -> None:
    """The handler goes on only when the test, having the first piece, opens its gate."""
    gate = deployed(GATE, Timeout=30)
    lambda_client.put_function_concurrency(FunctionName=gate, ReservedConcurrentExecutions=1)
    name = deployed(WAITS, Timeout=60)
    lambda_client.invoke(FunctionName=gate, Payload=b'"look"')
    response = lambda_client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(gate).encode())
    stream = iter(response["EventStream"])
    assert next(stream)["PayloadChunk"]["Payload"] == b"first"
    assert json.loads(lambda_client.invoke(FunctionName=gate, Payload=b'"open"')["Payload"].read()) is True
    assert next(stream)["PayloadChunk"]["Payload"] == b"second"
    assert "InvokeComplete" in next(stream)


@pytest.mark.parametrize(
    ("then", "kind", "words"),
    [
        ("raise", "ValueError", "too late"),
        ("sleep", "Sandbox.Timedout", "2.00 seconds"),
        ("exit", "Runtime.ExitError", "3"),
    ],
)
def test_what_goes_wrong_on_the_way_comes_at_the_end(
    lambda_client: Any, deployed: Deploy, then: str, kind: str, words: str
) -> None:
    name = deployed(PIECES, Timeout=2)
    _, pieces, end = events_of(lambda_client, name, {"pieces": ["a", "b"], "then": then})
    assert pieces == [b"a", b"b"]
    assert end["ErrorCode"] == "Unhandled"
    details = json.loads(end["ErrorDetails"])
    assert details["errorType"] == kind
    assert words in details["errorMessage"]
    assert events_of(lambda_client, name, {"pieces": ["c"]})[1] == [b"c"], "the next call works"


def test_refusals_are_those_of_invoke(lambda_client: Any, deployed: Deploy) -> None:
    name = deployed(PIECES)

    def refused(**arguments: Any) -> str:
        with pytest.raises(ClientError) as failed:
            lambda_client.invoke_with_response_stream(**({"FunctionName": name} | arguments))
        return str(failed.value.response["Error"]["Code"])

    assert refused(FunctionName="nobody") == "ResourceNotFoundException"
    assert refused(Payload=b"{no") == "InvalidRequestContentException"
    assert refused(Payload=b'"' + b"x" * 6_291_456 + b'"') == "RequestTooLargeException"
    assert refused(InvocationType="Event") == "InvalidParameterValueException"
    dry = lambda_client.invoke_with_response_stream(FunctionName=name, InvocationType="DryRun")
    assert dry["StatusCode"] == 204
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert refused() == "TooManyRequestsException"


def test_a_version_s_number_stands_in_the_header(lambda_client: Any, deployed: Deploy) -> None:
    name = deployed(PIECES)
    version = lambda_client.publish_version(FunctionName=name)["Version"]
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    assert events_of(lambda_client, name, {"pieces": ["x"]}, Qualifier="live")[0]["ExecutedVersion"] == version


def test_invoke_gathers_what_streams(lambda_client: Any, deployed: Deploy) -> None:
    name = deployed(PIECES)
    answer = lambda_client.invoke(FunctionName=name, Payload=b'{"pieces": ["[1,", "2]"]}')
    assert answer["Payload"].read() == b"[1,2]"


def test_the_plain_route_sends_the_pieces_themselves(server: Server, deployed: Deploy) -> None:
    name = deployed(PIECES)
    with server.http() as http:
        with http.stream("POST", f"/v1/functions/{name}/stream", json={"pieces": ["one ", "two"]}) as answer:
            assert answer.headers["transfer-encoding"] == "chunked"
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["x-amz-executed-version"] == "$LATEST"
            assert answer.read() == b"one two"
        failed = http.post(f"/v1/functions/{name}/stream", json={"pieces": [], "then": "raise"})
        assert failed.status_code == 502
        assert failed.json()["errorType"] == "ValueError"
        with pytest.raises(httpx.RemoteProtocolError):  # a body that breaks off must not look whole
            http.post(f"/v1/functions/{name}/stream", json={"pieces": ["a"], "then": "raise"})
        assert http.post("/v1/functions/nobody/stream", json={}).status_code == 404


def test_the_sdk_streams(server: Server, deployed: Deploy) -> None:
    from sundog import FunctionError

    function = server.cloud().functions.get(deployed(PIECES))
    assert list(function.stream({"pieces": ["a", "b"]})) == [b"a", b"b"]
    pieces = function.stream({"pieces": ["a"], "then": "raise"})
    assert next(pieces) == b"a"
    with pytest.raises(FunctionError, match="too late"):
        next(pieces)


FLOOD = """
def handler(event, context):
    for _ in range(event["pieces"]):
        yield b"x" * 262_144
"""


def open_stream(server: Server, name: str, event: Any) -> socket.socket:
    """A client that has asked, on a socket with a small buffer, and reads nothing yet."""
    where = urlsplit(server.url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    client.connect((where.hostname, where.port))
    body = json.dumps(event).encode()
    client.sendall(
        f"POST /v1/functions/{name}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return client


def resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def instances(server: Server, name: str) -> list[str]:
    with server.http() as http:
        return [i["state"] for i in http.get("/v1/fleet").json()["instances"] if i["function"] == name]


def test_a_slow_client_holds_its_instance_and_no_memory(server: Server, deployed: Deploy) -> None:
    """100 MB are on their way to a client that reads nothing: they stay in the instance until it does."""
    name = deployed(FLOOD, Timeout=60)
    assert server.process is not None
    with open_stream(server, name, {"pieces": 1}) as first:  # whatever the first stream costs once
        while first.recv(65_536):
            if instances(server, name) == ["idle"]:
                break
    before = resident_mb(server.process.pid)
    with open_stream(server, name, {"pieces": 400}) as client:
        client.recv(1)
        assert instances(server, name) == ["busy"]
        assert resident_mb(server.process.pid) - before < 20
        received = 0
        while received < 400 * 262_144:
            received += len(client.recv(1 << 20))
        assert resident_mb(server.process.pid) - before < 20
    eventually(lambda: instances(server, name) in (["idle"], []), what="the end of the invocation")


def test_a_client_that_goes_away_ends_nothing_else(server: Server, lambda_client: Any, deployed: Deploy) -> None:
    name = deployed(FLOOD, Timeout=60)
    with open_stream(server, name, {"pieces": 100}) as client:
        client.recv(1)
    eventually(lambda: "busy" not in instances(server, name), what="the end of the invocation")
    with server.http() as http:
        (record,) = [r for r in http.get("/v1/usage").json()["items"] if r["function"] == name]
    assert record["outcome"] == "ok"
    assert record["bytes_out"] == 100 * 262_144
    assert record["billed_ms"] >= record["handler_ms"] > 0
    assert len(b"".join(events_of(lambda_client, name, {"pieces": 2})[1])) == 2 * 262_144


def test_a_custom_runtime_streams(lambda_client: Any) -> None:
    import io
    import zipfile

    script = r"""#!/bin/bash
host=${AWS_LAMBDA_RUNTIME_API%:*} port=${AWS_LAMBDA_RUNTIME_API#*:} root=/2018-06-01/runtime/invocation
while true; do
    exec 4<>"/dev/tcp/$host/$port"
    printf 'GET %s/next HTTP/1.1\r\nConnection: close\r\n\r\n' "$root" >&4
    while IFS= read -r line <&4 && [ "$line" != $'\r' ]; do
        case $line in Lambda-Runtime-Aws-Request-Id:*) id=${line#*: } id=${id%$'\r'} ;; esac
    done
    exec 4>&- 4<>"/dev/tcp/$host/$port"
    printf 'POST %s/%s/response HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n' "$root" "$id" >&4
    printf 'Lambda-Runtime-Function-Response-Mode: streaming\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n' >&4
    printf 'Lambda-Runtime-Function-Error-Type: Late\r\nLambda-Runtime-Function-Error-Body: %s\r\n\r\n' \
        "$(printf '{"errorType":"Late","errorMessage":"after all"}' | base64 -w0)" >&4
    cat <&4 >/dev/null
done
"""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, script)
    name = f"custom-{uuid.uuid4().hex[:12]}"
    lambda_client.create_function(
        FunctionName=name,
        Runtime="provided.al2023",
        Role="arn:aws:iam::000000000000:role/any",
        Handler="any",
        Code={"ZipFile": memory.getvalue()},
    )
    lambda_client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    _, pieces, end = events_of(lambda_client, name, {})
    assert b"".join(pieces) == b"onetwo"
    assert (end["ErrorCode"], json.loads(end["ErrorDetails"])["errorMessage"]) == ("Unhandled", "after all")
    lambda_client.delete_function(FunctionName=name)
