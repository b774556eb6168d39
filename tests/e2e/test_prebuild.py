"""What is deployed has its template before anybody calls: the first call only forks, and a broken init shows early."""

from __future__ import annotations

import base64
from collections.abc import Callable

from harness import Server, eventually

ECHO = "import json\ndef handler(event, context):\n    return event\n"
BROKEN = "raise RuntimeError('no model here')\n" + ECHO


def fleet(server: Server) -> dict:
    with server.http() as http:
        return http.get("/v1/fleet").json()


def templates(server: Server, name: str) -> list[str]:
    """The states of a function's templates."""
    return [one["state"] for one in fleet(server)["templates"] if one["function"] == name]


def all_built(server: Server) -> None:
    eventually(lambda: fleet(server)["to_build"] == 0, within=120, what="nothing left to build")


def test_the_first_call_finds_a_template_and_pays_for_no_init(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server().start()
    first = server.deploy(package(app=ECHO))
    eventually(lambda: templates(server, first) == ["ready"], what="a template that nobody waits for")
    assert fleet(server)["instances"] == []
    answer = server.boto3().invoke(FunctionName=first, Payload=b"1", LogType="Tail")
    assert answer["Payload"].read() == b"1"
    assert "Init Duration" not in base64.b64decode(answer["LogResult"]).decode()
    with server.http() as http:
        assert [one["init_ms"] for one in http.get("/v1/usage").json()["items"]] == [0]
    # Another start of the server builds what is deployed from then on, and nothing of before.
    assert server.stop() == 0
    server.start()
    second = server.deploy(package(app=ECHO))
    eventually(lambda: templates(server, second) == ["ready"], what="the second one's template")
    assert templates(server, first) == []
    # A change has a template of its own; the old one's goes.
    server.boto3().update_function_configuration(FunctionName=second, MemorySize=256)
    eventually(lambda: fleet(server)["to_build"] > 0 or templates(server, second) == ["ready"], what="the change")
    all_built(server)
    assert templates(server, second) == ["ready"]
    assert server.stop() == 0


def test_a_broken_init_shows_before_anybody_calls(server: Server, package: Callable[..., bytes]) -> None:
    name = server.deploy(package(app=BROKEN))
    client = server.boto3()

    def shown() -> dict:
        found = client.get_function_configuration(FunctionName=name)
        return found if found["State"] == "Failed" else {}

    failed = eventually(shown, what="Failed")
    assert "no model here" in failed["StateReason"]
    assert failed["StateReasonCode"] == "FunctionError.RuntimeInitError"
    logged = [line.text for line in server.cloud().functions.get(name).logs()]
    assert any("no model here" in line for line in logged), logged
    assert "FunctionError" in client.invoke(FunctionName=name, Payload=b"1"), "a call tries again"
    client.update_function_code(FunctionName=name, ZipFile=package(app=ECHO))
    eventually(lambda: templates(server, name) == ["ready"], what="the mended one's template")
    assert client.get_function_configuration(FunctionName=name)["State"] == "Active"


def test_many_deploys_in_a_row_keep_to_the_memory(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server("--memory-mb", "256").start()
    names = [server.deploy(package(app=ECHO)) for _ in range(12)]
    eventually(lambda: len(fleet(server)["templates"]) >= 3, within=60, what="some templates")
    seen = fleet(server)
    assert seen["memory_bytes"] <= 0.75 * seen["budget_bytes"]
    assert sum(one["state"] == "starting" for one in seen["templates"]) <= 2
    for name in reversed(names):
        assert server.boto3().invoke(FunctionName=name, Payload=b"7")["Payload"].read() == b"7"
    assert server.stop() == 0


def test_it_can_be_switched_off(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    server = fresh_server("--no-prebuild").start()
    first, second = (server.deploy(package(app=ECHO)) for _ in range(2))
    assert fleet(server)["to_build"] == 0
    assert server.boto3().invoke(FunctionName=second, Payload=b"7")["Payload"].read() == b"7"
    assert templates(server, first) == []
    assert server.stop() == 0
