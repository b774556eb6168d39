"""AWS's own client against the server: every operation that Sundog has, with Lambda's answers, errors and paging."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import Server

ROLE = "arn:aws:iam::000000000000:role/any"
ECHO = """
import json, os
def handler(event, context):
    return {"event": event, "version": context.function_version, "level": os.environ.get("LEVEL"),
            "arn": context.invoked_function_arn}
def fails(event, context):
    print("about to fail")
    raise ValueError("no such client")
"""


def package(text: str = ECHO, name: str = "app.py") -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return memory.getvalue()


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.key_id,
        aws_secret_access_key=server.secret,
        # botocore refuses some of what is tested here by itself; the server must, too.
        config=Config(retries={"max_attempts": 0}, read_timeout=60, parameter_validation=False),
    )


@pytest.fixture
def make(client: Any) -> Iterator[Callable[..., str]]:
    """Creates functions that are deleted after the test."""
    made: list[str] = []

    def create(**settings: Any) -> str:
        name = settings.pop("FunctionName", f"compat-{uuid.uuid4().hex[:12]}")
        made.append(name)
        client.create_function(
            FunctionName=name,
            Runtime=settings.pop("Runtime", "python3.11"),
            Role=ROLE,
            Handler=settings.pop("Handler", "app.handler"),
            Code={"ZipFile": settings.pop("ZipFile", package())},
            **settings,
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name)
        return name

    yield create
    for name in made:
        with contextlib.suppress(client.exceptions.ResourceNotFoundException):
            client.delete_function(FunctionName=name)


def refused(code: str, status: int, call: Callable[..., Any], **arguments: Any) -> str:
    """The message with which a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    assert answer["Error"]["Code"] == code, answer
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == status, answer
    return str(answer["Error"]["Message"])


def invoke(client: Any, name: str, event: Any = None, **more: Any) -> Any:
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event), **more)
    return json.loads(answer["Payload"].read())


def test_create_answers_as_lambda_does(client: Any, make: Callable[..., str]) -> None:
    zipped = package()
    name = make(
        ZipFile=zipped,
        Description="an echo",
        MemorySize=256,
        Timeout=7,
        Environment={"Variables": {"LEVEL": "high"}},
        EphemeralStorage={"Size": 1024},
        Tags={"team": "risk"},
    )
    found = client.get_function(FunctionName=name)
    shown = found["Configuration"]
    assert shown["FunctionArn"] == f"arn:aws:lambda:local:000000000000:function:{name}"
    assert (shown["State"], shown["LastUpdateStatus"]) == ("Active", "Successful")
    assert (shown["MemorySize"], shown["Timeout"], shown["Version"]) == (
        256,
        7,
        "$LATEST",
    )
    assert shown["Environment"] == {"Variables": {"LEVEL": "high"}}
    assert shown["EphemeralStorage"] == {"Size": 1024}
    assert shown["CodeSize"] == len(zipped)
    assert found["Tags"] == {"team": "risk"}
    same = client.get_function_configuration(FunctionName=shown["FunctionArn"])
    assert same["RevisionId"] == shown["RevisionId"]
    client.get_waiter("function_active").wait(FunctionName=name)
    client.get_waiter("function_updated_v2").wait(FunctionName=name)
    client.get_waiter("function_exists").wait(FunctionName=name)


def test_the_code_comes_back(client: Any, make: Callable[..., str], server: Server) -> None:
    zipped = package()
    name = make(ZipFile=zipped)
    location = client.get_function(FunctionName=name)["Code"]["Location"]
    answer = httpx.get(location, headers={"Authorization": f"Bearer {server.token}"})
    assert answer.content == zipped
    assert httpx.get(location).status_code == 401


def test_create_twice_conflicts(client: Any, make: Callable[..., str]) -> None:
    name = make()
    message = refused(
        "ResourceConflictException",
        409,
        client.create_function,
        FunctionName=name,
        Runtime="python3.11",
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": package()},
    )
    assert name in message


