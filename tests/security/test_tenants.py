"""Tenant against tenant, and role against role, over every route of routes.py."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from routes import ROLES, ROUTES, SIGNATURE, L, Route

from harness import ROOT, Server, eventually

# In everything that the first tenant owns, so that it is found wherever it leaks.
MARK = f"owned{uuid.uuid4().hex[:10]}"


@dataclass
class Tenants:
    """One server, what its first tenant owns, and the keys of both tenants by role."""

    server: Server
    owned: dict[str, str]
    own: dict[str, str]
    other: dict[str, str]

    def call(self, route: Route, token: str = "") -> httpx.Response:
        def fill(value: Any) -> Any:
            if isinstance(value, str):
                return re.sub(r"\{(\w+)\}", lambda found: self.owned[found[1]], value)
            if isinstance(value, dict):
                return {key: fill(each) for key, each in value.items()}
            return value

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = fill(route.body)
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else b""
        with httpx.Client(base_url=self.server.url, headers=headers, timeout=30) as client:
            return client.request(route.method, fill(route.path), content=content)


def keys(server: Server, tenant: str) -> dict[str, str]:
    with server.http() as http:
        made = [http.post("/v1/keys", json={"role": role, "tenant": tenant, "name": tenant}) for role in ROLES]
    return {role: answer.json()["token"] for role, answer in zip(ROLES, made, strict=True)}


def finished(http: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found = http.get(f"/v1/jobs/{job['id']}", params={"wait": 5}).json()
        return found if found["state"] not in ("queued", "running") else None

    found = eventually(ended, within=60, what="the job's end")
    assert found["state"] == "succeeded", found
    return found["result"]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    """Tenant "owner" with one of everything, and tenant "other" with nothing."""
    server = Server(tmp_path_factory.mktemp("tenants") / "data").start()
    own, other = keys(server, "owner"), keys(server, "other")
    http = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {own['admin']}"}, timeout=60)
    owned = make_everything(http)
    yield Tenants(server, owned, own, other)
    http.close()
    assert server.stop() == 0


def make_everything(http: httpx.Client) -> dict[str, str]:
    import base64
    import io
    import zipfile

    def ok(answer: httpx.Response) -> Any:
        assert answer.status_code < 300, (answer.request.url, answer.text)
        return answer.json() if answer.content else None

    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("app.py", f"def handler(event, context):\n    print('{MARK}')\n    return '{MARK}'\n")
    function = {
        "FunctionName": MARK,
        "Runtime": "python3.11",
        "Role": "arn:aws:iam::000000000000:role/any",
        "Handler": "app.handler",
        "Code": {"ZipFile": base64.b64encode(memory.getvalue()).decode()},
        "Publish": True,
        "Tags": {"sundog:kind": "training"},
    }
    ok(http.post(L, json=function))
    ok(http.post(f"{L}/{MARK}/aliases", json={"Name": f"a{MARK}", "FunctionVersion": "1"}))
    assert http.post(f"{L}/{MARK}/invocations", json={}).json() == MARK
    text = "a,b\n" + "".join(f"{n},{MARK}\n" for n in range(40)) + "ragged\n"
    blob = ok(http.put("/v1/blobs", content=text.encode()))["id"]
    made = ok(http.post("/v1/datasets", json={"name": MARK, "blob": blob, "format": "csv"}))
    version = finished(http, made)
    environment = ok(http.post("/v1/environments", json={"packages": []}))
    run = ok(http.post("/v1/runs", json={"name": MARK, "function": MARK, "dataset": f"{MARK}@1", "parameters": {}}))
    study = {"name": MARK, "function": MARK, "dataset": f"{MARK}@1", "metric": "auc", "trials": 1, "space": {}}
    ok(http.post("/v1/studies", json=study))
    model = {"artefact": blob, "format": "cloudpickle", "signature": SIGNATURE, "environment": environment["id"]}
    ok(http.post(f"/v1/models/{MARK}/versions", json=model))
    key = ok(http.get("/v1/keys"))["items"][0]["id"]
    return {
        "f": MARK,
        "alias": f"a{MARK}",
        "blob": blob,
        "shard": version["shards"][0]["blob"],
        "dataset": MARK,
        "job": made["id"],
        "environment": environment["id"],
        "run": run["id"],
        "study": MARK,
        "model": MARK,
        "key": key,
    }


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_stranger_s_admin_sees_nothing(tenants: Tenants, route: Route) -> None:
    before = state(tenants)
    answer = tenants.call(route, tenants.other["admin"])
    if route.sees == "absent":
        assert answer.status_code == 404, (str(route), answer.status_code, answer.text)
    elif route.sees == "own":
        assert answer.status_code == 200, answer.text
        for name, value in tenants.owned.items():
            assert value not in answer.text, f"{route} shows the other tenant's {name}"
    # An error may say the name that was asked for, and nothing that only the owner knows.
    for secret in ("blob", "shard", "run", "job", "key"):
        if "{" + secret + "}" not in str(route) + json.dumps(route.body) and route.sees != "none":
            assert tenants.owned[secret] not in answer.text
    assert state(tenants) == before, f"{route} changed the other tenant's things"


def state(tenants: Tenants) -> list[Any]:
    """What a stranger's call must leave as it is."""
    f, dataset, model = (tenants.owned[name] for name in ("f", "dataset", "model"))
    paths = [f"{L}/{f}", f"{L}/{f}/aliases", f"{L}/{f}/versions", f"/v1/datasets/{dataset}", f"/v1/models/{model}"]
    headers = {"Authorization": f"Bearer {tenants.own['viewer']}"}
    with httpx.Client(base_url=tenants.server.url, headers=headers, timeout=30) as http:
        return [http.get(path).text for path in paths]


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_no_key_and_too_small_a_role_are_refused(tenants: Tenants, route: Route) -> None:
    lambda_path = re.match(r"/\d{4}-\d\d-\d\d/", route.path)
    for token in ("", "sk-wrong"):
        answer = tenants.call(route, token)
        if not route.role:
            assert answer.status_code == 200, answer.text
        else:
            assert answer.status_code == (403 if lambda_path else 401), (str(route), token, answer.text)
    if not route.role:
        return
    least = ROLES.index(route.role)
    for role in ROLES[:least]:
        answer = tenants.call(route, tenants.own[role])
        assert answer.status_code == 403, (str(route), role, answer.text)
    # The other tenant's key of the least role passes the check of the role; what it names is then absent.
    answer = tenants.call(route, tenants.other[route.role])
    assert answer.status_code not in (401, 403), (str(route), answer.text)


