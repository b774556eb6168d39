"""What users' handlers do wrong, through boto3: Lambda's answers come back and the server goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from harness import Server, eventually

Make = Callable[..., str]


@pytest.fixture
def deploy(server: Server, package: Callable[..., bytes]) -> Make:
    """Deploys a handler's source and gives the function's name once it is active."""

    def make(
        source: str,
        *,
        handler: str = "app.handler",
        memory: int = 256,
        timeout: int = 5,
        wait: bool = True,
        **more: object,
    ) -> str:
        code = package(app=source)
        return server.deploy(code, wait=wait, Handler=handler, MemorySize=memory, Timeout=timeout, **more)

    return make


def call(server: Server, name: str, event: object = None, **more: object) -> tuple[dict, object]:
    """Invokes and gives the response and its decoded payload."""
    response = server.boto3().invoke(FunctionName=name, Payload=json.dumps(event).encode(), **more)
    payload = response["Payload"].read()
    return response, json.loads(payload) if payload else None


def test_answers_an_event(server: Server, deploy: Make) -> None:
    name = deploy("def handler(event, context):\n    return {'twice': event['n'] * 2, 'name': context.function_name}")
    response, answer = call(server, name, {"n": 21})
    assert answer == {"twice": 42, "name": name}
    assert response["StatusCode"] == 200
    assert "FunctionError" not in response
    assert response["ExecutedVersion"] == "$LATEST"


def test_what_init_made_is_whole_in_every_instance(server: Server, deploy: Make) -> None:
    """The template gathers its memory into huge pages: neither its content nor an instance's own copy suffers."""
    source = """
import hashlib

MADE = bytearray(bytes(range(256)) * 40_000)
TABLE = {n: str(n) * 5 for n in range(100_000)}

def handler(event, context):
    MADE[event] = (MADE[event] + 1) % 256
    return [hashlib.sha256(MADE).hexdigest(), all(v == str(k) * 5 for k, v in TABLE.items())]
"""
    name = deploy(source)
    made = bytearray(bytes(range(256)) * 40_000)
    for position in (0, 5_000_000, len(made) - 1):
        made[position] = (made[position] + 1) % 256
        _, answer = call(server, name, position)
        assert answer == [hashlib.sha256(made).hexdigest(), True]


def test_exception_comes_back_with_its_trace(server: Server, deploy: Make) -> None:
    name = deploy("def handler(event, context):\n    raise ValueError('the till is empty')")
    response, answer = call(server, name)
    assert response["FunctionError"] == "Unhandled"
    assert answer["errorType"] == "ValueError"
    assert answer["errorMessage"] == "the till is empty"
    assert any("handler" in line for line in answer["stackTrace"])


@pytest.mark.parametrize(
    ("source", "handler", "kind", "words"),
    [
        (
            "import nothing_of_that_name",
            "app.handler",
            "Runtime.ImportModuleError",
            "nothing_of_that_name",
        ),
        ("x = 1", "app.handler", "Runtime.HandlerNotFound", "handler"),
        (
            "def handler(event, context):\n  return 1",
            "other.handler",
            "Runtime.ImportModuleError",
            "other",
        ),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError", "app"),
        (
            "raise RuntimeError('no init today')",
            "app.handler",
            "RuntimeError",
            "no init today",
        ),
    ],
)
def test_init_that_fails(server: Server, deploy: Make, source: str, handler: str, kind: str, words: str) -> None:
    name = deploy(source, handler=handler, wait=False)  # it may be shown as Failed before it is called
    response, answer = call(server, name)
    assert response["FunctionError"] == "Unhandled"
    assert answer["errorType"] == kind
    assert words in answer["errorMessage"]


def test_exit_is_reported_and_the_next_call_works(server: Server, deploy: Make) -> None:
    name = deploy("import os\ndef handler(event, context):\n    if event == 'exit': os._exit(3)\n    return 'here'")
    response, answer = call(server, name, "exit")
    assert response["FunctionError"] == "Unhandled"
    assert answer["errorType"] == "Runtime.ExitError"
    assert call(server, name, "stay")[1] == "here"


def test_time_out_kills_the_whole_tree(server: Server, deploy: Make) -> None:
    source = """
import subprocess, time
def handler(event, context):
    if event == 'sleep':
        subprocess.Popen(['/bin/sleep', '600'])
        time.sleep(600)
    return subprocess.run(['/bin/ls', '/proc'], capture_output=True, text=True).stdout
"""
    name = deploy(source, timeout=1)
    response, answer = call(server, name, "sleep")
    assert response["FunctionError"] == "Unhandled"
    assert "Task timed out after 1.00 seconds" in answer["errorMessage"]
    assert call(server, name, "ls")[1]


