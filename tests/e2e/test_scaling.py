"""0 → N → 0 on the real server, and a crash that disturbs nobody."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError

from harness import Server, eventually


def create(server: Server, zipped: bytes, **more: object) -> str:
    """Deploys `app.handler` and gives its name."""
    return server.deploy(zipped, wait=True, **{"MemorySize": 128, "Timeout": 30, **more})


def instances(server: Server, name: str) -> list[dict]:
    """The fleet's instances of one function."""
    with server.http() as http:
        return [i for i in http.get("/v1/fleet").json()["instances"] if i["function"] == name]


def test_zero_to_many_to_zero(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    server = fresh_server("--idle-instance", "1", "--idle-template", "2").start()
    name = create(
        server,
        package(app="import time\ndef handler(event, context):\n    time.sleep(1)\n    return 1"),
    )
    client = server.boto3()
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(
                lambda _: client.invoke(FunctionName=name, Payload=b"1")["Payload"].read(),
                range(6),
            )
        )
        assert answers == [b"1"] * 6
    assert len(instances(server, name)) >= 2
    eventually(lambda: not instances(server, name), within=20, what="no instance left")
    with server.http() as http:
        eventually(
            lambda: not http.get("/v1/fleet").json()["templates"],
            within=20,
            what="no template left",
        )
    assert client.invoke(FunctionName=name, Payload=b"1")["Payload"].read() == b"1"


def test_reserved_concurrency_refuses_with_429(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server("--queue-limit", "1").start()
    name = create(
        server,
        package(app="import time\ndef handler(event, context):\n    time.sleep(event)\n    return 1"),
    )
    client = server.boto3()
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    busy = threading.Thread(target=lambda: server.boto3().invoke(FunctionName=name, Payload=b"6"))
    busy.start()
    eventually(
        lambda: [i for i in instances(server, name) if i["state"] == "busy"],
        what="a busy instance",
    )
    with server.http() as http:
        refused = http.post(f"/2015-03-31/functions/{name}/invocations", content=b"0")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    try:
        client.invoke(FunctionName=name, Payload=b"0")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "TooManyRequestsException"
    busy.join()


def test_crashes_of_one_leave_the_other_untouched(server: Server, package: Callable[..., bytes]) -> None:
    steady = create(server, package(app="def handler(event, context):\n    return event"))
    crash = create(
        server,
        package(
            app="import os\ndef handler(event, context):\n"
            "    if event % 4 == 0: os._exit(1)\n"
            "    if event % 4 == 1: os.kill(os.getpid(), 11)\n"
            "    if event % 4 == 2: raise ValueError('x')\n"
            "    bytearray(10**9)\n"
        ),
    )
    wrong: list[object] = []
    over = threading.Event()

    def hammer() -> None:
        client = server.boto3()
        count = 0
        while not over.is_set():
            count += 1
            answer = client.invoke(FunctionName=steady, Payload=json.dumps(count).encode())
            if "FunctionError" in answer or json.loads(answer["Payload"].read()) != count:
                wrong.append(answer)

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    client = server.boto3()
    for n in range(24):
        assert client.invoke(FunctionName=crash, Payload=str(n).encode())["FunctionError"] == "Unhandled"
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_weighted_alias_moves_traffic(server: Server, package: Callable[..., bytes]) -> None:
    name = create(
        server,
        package(app="def handler(event, context):\n    return context.function_version"),
    )
    client = server.boto3()
    client.publish_version(FunctionName=name)
    client.update_function_code(
        FunctionName=name,
        ZipFile=package(app="def handler(e, c):\n    return c.function_version"),
    )
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    client.publish_version(FunctionName=name)
    client.create_alias(
        FunctionName=name,
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )
    seen = {client.invoke(FunctionName=name, Qualifier="live", Payload=b"1")["Payload"].read() for _ in range(60)}
    assert seen == {b'"1"', b'"2"'}