def test_the_table_has_every_route() -> None:
    """Counts what the sources register, so that a new route does not go without its row."""
    registered = 0
    for path in sorted((ROOT / "server" / "api").glob("*.cc")):
        if path.name.endswith("_test.cc") or path.name in ("router.cc", "lambda_answers.cc"):
            continue
        registered += len(re.findall(r"router(?:\(\))?\.(?:json|add)\(|\badd_lambda\(", path.read_text()))
    bases_of_inference = 3  # three routes are registered for a model and again for its version
    listed = {(route.method, re.sub(r"\{\w+\}|stolen|arn:[^/]*", "{}", route.path.split("?")[0])) for route in ROUTES}
    assert len(listed) == registered + bases_of_inference


def test_an_admin_of_a_tenant_makes_keys_for_it_alone(tenants: Tenants) -> None:
    headers = {"Authorization": f"Bearer {tenants.other['admin']}"}
    with httpx.Client(base_url=tenants.server.url, headers=headers) as http:
        assert http.post("/v1/keys", json={"role": "admin", "tenant": "owner"}).status_code == 403
        made = http.post("/v1/keys", json={"role": "viewer"}).json()
        assert made["tenant"] == "other"
        listed = http.get("/v1/keys").json()["items"]
        assert {key["tenant"] for key in listed} == {"other"}


def test_names_do_not_meet_across_tenants(tenants: Tenants, package: Callable[..., bytes]) -> None:
    import base64

    headers = {"Authorization": f"Bearer {tenants.other['deployer']}"}
    code = base64.b64encode(package(app="def handler(event, context):\n    return 'mine'\n")).decode()
    body = {"FunctionName": MARK, "Runtime": "python3.11", "Role": "r", "Handler": "app.handler"}
    with httpx.Client(base_url=tenants.server.url, headers=headers, timeout=30) as http:
        made = http.post(L, json={**body, "Code": {"ZipFile": code}})
        assert made.status_code == 201, made.text
        assert http.post(f"{L}/{MARK}/invocations", json={}).json() == "mine"
        logs = http.get(f"/v1/functions/{MARK}/logs").text
        assert MARK not in logs
        assert http.delete(f"{L}/{MARK}").status_code == 204
    headers = {"Authorization": f"Bearer {tenants.own['invoker']}"}
    with httpx.Client(base_url=tenants.server.url, headers=headers, timeout=30) as http:
        assert http.post(f"{L}/{MARK}/invocations", json={}).json() == MARK