def test_memory_over_the_limit_names_it(server: Server, deploy: Make) -> None:
    source = "def handler(event, context):\n    x = bytearray(event * 1024 * 1024)\n    x[::4096] = b'1' * len(x[::4096])\n    return len(x)"
    name = deploy(source, memory=128)
    response, answer = call(server, name, 400)
    assert response["FunctionError"] == "Unhandled"
    assert answer["errorType"] == "Runtime.OutOfMemory"
    assert "128" in answer["errorMessage"]
    assert call(server, name, 8)[1] == 8 * 1024 * 1024


def test_flood_of_output_is_cut(server: Server, deploy: Make) -> None:
    name = deploy(
        "def handler(event, context):\n    for _ in range(1000): print('x' * 100_000)\n    return 'done'",
        timeout=60,
    )
    assert call(server, name)[1] == "done"
    assert call(server, name)[1] == "done"


def test_fork_bomb_stays_inside(server: Server, deploy: Make) -> None:
    source = """
import os, signal
def handler(event, context):
    n = 0
    try:
        while n < 5000:
            if os.fork() == 0:
                signal.pause()
            n += 1
    except OSError:
        pass
    return n
"""
    name = deploy(source, timeout=60, memory=4096)
    _, answer = call(server, name)
    assert isinstance(answer, int), answer
    assert 0 < answer < 1100
    other = deploy("def handler(event, context):\n    return 'alive'")
    assert call(server, other)[1] == "alive"


def test_not_serialisable(server: Server, deploy: Make) -> None:
    name = deploy("def handler(event, context):\n    return object()")
    _, answer = call(server, name)
    assert answer["errorType"] == "Runtime.MarshalError"


def test_payload_limits(server: Server, deploy: Make) -> None:
    name = deploy("def handler(event, context):\n    return len(event)", timeout=30, memory=512)
    limit = 6 * 1024 * 1024
    client = server.boto3()
    answer = client.invoke(FunctionName=name, Payload=b'"' + b"x" * (limit - 2) + b'"')
    assert json.loads(answer["Payload"].read()) == limit - 2
    with pytest.raises(ClientError) as refused:
        client.invoke(FunctionName=name, Payload=b'"' + b"x" * (limit - 1) + b'"')
    assert refused.value.response["Error"]["Code"] == "RequestTooLargeException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_answer_over_the_limit(server: Server, deploy: Make) -> None:
    name = deploy("def handler(event, context):\n    return 'x' * event", timeout=30, memory=512)
    response, answer = call(server, name, 7 * 1024 * 1024)
    assert response["FunctionError"] == "Unhandled"
    assert answer["errorType"] == "Function.ResponseSizeTooLarge"
    assert call(server, name, 10)[1] == "x" * 10


def test_invalid_json_is_refused(server: Server, deploy: Make) -> None:
    name = deploy("def handler(event, context):\n    return 1")
    with pytest.raises(ClientError) as refused:
        server.boto3().invoke(FunctionName=name, Payload=b"{not json")
    assert refused.value.response["Error"]["Code"] == "InvalidRequestContentException"


def test_unknown_function(server: Server) -> None:
    with pytest.raises(ClientError) as refused:
        server.boto3().invoke(FunctionName="nobody", Payload=b"{}")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_log_tail_and_report(server: Server, deploy: Make) -> None:
    import base64

    name = deploy("def handler(event, context):\n    print('a line of mine')\n    return 1")
    response, _ = call(server, name, LogType="Tail")
    tail = base64.b64decode(response["LogResult"]).decode()
    assert "START RequestId:" in tail
    assert "a line of mine" in tail
    assert "Billed Duration:" in tail


def test_event_reaches_the_dead_letters_and_can_be_redriven(server: Server, deploy: Make) -> None:
    name = deploy("def handler(event, context):\n    raise ValueError('never')")
    response = server.boto3().invoke(FunctionName=name, InvocationType="Event", Payload=b'{"n": 1}')
    assert response["StatusCode"] == 202
    with server.http() as http:

        def dead() -> list[dict]:
            return http.get(f"/v1/functions/{name}/dead-letters").json()["items"]

        (letter,) = eventually(dead, within=60, what="the dead letter")
        assert letter["attempts"] == 3
        assert "never" in letter["reason"]
        assert http.post(f"/v1/functions/{name}/dead-letters/{letter['id']}/redrive").status_code == 200
        eventually(dead, within=60, what="the dead letter again")
