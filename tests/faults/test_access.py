"""Wrong, revoked and missing keys by bearer token and by boto3's signature, roles that may not, and two creates at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from lambda_calls import FUNCTIONS, create, function_body

from harness import Server

ROLES = ("viewer", "invoker", "deployer", "admin")
SOURCE = "def handler(event, context):\n    return event"


def lambda_with(server: Server, key_id: str, secret: str):
    """boto3's client with another key."""
    return boto3.client(
        "lambda",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"max_attempts": 0}),
    )


def new_key(server: Server, role: str) -> dict:
    """A key of the first tenant."""
    with server.http() as http:
        made = http.post("/v1/keys", json={"role": role})
    assert made.status_code in (200, 201), made.text
    return made.json()


def bearer(server: Server, authorization: str | None) -> httpx.Response:
    """One read with this header."""
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.get(f"{server.url}/v1/status", headers=headers)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer sk-wrong",
        "Basic dTpw",
        "Bearer " + "x" * 4000,
        "AWS4-HMAC-SHA256 nonsense",
    ],
)
def test_a_missing_or_wrong_token(server: Server, authorization: str | None) -> None:
    answer = bearer(server, authorization)
    assert answer.status_code == 401, answer.text
    error = answer.json()["error"]
    assert error["code"] == "unauthenticated"
    assert error["message"]
    assert server.token not in answer.text


def test_a_wrong_signature(server: Server) -> None:
    for key_id, secret in ((server.key_id, "wrong"), ("AKSDUNKNOWN", server.secret)):
        with pytest.raises(ClientError) as refused:
            lambda_with(server, key_id, secret).list_functions()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (401, 403)
        assert refused.value.response["Error"]["Message"]


def test_a_revoked_key_opens_nothing_any_more(server: Server) -> None:
    key = new_key(server, "admin")
    client = lambda_with(server, key["id"], key["secret"])
    assert bearer(server, f"Bearer {key['token']}").status_code == 200
    client.list_functions()
    with server.http() as http:
        assert http.delete(f"/v1/keys/{key['id']}").status_code in (200, 204)
    assert bearer(server, f"Bearer {key['token']}").status_code == 401
    with pytest.raises(ClientError):
        client.list_functions()


@pytest.mark.parametrize("role", ROLES)
def test_what_each_role_may_by_boto3(server: Server, role: str, package: Callable[..., bytes]) -> None:
    key = new_key(server, role)
    client = lambda_with(server, key["id"], key["secret"])
    name = f"roles-{role}"
    with server.http() as http:
        create(http, name, package(app=SOURCE))
    body = function_body(f"made-by-{role}", package(app=SOURCE))
    body["Code"] = {"ZipFile": package(app=SOURCE)}
    attempts = {
        "viewer": [lambda: client.get_function(FunctionName=name), client.list_functions],
        "invoker": [lambda: client.invoke(FunctionName=name, Payload=b"1")],
        "deployer": [
            lambda: client.create_function(**body),
            lambda: client.publish_version(FunctionName=name),
            lambda: client.delete_function(FunctionName=name),
        ],
    }
    for least, calls in attempts.items():
        for call in calls:
            if ROLES.index(role) >= ROLES.index(least):
                call()
                continue
            with pytest.raises(ClientError) as refused:
                call()
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
            assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    keys = httpx.get(f"{server.url}/v1/keys", headers={"Authorization": f"Bearer {key['token']}"})
    assert keys.status_code == (200 if role == "admin" else 403)


def test_two_creates_at_once(server: Server, package: Callable[..., bytes]) -> None:
    for n in range(5):
        start = threading.Barrier(4)
        bodies = [function_body(f"race-{n}", package(app=f"{SOURCE}  # {who}")) for who in range(4)]

        def one(body: dict, start: threading.Barrier = start) -> int:
            with server.http() as http:
                start.wait()
                return http.post(FUNCTIONS, json=body).status_code

        with ThreadPoolExecutor(4) as threads:
            assert sorted(threads.map(one, bodies)) == [201, 409, 409, 409]


def test_two_aliases_and_two_datasets_at_once(server: Server, package: Callable[..., bytes]) -> None:
    with server.http() as http:
        create(http, "race-alias", package(app=SOURCE))
        blob = http.put("/v1/blobs", content=b"a,b\n1,2\n3,4\n").json()["id"]
    start = threading.Barrier(4)

    def alias(_: int) -> int:
        with server.http() as http:
            start.wait()
            body = {"Name": "live", "FunctionVersion": "$LATEST"}
            return http.post(f"{FUNCTIONS}/race-alias/aliases", json=body).status_code

    def dataset(_: int) -> int:
        with server.http() as http:
            start.wait()
            made = http.post("/v1/datasets", json={"name": "race-data", "blob": blob, "filename": "t.csv"}).json()
            while (job := http.get(f"/v1/jobs/{made['id']}?wait=5").json())["state"] in ("queued", "running"):
                pass
            return job["result"]["version"]

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(alias, range(4))) == [201, 409, 409, 409]
        # Another create of a dataset is its next version: each gets one of its own.
        assert sorted(threads.map(dataset, range(4))) == [1, 2, 3, 4]