def test_of_two_creates_at_once_one_wins(client: Any) -> None:
    name = f"compat-{uuid.uuid4().hex[:12]}"

    def create(_: int) -> str:
        try:
            client.create_function(
                FunctionName=name,
                Runtime="python3.11",
                Role=ROLE,
                Handler="app.handler",
                Code={"ZipFile": package()},
            )
        except client.exceptions.ResourceConflictException:
            return "conflict"
        return "created"

    with ThreadPoolExecutor(6) as pool:
        outcomes = Counter(pool.map(create, range(6)))
    client.delete_function(FunctionName=name)
    assert outcomes == {"created": 1, "conflict": 5}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"MemorySize": 127}, "MemorySize"),
        ({"MemorySize": 10241}, "10240"),
        ({"Timeout": 901}, "Timeout"),
        ({"Runtime": "nodejs20.x"}, "nodejs20.x"),
        ({"Description": "x" * 257}, "Description"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "AWS_REGION"),
        ({"Environment": {"Variables": {"BIG": "x" * 5000}}}, "4KB"),
        ({"EphemeralStorage": {"Size": 10241}}, "EphemeralStorage"),
        ({"Layers": ["arn:aws:lambda:local:000000000000:layer:other:1"]}, "other"),
        (
            {"VpcConfig": {"SubnetIds": ["s-1"], "SecurityGroupIds": ["g-1"]}},
            "VpcConfig",
        ),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "key"}}, "S3"),
        ({"Code": {"ZipFile": b"no zip"}}, "unzip"),
        ({"Code": {"ZipFile": package(name="../evil.py")}}, "../evil.py"),
        ({"Tags": {"sundog:kind": "magic"}}, "magic"),
    ],
)
def test_create_refuses(client: Any, settings: dict[str, Any], words: str) -> None:
    name = f"compat-{uuid.uuid4().hex[:12]}"
    arguments: dict[str, Any] = {
        "FunctionName": name,
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": package()},
    }
    message = refused(
        "InvalidParameterValueException",
        400,
        client.create_function,
        **(arguments | settings),
    )
    assert words in message
    refused("ResourceNotFoundException", 404, client.get_function, FunctionName=name)


def test_unknown_names(client: Any) -> None:
    none = "compat-none"
    calls: list[tuple[Any, dict[str, Any]]] = [
        (client.get_function, {}),
        (client.get_function_configuration, {}),
        (client.delete_function, {}),
        (client.publish_version, {}),
        (client.list_versions_by_function, {}),
        (client.list_aliases, {}),
        (client.get_alias, {"Name": "live"}),
        (client.update_function_configuration, {"Timeout": 5}),
        (client.update_function_code, {"ZipFile": package()}),
        (client.put_function_concurrency, {"ReservedConcurrentExecutions": 1}),
        (client.get_function_concurrency, {}),
        (client.invoke, {}),
    ]
    for call, more in calls:
        message = refused("ResourceNotFoundException", 404, call, FunctionName=none, **more)
        assert none in message


def test_update_changes_what_runs(client: Any, make: Callable[..., str]) -> None:
    name = make()
    assert invoke(client, name, {"a": 1})["level"] is None
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"LEVEL": "low"}})
    client.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert invoke(client, name)["level"] == "low"
    changed = client.update_function_code(FunctionName=name, ZipFile=package("def handler(e, c):\n    return 'new'\n"))
    assert client.get_function_configuration(FunctionName=name)["CodeSha256"] == changed["CodeSha256"]
    assert invoke(client, name) == "new"


def test_a_stale_revision_is_refused(client: Any, make: Callable[..., str]) -> None:
    name = make()
    old = client.get_function_configuration(FunctionName=name)["RevisionId"]
    client.update_function_configuration(FunctionName=name, Timeout=5, RevisionId=old)
    calls: list[tuple[Any, dict[str, Any]]] = [
        (client.update_function_configuration, {"Timeout": 6}),
        (client.update_function_code, {"ZipFile": package()}),
        (client.publish_version, {}),
    ]
    for call, more in calls:
        refused(
            "PreconditionFailedException",
            412,
            call,
            FunctionName=name,
            RevisionId=old,
            **more,
        )


def test_a_dry_run_of_code_changes_nothing(client: Any, make: Callable[..., str]) -> None:
    name = make()
    before = client.get_function_configuration(FunctionName=name)
    dry = client.update_function_code(FunctionName=name, ZipFile=package("x = 1"), DryRun=True)
    assert dry["CodeSha256"] != before["CodeSha256"]
    assert client.get_function_configuration(FunctionName=name)["CodeSha256"] == before["CodeSha256"]


