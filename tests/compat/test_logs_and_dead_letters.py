"""Logs (whole, by page, followed) and dead letters (listed, driven again) over HTTP, for functions that boto3 made."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from harness import Server, eventually

PRINTS = """
def handler(event, context):
    for number in range(event["lines"]):
        print("line", event.get("mark", ""), number)
    if event.get("raise"):
        raise RuntimeError("as asked")
    return event["lines"]
"""


@pytest.fixture
def http(server: Server) -> httpx.Client:
    return server.http()


def lines_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_logs_by_page(lambda_client: Any, deployed: Callable[..., str], http: httpx.Client) -> None:
    name = deployed(PRINTS)
    asked = [lambda_client.invoke(FunctionName=name, Payload=json.dumps({"lines": 5})) for _ in range(2)]
    ids = [each["ResponseMetadata"]["RequestId"] for each in asked]
    path = f"/v1/functions/{name}/logs"
    whole = lines_of(http.get(path))
    assert {line["request_id"] for line in whole} == set(ids)
    sequences = [line["sequence"] for line in whole]
    assert sequences == sorted(set(sequences))
    first = [line["text"] for line in whole if line["request_id"] == ids[0]]
    assert first[0].startswith(f"START RequestId: {ids[0]}")
    assert first[1:6] == [f"line  {n}" for n in range(5)]
    assert first[6].startswith(f"END RequestId: {ids[0]}")
    assert first[7].startswith(f"REPORT RequestId: {ids[0]}")
    paged, after = [], 0
    while page := lines_of(http.get(path, params={"after": after, "limit": 3})):
        assert len(page) <= 3
        paged += page
        after = page[-1]["sequence"]
    assert paged == whole
    assert http.get("/v1/functions/compat-none/logs").status_code == 404
    assert http.get(path, params={"after": "x"}).status_code == 400


def test_logs_are_followed(
    server: Server, lambda_client: Any, deployed: Callable[..., str], http: httpx.Client
) -> None:
    name = deployed(PRINTS)
    lambda_client.invoke(FunctionName=name, Payload=b'{"lines": 1, "mark": "before"}')
    seen: list[str] = []
    arrived = threading.Event()

    def follow() -> None:
        with (
            server.http() as other,
            other.stream("GET", f"/v1/functions/{name}/logs", params={"follow": 1}) as answer,
        ):
            for line in answer.iter_lines():
                seen.append(json.loads(line)["text"])
                arrived.set()
                if "line last 0" in seen:
                    return

    reader = threading.Thread(target=follow)
    reader.start()
    assert arrived.wait(20), "what was logged before comes at once"
    lambda_client.invoke(FunctionName=name, Payload=b'{"lines": 3, "mark": "while"}')
    eventually(lambda: "line while 2" in seen, what="the lines of a later invocation")
    lambda_client.invoke(FunctionName=name, Payload=b'{"lines": 1, "mark": "last"}')
    reader.join(20)
    assert not reader.is_alive()
    assert seen.count("line before 0") == 1
    assert [text for text in seen if text.startswith("line while")] == [f"line while {n}" for n in range(3)]


def test_events_that_fail_become_dead_letters(
    lambda_client: Any, deployed: Callable[..., str], package: Callable[..., bytes], http: httpx.Client
) -> None:
    name = deployed(PRINTS)
    event = {"lines": 1, "mark": "dead", "raise": True}
    accepted = lambda_client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
    request_id = accepted["ResponseMetadata"]["RequestId"]
    path = f"/v1/functions/{name}/dead-letters"
    (letter,) = eventually(lambda: http.get(path).json()["items"], within=60, what="the dead letter")
    assert letter["request_id"] == request_id
    assert json.loads(letter["payload"]) == event
    assert letter["attempts"] == 3
    assert "as asked" in letter["reason"]
    logged = [line["text"] for line in lines_of(http.get(f"/v1/functions/{name}/logs"))]
    assert logged.count("line dead 0") == 3
    # Driven again once the function is mended: it runs and the letter is gone.
    mended = package(app=PRINTS.replace('event.get("raise")', "False"))
    lambda_client.update_function_code(FunctionName=name, ZipFile=mended)
    assert http.post(f"{path}/{letter['id']}/redrive").status_code == 200
    eventually(
        lambda: [t["text"] for t in lines_of(http.get(f"/v1/functions/{name}/logs"))].count("line dead 0") == 4,
        within=60,
        what="the event's run after it was driven again",
    )
    eventually(lambda: not http.get(path).json()["items"], within=60, what="the letter's going")
    assert http.post(f"{path}/{letter['id']}/redrive").status_code == 404
    assert http.post(f"{path}/x/redrive").status_code == 400
