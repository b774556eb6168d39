"""A function whose init fails: shown as Failed with its reason, tried again, Active once it works, and nobody else's trouble."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

from harness import Server, eventually

FAILS_FOR = 3  # seconds
UNTIL = "import os, time\nif time.time() < float(os.environ['FAILS_UNTIL']):\n    raise RuntimeError('the model is not there yet')\n"
ECHO = "def handler(event, context):\n    return event\n"


def test_failed_with_its_reason_then_active_again(server: Server, package: Callable[..., bytes]) -> None:
    client = server.boto3()
    steady = server.deploy(package(app=ECHO))
    wrong: list[object] = []
    over = threading.Event()

    def hammer() -> None:
        mine = server.boto3()
        while not over.is_set():
            answer = mine.invoke(FunctionName=steady, Payload=b"7")
            if "FunctionError" in answer or answer["Payload"].read() != b"7":
                wrong.append(answer)

    other = threading.Thread(target=hammer)
    other.start()
    variables = {"FAILS_UNTIL": str(time.time() + FAILS_FOR)}
    name = server.deploy(package(app=UNTIL + ECHO), Environment={"Variables": variables})

    def state() -> tuple[str, str]:
        found = client.get_function(FunctionName=name)["Configuration"]
        return found["State"], found.get("StateReason", "")

    first = client.invoke(FunctionName=name, Payload=b"1")
    assert first["FunctionError"] == "Unhandled"
    assert json.loads(first["Payload"].read())["errorMessage"].endswith("the model is not there yet")
    eventually(lambda: state()[0] == "Failed", what="Failed")
    assert "the model is not there yet" in state()[1]
    assert [f.state for f in server.cloud().functions.list() if f.name == name] == ["Failed"]

    def works() -> bool:
        answer = client.invoke(FunctionName=name, Payload=b"1")
        return "FunctionError" not in answer and answer["Payload"].read() == b"1"

    eventually(works, within=60, what="an init that works")
    eventually(lambda: state()[0] == "Active", what="Active")
    over.set()
    other.join()
    assert wrong == []