def test_versions(client: Any, make: Callable[..., str]) -> None:
    name = make(Publish=True)
    assert client.publish_version(FunctionName=name)["Version"] == "1", "nothing has changed"
    client.update_function_configuration(FunctionName=name, Description="two")
    second = client.publish_version(FunctionName=name, Description="the second")
    assert (second["Version"], second["Description"]) == ("2", "the second")
    assert second["FunctionArn"].endswith(f":{name}:2")
    pages = client.get_paginator("list_versions_by_function").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 2}
    )
    listed = [[each["Version"] for each in page["Versions"]] for page in pages]
    assert listed == [["$LATEST", "1"], ["2"]]
    assert invoke(client, f"{name}:1")["version"] == "1"
    assert invoke(client, name, Qualifier="2")["version"] == "2"
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="2")
    client.delete_function(FunctionName=name, Qualifier="2")
    refused("ResourceNotFoundException", 404, client.invoke, FunctionName=f"{name}:2")
    client.update_function_configuration(FunctionName=name, Description="three")
    assert client.publish_version(FunctionName=name)["Version"] == "3"


def test_functions_are_listed_by_page(client: Any, make: Callable[..., str]) -> None:
    names = {make(Publish=True) for _ in range(3)}
    pages = list(client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
    listed = [each["FunctionName"] for page in pages for each in page["Functions"]]
    assert names <= set(listed)
    assert len(listed) == len(set(listed))
    assert all(len(page["Functions"]) <= 2 for page in pages)
    versions = [
        (each["FunctionName"], each["Version"])
        for page in client.get_paginator("list_functions").paginate(
            FunctionVersion="ALL", PaginationConfig={"PageSize": 2}
        )
        for each in page["Functions"]
    ]
    for name in names:
        assert [v for n, v in versions if n == name] == ["$LATEST", "1"]
    assert len(versions) == len(set(versions))


def test_an_alias_splits_traffic(client: Any, make: Callable[..., str]) -> None:
    name = make(Publish=True)
    client.update_function_configuration(FunctionName=name, Description="two")
    client.publish_version(FunctionName=name)
    made = client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert made["AliasArn"] == f"arn:aws:lambda:local:000000000000:function:{name}:live"
    assert {invoke(client, f"{name}:live")["version"] for _ in range(5)} == {"1"}
    split = client.update_alias(
        FunctionName=name,
        Name="live",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )
    assert split["FunctionVersion"] == "1"
    assert split["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.5}}
    counts: Counter[str] = Counter()
    for _ in range(60):
        answer = client.invoke(FunctionName=name, Qualifier="live", Payload="1")
        counts[answer["ExecutedVersion"]] += 1
    assert set(counts) == {"1", "2"}, counts
    refused(
        "ResourceConflictException",
        409,
        client.delete_function,
        FunctionName=name,
        Qualifier="2",
    )
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2", RoutingConfig={})
    assert "RoutingConfig" not in client.get_alias(FunctionName=name, Name="live")
    assert invoke(client, f"{name}:live")["version"] == "2"
    assert [a["Name"] for a in client.list_aliases(FunctionName=name, FunctionVersion="2")["Aliases"]] == ["live"]
    assert not client.list_aliases(FunctionName=name, FunctionVersion="1")["Aliases"]
    client.delete_alias(FunctionName=name, Name="live")
    refused(
        "ResourceNotFoundException",
        404,
        client.get_alias,
        FunctionName=name,
        Name="live",
    )


def test_alias_errors(client: Any, make: Callable[..., str]) -> None:
    name = make(Publish=True)
    create = client.create_alias
    refused(
        "ResourceNotFoundException",
        404,
        create,
        FunctionName=name,
        Name="a",
        FunctionVersion="9",
    )
    refused(
        "InvalidParameterValueException",
        400,
        create,
        FunctionName=name,
        Name="123",
        FunctionVersion="1",
    )
    made = create(FunctionName=name, Name="a", FunctionVersion="1")
    refused(
        "ResourceConflictException",
        409,
        create,
        FunctionName=name,
        Name="a",
        FunctionVersion="1",
    )
    client.update_alias(FunctionName=name, Name="a", Description="changed")
    refused(
        "PreconditionFailedException",
        412,
        client.update_alias,
        FunctionName=name,
        Name="a",
        RevisionId=made["RevisionId"],
    )


def test_invoke(client: Any, make: Callable[..., str]) -> None:
    name = make()
    answer = client.invoke(FunctionName=name, Payload='{"\u00e9": [1, 2.5, null]}', LogType="Tail")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answer
    body = json.loads(answer["Payload"].read())
    assert body["event"] == {"\u00e9": [1, 2.5, None]}
    assert body["arn"].startswith(f"arn:aws:lambda:local:000000000000:function:{name}")
    log = base64.b64decode(answer["LogResult"]).decode()
    assert "START RequestId" in log
    assert "REPORT RequestId" in log
    assert json.loads(client.invoke(FunctionName=name)["Payload"].read())["event"] == {}


def test_what_the_handler_raises_comes_back(client: Any, make: Callable[..., str]) -> None:
    name = make(Handler="app.fails")
    answer = client.invoke(FunctionName=name, Payload="{}", LogType="Tail")
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    error = json.loads(answer["Payload"].read())
    assert (error["errorType"], error["errorMessage"]) == (
        "ValueError",
        "no such client",
    )
    assert any("app.py" in line for line in error["stackTrace"])
    assert "about to fail" in base64.b64decode(answer["LogResult"]).decode()


def test_a_stack_is_as_awslambdaric_tells_it(client: Any, make: Callable[..., str]) -> None:
    source = "def handler(event, context):\n    return 1 + inner(event)\n\ndef inner(event):\n    return event['a']['b'] + 2\n"
    name = make(ZipFile=package(source))
    error = json.loads(client.invoke(FunctionName=name, Payload='{"a": {}}')["Payload"].read())
    assert [line.split(", ", 1)[1] for line in error["stackTrace"]] == [
        "line 2, in handler\n    return 1 + inner(event)\n",
        "line 5, in inner\n    return event['a']['b'] + 2\n",
    ]


def test_invocation_types(client: Any, make: Callable[..., str]) -> None:
    name = make()
    assert client.invoke(FunctionName=name, InvocationType="DryRun")["StatusCode"] == 204
    event = client.invoke(FunctionName=name, InvocationType="Event", Payload="{}")
    assert event["StatusCode"] == 202
    assert event["Payload"].read() == b""
    refused(
        "ResourceNotFoundException",
        404,
        client.invoke,
        FunctionName="compat-none",
        InvocationType="Event",
    )


def test_payload_limits(client: Any, make: Callable[..., str]) -> None:
    name = make(ZipFile=package("def handler(e, c):\n    return len(e)\n"))
    most = 6 * 1024 * 1024
    assert invoke(client, name, "x" * (most - 2)) == most - 2
    refused(
        "RequestTooLargeException",
        413,
        client.invoke,
        FunctionName=name,
        Payload=json.dumps("x" * (most - 1)),
    )
    refused(
        "RequestTooLargeException",
        413,
        client.invoke,
        FunctionName=name,
        InvocationType="Event",
        Payload=json.dumps("x" * (1 << 20)),
    )


@pytest.mark.parametrize("payload", ["{", "{'a': 1}", "[1,]", "nan", b'"\xff"', "1 2"])
def test_what_is_no_json_is_refused(client: Any, make: Callable[..., str], payload: str | bytes) -> None:
    refused(
        "InvalidRequestContentException",
        400,
        client.invoke,
        FunctionName=make(),
        Payload=payload,
    )


def test_qualifiers_must_agree(client: Any, make: Callable[..., str]) -> None:
    name = make(Publish=True)
    refused(
        "InvalidParameterValueException",
        400,
        client.invoke,
        FunctionName=f"{name}:1",
        Qualifier="$LATEST",
    )


def test_reserved_concurrency(client: Any, make: Callable[..., str]) -> None:
    name = make()
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName=name)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert client.get_function(FunctionName=name)["Concurrency"] == {"ReservedConcurrentExecutions": 0}
    refused("TooManyRequestsException", 429, client.invoke, FunctionName=name, Payload="1")
    client.delete_function_concurrency(FunctionName=name)
    assert invoke(client, name)["version"] == "$LATEST"


def test_tags(client: Any, make: Callable[..., str]) -> None:
    name = make(Tags={"a": "1"})
    arn = client.get_function_configuration(FunctionName=name)["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"b": "2"})
    assert client.list_tags(Resource=arn)["Tags"] == {"a": "1", "b": "2"}
    client.untag_resource(Resource=arn, TagKeys=["a"])
    assert client.list_tags(Resource=arn)["Tags"] == {"b": "2"}


def test_account_settings(client: Any, make: Callable[..., str]) -> None:
    make()
    settings = client.get_account_settings()
    assert settings["AccountLimit"]["CodeSizeUnzipped"] == 262144000
    assert settings["AccountUsage"]["FunctionCount"] >= 1


def test_a_wrong_secret_is_refused(server: Server) -> None:
    wrong = boto3.client(
        "lambda",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.key_id,
        aws_secret_access_key="wrong",
        config=Config(retries={"max_attempts": 0}),
    )
    with pytest.raises(ClientError) as caught:
        wrong.list_functions()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
