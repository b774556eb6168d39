"""Every way to name a function, a version and an alias, signed as boto3 does and as the AWS CLI and others encode paths."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from harness import Server

ARN = "arn:aws:lambda:local:000000000000:function:"


def version_of(client: Any, name: str, **more: Any) -> str:
    answer = client.invoke(FunctionName=name, Payload=b"1", **more)
    assert json.loads(answer["Payload"].read())["version"] == answer["ExecutedVersion"]
    return str(answer["ExecutedVersion"])


@pytest.fixture
def name(lambda_client: Any, deployed: Callable[..., str]) -> str:
    """A function with version 1 and the alias live-1_x on it."""
    made = deployed(Publish=True)
    lambda_client.create_alias(FunctionName=made, Name="live-1_x", FunctionVersion="1")
    return made


@pytest.mark.parametrize(
    ("form", "qualifier", "ran"),
    [
        ("{name}", None, "$LATEST"),
        ("{name}", "$LATEST", "$LATEST"),
        ("{name}:$LATEST", None, "$LATEST"),
        ("{name}:1", None, "1"),
        ("{name}:1", "1", "1"),
        ("{name}", "1", "1"),
        ("{name}:live-1_x", None, "1"),
        ("{name}", "live-1_x", "1"),
        ("function:{name}", None, "$LATEST"),
        ("000000000000:function:{name}", None, "$LATEST"),
        ("000000000000:function:{name}:1", None, "1"),
        (ARN + "{name}", None, "$LATEST"),
        (ARN + "{name}", "1", "1"),
        (ARN + "{name}:live-1_x", None, "1"),
        (ARN + "{name}:$LATEST", None, "$LATEST"),
    ],
)
def test_every_form_of_a_name(lambda_client: Any, name: str, form: str, qualifier: str | None, ran: str) -> None:
    more = {"Qualifier": qualifier} if qualifier else {}
    called = form.format(name=name)
    assert version_of(lambda_client, called, **more) == ran
    shown = lambda_client.get_function_configuration(FunctionName=called, **more)
    assert (shown["FunctionName"], shown["Version"]) == (name, ran)
    found = lambda_client.get_function(FunctionName=called, **more)
    assert found["Configuration"]["FunctionArn"].startswith(ARN + name)


@pytest.mark.parametrize("qualifier", ["2", "none", "$OTHER"])
def test_qualifiers_that_are_not_there(lambda_client: Any, name: str, qualifier: str) -> None:
    with pytest.raises(ClientError) as caught:
        lambda_client.invoke(FunctionName=name, Qualifier=qualifier, Payload=b"1")
    assert caught.value.response["Error"]["Code"] in ("ResourceNotFoundException", "InvalidParameterValueException")


@pytest.mark.parametrize("bad", ["a b", "a/b", "ä", "a" * 65, "a:b:c", "%2e%2e", "a?b", "a#b", "a+b"])
def test_what_is_no_name(lambda_client: Any, server: Server, bad: str) -> None:
    answer = signed(server, "GET", f"/2015-03-31/functions/{quote(bad, safe='')}")
    assert answer.status_code in (400, 404), answer.text
    assert answer.headers["x-amzn-errortype"] in ("InvalidParameterValueException", "ResourceNotFoundException")


def test_a_path_that_climbs_is_refused(server: Server) -> None:
    assert signed(server, "GET", "/2015-03-31/functions/../../v1/keys").status_code == 400


def test_tags_by_arn(lambda_client: Any, name: str) -> None:
    arn = ARN + name
    tags = {"owner name": "r&d / näher", "a+b": "c=d", "empty": ""}
    lambda_client.tag_resource(Resource=arn, Tags=tags)
    assert lambda_client.list_tags(Resource=arn)["Tags"] == tags
    lambda_client.untag_resource(Resource=arn, TagKeys=["owner name", "a+b"])
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"empty": ""}
    lambda_client.untag_resource(Resource=arn, TagKeys=["never there"])
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        lambda_client.list_tags(Resource=ARN + "compat-none")


def test_descriptions_keep_every_character(lambda_client: Any, deployed: Callable[..., str]) -> None:
    text = 'naïve "quotes" \\ \n\t 漢字 🎈'
    name = deployed(Description=text, Environment={"Variables": {"TEXT": text}})
    shown = lambda_client.get_function_configuration(FunctionName=name)
    assert shown["Description"] == text
    assert shown["Environment"]["Variables"] == {"TEXT": text}


def signed(server: Server, method: str, path: str, body: bytes = b"") -> httpx.Response:
    """Sent with `path` exactly as written and signed for it, as an SDK with its own encoder might."""
    request = AWSRequest(method, server.url + path, data=body, headers={"Host": server.url.removeprefix("http://")})
    SigV4Auth(Credentials(server.key_id, server.secret), "lambda", "us-east-1").add_auth(request)
    # http.client leaves the path as it is; httpx would tidy it.
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request(method, path, body=body, headers=dict(request.headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return httpx.Response(answer.status, headers=answer.getheaders(), content=content)


@pytest.mark.parametrize(
    "encode",
    [lambda text: text, lambda text: quote(text, safe=""), lambda text: quote(text, safe=":")],
    ids=["raw", "everything encoded", "colons kept"],
)
def test_paths_however_they_are_encoded(server: Server, name: str, encode: Callable[[str], str]) -> None:
    for called in (f"{ARN}{name}:1", f"{name}:1", f"{name}:live-1_x", f"{ARN}{name}:$LATEST"):
        answer = signed(server, "POST", f"/2015-03-31/functions/{encode(called)}/invocations", b"{}")
        assert answer.status_code == 200, (called, answer.text)
    answer = signed(server, "GET", f"/2015-03-31/functions/{name}?Qualifier={quote('$LATEST')}")
    assert answer.status_code == 200
    answer = signed(server, "GET", f"/2017-03-31/tags/{encode(ARN + name)}")
    assert answer.status_code == 200
