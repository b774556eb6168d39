"""Functions through Lambda's API: what is sent when, and what comes back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

import sundog
from sdk import FakeServer, golden
from sundog import errors
from sundog.packaging import package_function

ROOT = "/2015-03-31/functions"
app = sundog.App("t")


@app.function(memory=256)
def add(a: int, b: int = 0) -> int:
    return a + b


def missing() -> httpx.Response:
    return httpx.Response(
        404, json={"Message": "Function not found"}, headers={"x-amzn-ErrorType": "ResourceNotFoundException"}
    )


def configuration(**more: Any) -> Any:
    package = package_function(add)
    return {
        "FunctionName": "t-add", "Version": "$LATEST", "Runtime": "python" + sundog.Environment().python, "Handler": package.handler,
        "MemorySize": 256, "Timeout": 30, "State": "Active", "CodeSha256": package.sha256, "CodeSize": len(package.content), **more,
    }  # fmt: skip


def server(**more: Any) -> FakeServer:
    answers = {
        ("GET", f"{ROOT}/t-add"): {
            "Configuration": configuration(),
            "Tags": {"sundog:kind": "function", "sundog:network": "none"},
        },
        ("GET", f"{ROOT}/t-add/configuration"): configuration(),
        **more.pop("answers", {}),
    }
    return FakeServer(answers)


def methods(fake: FakeServer) -> list[str]:
    return [f"{r.method} {r.url.path.removeprefix(ROOT)}" for r in fake.requests]


def test_here_it_is_an_ordinary_function() -> None:
    assert add(1, b=2) == 3
    assert add.__name__ == "add"
    assert "t-add" in repr(add)


def test_a_new_function_is_created_and_awaited() -> None:
    fake = server(
        answers={
            ("GET", f"{ROOT}/t-add"): missing(),
            ("POST", ROOT): configuration(State="Pending"),
            ("GET", f"{ROOT}/t-add/configuration"): [configuration(State="Pending"), configuration()],
        }
    )
    fake.cloud().functions.deploy(add)
    body = fake.bodies("POST", ROOT)[0]
    assert base64.b64decode(body["Code"]["ZipFile"]) == package_function(add).content
    assert body["Tags"] == {"sundog:kind": "function", "sundog:network": "none"}
    assert (body["MemorySize"], body["Timeout"], body["Layers"]) == (256, 30, [])
    assert methods(fake)[-1] == "GET /t-add/configuration"


def test_what_has_not_changed_is_not_sent() -> None:
    fake = server()
    functions = fake.cloud().functions
    functions.deploy(add)
    assert {r.method for r in fake.requests} == {"GET"}
    count = len(fake.requests)
    functions.deploy(add)
    assert len(fake.requests) == count


def test_changed_code_and_settings_are_sent() -> None:
    old = configuration(CodeSha256="other", MemorySize=128)
    fake = server(
        answers={
            ("GET", f"{ROOT}/t-add"): {"Configuration": old},
            ("PUT", f"{ROOT}/t-add/configuration"): configuration(),
            ("PUT", f"{ROOT}/t-add/code"): configuration(),
        }
    )
    fake.cloud().functions.deploy(add)
    assert "PUT /t-add/configuration" in methods(fake)
    assert "PUT /t-add/code" in methods(fake)


def test_a_function_that_cannot_start_says_why() -> None:
    fake = server(
        answers={
            ("GET", f"{ROOT}/t-add"): missing(),
            ("POST", ROOT): configuration(),
            ("GET", f"{ROOT}/t-add/configuration"): configuration(State="Failed", StateReason="No module named 'nope'"),
        }
    )
    with pytest.raises(errors.FunctionError, match="No module named 'nope'"):
        fake.cloud().functions.deploy(add)


def test_it_says_why_its_instances_are_not_forked() -> None:
    why = {"Start": "init", "StartReason": "1 thread was left running by init"}
    fake = server(answers={("GET", f"{ROOT}/t-add/configuration"): configuration(Sundog=why)})
    assert fake.cloud().functions.get("t-add").info().start_reason == "1 thread was left running by init"


def test_another_kind_under_the_same_name_is_a_conflict() -> None:
    fake = server(
        answers={("GET", f"{ROOT}/t-add"): {"Configuration": configuration(), "Tags": {"sundog:network": "egress"}}}
    )
    with pytest.raises(errors.Conflict, match="network 'egress'") as caught:
        fake.cloud().functions.deploy(add)
    assert "sundog functions delete t-add" in caught.value.hint


def test_what_may_be_reached_travels_as_a_tag() -> None:
    allow = ["api.example.com:443", "*.example.org"]
    egress = sundog.App("t").function(network="egress", allow=allow, name="add", memory=256)
    fake = server(
        answers={
            ("GET", f"{ROOT}/t-add"): [
                missing(),
                {
                    "Configuration": configuration(),
                    "Tags": {"sundog:network": "egress", "sundog:allow": "other.example"},
                },
            ],
            ("POST", ROOT): configuration(),
            ("POST", "/2017-03-31/tags/t-add"): {},
        }
    )
    tags = {"sundog:network": "egress", "sundog:allow": "api.example.com:443,*.example.org"}
    fake.cloud().functions.deploy(egress(add.call))
    assert fake.bodies("POST", ROOT)[0]["Tags"] == {"sundog:kind": "function", **tags}
    fake.cloud().functions.deploy(egress(add.call))
    assert fake.bodies("POST", "/2017-03-31/tags/t-add") == [{"Tags": tags}], "another list is no conflict"


def test_egress_and_its_list_go_together() -> None:
    for more, why in (
        ({"network": "egress"}, "needs a list"),
        ({"allow": ["api.example.com"]}, "is for network='egress'"),
        ({"network": "host", "allow": "api.example.com"}, "not 'host'"),
        ({"network": "egress", "allow": "a.example,b.example"}, "one host"),
    ):
        with pytest.raises(errors.InvalidArgument, match=why):
            app.function(**more)(lambda: None)  # type: ignore[call-overload]


def test_a_folder_has_its_way_out_by_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context): return event")
    fake = server(answers={("GET", f"{ROOT}/t-add"): missing(), ("POST", ROOT): configuration()})
    functions = fake.cloud().functions
    functions.deploy_folder(
        "t-add", tmp_path, handler="app.handler", network="egress", allow=["api.example.com", "*.a.org"]
    )
    functions.deploy_folder("t-add", tmp_path, handler="app.handler", network="egress", allow="api.example.com")
    functions.deploy_folder("t-add", tmp_path, handler="app.handler")
    assert [body["Tags"] for body in fake.bodies("POST", ROOT)] == [
        {"sundog:kind": "function", "sundog:network": "egress", "sundog:allow": "api.example.com,*.a.org"},
        {"sundog:kind": "function", "sundog:network": "egress", "sundog:allow": "api.example.com"},
        {"sundog:kind": "function", "sundog:network": "none"},
    ]
    with pytest.raises(errors.InvalidArgument, match="needs a list"):
        functions.deploy_folder("t-add", tmp_path, handler="app.handler", network="egress")
    with pytest.raises(errors.InvalidArgument, match="is for network='egress', not 'none'"):
        functions.deploy_folder("t-add", tmp_path, handler="app.handler", allow=["api.example.com"])


def test_a_training_function_brings_its_environment() -> None:
    @app.training(environment=["scikit-learn==1.9.1"])
    def fit(run: Any, data: Any) -> None:
        return None

    fake = FakeServer(
        {
            ("GET", f"{ROOT}/t-fit"): missing(),
            ("POST", "/v1/environments"): golden("environment"),
            ("POST", ROOT): configuration(),
            ("GET", f"{ROOT}/t-fit/configuration"): configuration(),
        }
    )
    fake.cloud().functions.deploy(fit)
    body = fake.bodies("POST", ROOT)[0]
    assert body["Layers"] == ["arn:aws:lambda:local:000000000000:layer:sundog-environment-e1:1"]
    assert body["Tags"]["sundog:kind"] == "training"
    assert [p.split("=")[0] for p in fake.bodies("POST", "/v1/environments")[0]["packages"]] == [
        "cloudpickle",
        "pandas",
        "pyarrow",
        "scikit-learn",
        "skops",
    ]


def invocation(request: httpx.Request) -> httpx.Response:
    event = json.loads(request.content)
    if event == "raise":
        return httpx.Response(
            200,
            json={"errorType": "ValueError", "errorMessage": "no", "stackTrace": ["l"]},
            headers={"x-amz-function-error": "Unhandled"},
        )
    if request.headers["x-amz-invocation-type"] == "Event":
        return httpx.Response(202, headers={"x-amzn-requestid": "r-9"})
    return httpx.Response(200, json=sum(event["args"]))


def test_calls() -> None:
    fake = server(answers={("POST", f"{ROOT}/t-add/invocations"): invocation})
    function = fake.cloud().functions.get("t-add")
    assert function.remote(1, 2) == 3
    assert list(function.map([(1, 1), (2, 2), 7], parallel=2)) == [2, 4, 7]
    assert function.invoke_event({"a": 1}) == "r-9"
    with pytest.raises(errors.FunctionError, match="ValueError: no"):
        function.invoke("raise")


def test_a_call_whose_connection_broke_is_not_repeated() -> None:
    fake = server(answers={("POST", f"{ROOT}/t-add/invocations"): httpx.ReadError("gone")})
    with pytest.raises(errors.Unavailable):
        fake.cloud().functions.get("t-add").invoke({})
    assert methods(fake).count("POST /t-add/invocations") == 1


def test_logs_alias_publish() -> None:
    lines = '{"sequence":1,"time":"t","request_id":"r","text":"hello"}\n\n{"sequence":2,"time":"t","request_id":"r","text":"x"}\n'
    fake = server(
        answers={
            ("GET", "/v1/functions/t-add/logs"): httpx.Response(200, text=lines),
            ("POST", f"{ROOT}/t-add/versions"): {"Version": "3"},
            ("PUT", f"{ROOT}/t-add/aliases/live"): missing(),
            ("POST", f"{ROOT}/t-add/aliases"): {},
        }
    )
    function = fake.cloud().functions.get("t-add")
    assert [line.text for line in function.logs()] == ["hello", "x"]
    assert function.publish().qualifier == "3"
    assert function.alias("live", "3", {"2": 0.1}).qualifier == "live"
    assert fake.bodies("POST", f"{ROOT}/t-add/aliases")[0]["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.1}}


def test_settings_out_of_bounds() -> None:
    for more in ({"memory": 64}, {"timeout": 901}, {"network": "all"}):
        with pytest.raises(errors.InvalidArgument):
            app.function(**more)(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(errors.InvalidArgument, match="no name"):
        sundog.App("no spaces please")
    with pytest.raises(errors.InvalidArgument, match="twice"):
        app.function(add)
    with pytest.raises(errors.InvalidArgument, match="no method predict"):
        app.model()(int)
