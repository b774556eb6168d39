"""Every route of the server: its least role, and a call of it that names things of one tenant.

`{f}` and the like stand for the names in test_tenants.OWNED. `sees`: what a stranger's key gets. "absent": 404, as if there
were none. "own": 200, with nothing of another's in it. "none": nothing of a tenant's is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ROLES = ("viewer", "invoker", "deployer", "admin")
L = "/2015-03-31/functions"
PROVISIONED = "/2019-09-30/functions/{f}/provisioned-concurrency?Qualifier=1"
ARN = "arn:aws:lambda:local:000000000000:function:{f}"
SIGNATURE = {
    "inputs": [{"name": "a", "type": "float64", "nullable": True}],
    "outputs": [{"name": "y", "type": "float64"}],
}


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    role: str  # the least; "" for open to all
    sees: str = "absent"
    body: Any = field(default=None, hash=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


CODE = {"ZipFile": "UEsFBg=="}
ROUTES = [
    # The server's own.
    Route("GET", "/healthz", "", "none"),
    Route("GET", "/metrics", "", "none"),
    Route("GET", "/v1/status", "viewer", "own"),
    Route("GET", "/v1/doctor", "viewer", "none"),
    Route("POST", "/v1/keys", "admin", "none", {"role": "nothing"}),
    Route("GET", "/v1/keys", "admin", "own"),
    Route("DELETE", "/v1/keys/{key}", "admin"),
    Route("GET", "/v1/bill", "viewer", "own"),
    Route("GET", "/v1/bill/verify", "viewer", "own"),
    Route("GET", "/v1/bill/operator", "admin", "none"),
    Route("GET", "/v1/usage", "viewer", "own"),
    Route("GET", "/v1/invoice", "viewer", "own"),
    Route("GET", "/v1/invoice?format=csv", "viewer", "own"),
    Route("GET", "/v1/budgets", "viewer", "own"),
    Route("PUT", "/v1/budgets", "admin", "none", {"limit": "no amount"}),
    Route("DELETE", "/v1/budgets?function=none", "admin"),
    Route("GET", "/v1/fleet", "viewer", "own"),
    # Lambda's API.
    Route("POST", L, "deployer", "none", {}),
    Route("GET", L, "viewer", "own"),
    Route("GET", L + "?FunctionVersion=ALL", "viewer", "own"),
    Route("GET", L + "/{f}", "viewer"),
    Route("GET", L + "/{f}?Qualifier=1", "viewer"),
    Route("GET", L + "/" + ARN, "viewer"),
    Route("GET", L + "/{f}/configuration", "viewer"),
    Route("PUT", L + "/{f}/code", "deployer", body=CODE),
    Route("PUT", L + "/{f}/configuration", "deployer", body={"Timeout": 9}),
    Route("POST", L + "/{f}/versions", "deployer", body={}),
    Route("GET", L + "/{f}/versions", "viewer"),
    Route("POST", L + "/{f}/aliases", "deployer", body={"Name": "stolen", "FunctionVersion": "1"}),
    Route("GET", L + "/{f}/aliases", "viewer"),
    Route("GET", L + "/{f}/aliases/{alias}", "viewer"),
    Route("PUT", L + "/{f}/aliases/{alias}", "deployer", body={"FunctionVersion": "1"}),
    Route("DELETE", L + "/{f}/aliases/{alias}", "deployer"),
    Route("POST", L + "/{f}/invocations", "invoker", body={}),
    Route("POST", L + "/" + ARN + "/invocations", "invoker", body={}),
    Route("POST", L + "/{f}/invocations?Qualifier={alias}", "invoker", body={}),
    Route("POST", "/2021-11-15/functions/{f}/response-streaming-invocations", "invoker", body={}),
    Route("POST", "/v1/functions/{f}/stream", "invoker", body={}),
    Route("PUT", "/2017-10-31/functions/{f}/concurrency", "deployer", body={"ReservedConcurrentExecutions": 0}),
    Route("GET", "/2019-09-30/functions/{f}/concurrency", "viewer"),
    Route("DELETE", "/2017-10-31/functions/{f}/concurrency", "deployer"),
    Route("PUT", PROVISIONED, "deployer", body={"ProvisionedConcurrentExecutions": 1}),
    Route("GET", PROVISIONED, "viewer"),
    Route("DELETE", PROVISIONED, "deployer"),
    Route("GET", "/2017-03-31/tags/" + ARN, "viewer"),
    Route("POST", "/2017-03-31/tags/" + ARN, "deployer", body={"Tags": {"a": "b"}}),
    Route("DELETE", "/2017-03-31/tags/" + ARN + "?tagKeys=a", "deployer"),
    Route("GET", "/2016-08-19/account-settings", "viewer", "own"),
    Route("DELETE", L + "/{f}", "deployer"),
    # Functions beyond Lambda's.
    Route("GET", "/v1/functions/{f}/code", "viewer"),
    Route("GET", "/v1/functions/{f}/logs", "viewer"),
    Route("GET", "/v1/functions/{f}/logs?follow=1", "viewer"),
    Route("GET", "/v1/functions/{f}/dead-letters", "viewer"),
    Route("POST", "/v1/functions/{f}/dead-letters/1/redrive", "deployer"),
    # Environments: shared by content, so whoever knows what is asked for knows the id.
    Route("POST", "/v1/environments", "deployer", "none", {"packages": "no list"}),
    Route("GET", "/v1/environments", "viewer", "own"),
    Route("GET", "/v1/environments/{environment}", "viewer", "none"),
    # Blobs.
    Route("PUT", "/v1/blobs", "deployer", "none", "bytes"),
    Route("GET", "/v1/blobs/{blob}", "viewer"),
    Route("HEAD", "/v1/blobs/{blob}", "viewer"),
    Route("GET", "/v1/blobs/{shard}", "viewer"),
    # Datasets and jobs.
    Route("POST", "/v1/datasets", "deployer", body={"name": "stolen", "blob": "{blob}"}),
    Route("GET", "/v1/datasets", "viewer", "own"),
    Route("GET", "/v1/datasets/{dataset}", "viewer"),
    Route("DELETE", "/v1/datasets/{dataset}", "deployer"),
    Route("GET", "/v1/datasets/{dataset}/versions/1", "viewer"),
    Route("GET", "/v1/datasets/{dataset}/versions/1/rows", "viewer"),
    Route("GET", "/v1/datasets/{dataset}/versions/1/quarantine", "viewer"),
    Route("POST", "/v1/datasets/{dataset}/versions/1/profile", "deployer", body={}),
    Route("POST", "/v1/datasets/{dataset}/versions/1/preprocess", "deployer", body={}),
    Route("GET", "/v1/jobs", "viewer", "own"),
    Route("GET", "/v1/jobs/{job}", "viewer"),
    Route("GET", "/v1/jobs/{job}?wait=1", "viewer"),
    Route("DELETE", "/v1/jobs/{job}", "deployer"),
    # Training.
    Route("POST", "/v1/runs", "deployer", body={"function": "{f}", "dataset": "{dataset}@1", "parameters": {}}),
    Route("GET", "/v1/runs", "viewer", "own"),
    Route("GET", "/v1/runs/{run}", "viewer"),
    Route("GET", "/v1/runs/{run}?wait=1", "viewer"),
    Route("POST", "/v1/runs/{run}/stop", "deployer"),
    Route(
        "POST",
        "/v1/studies",
        "deployer",
        body={"name": "stolen", "function": "{f}", "dataset": "{dataset}@1", "metric": "auc", "trials": 1},
    ),
    Route("GET", "/v1/studies", "viewer", "own"),
    Route("GET", "/v1/studies/{study}", "viewer"),
    Route("POST", "/v1/studies/{study}/trials", "deployer", body={"number": 0, "parameters": {}}),
    Route("PUT", "/v1/studies/{study}/trials/0", "deployer", body={"state": "failed", "value": None}),
    # Models.
    Route(
        "POST",
        "/v1/models/stolen/versions",
        "deployer",
        body={"artefact": "{blob}", "format": "cloudpickle", "signature": SIGNATURE},
    ),
    Route("POST", "/v1/models/stolen/versions", "deployer", body={"run": "{run}"}),
    Route("GET", "/v1/models", "viewer", "own"),
    Route("GET", "/v1/models/{model}", "viewer"),
    Route("GET", "/v1/models/{model}/versions/1", "viewer"),
    Route("DELETE", "/v1/models/{model}/versions/1", "deployer"),
    Route("PUT", "/v1/models/{model}/aliases/best", "deployer", body={"version": 1}),
    Route("DELETE", "/v1/models/{model}/aliases/best", "deployer"),
    Route("POST", "/v1/models/{model}/deploy", "deployer", body={"version": 1}),
    Route("PUT", "/v1/models/{model}/traffic", "deployer", body={"alias": "live", "weights": {"1": 1}}),
    Route("GET", "/v1/models/{model}/endpoint", "viewer"),
    Route("GET", "/v1/endpoints", "viewer", "own"),
    Route("POST", "/v1/models/{model}/predict", "invoker", body={"rows": [{"a": 1}]}),
    Route("POST", "/v1/models/{model}/predictions", "deployer", body={"dataset": "{dataset}@1", "as": "stolen"}),
    # Open Inference Protocol.
    Route("GET", "/v2/health/live", "", "none"),
    Route("GET", "/v2/health/ready", "", "none"),
    Route("GET", "/v2", "viewer", "none"),
    Route("GET", "/v2/models/{model}", "viewer"),
    Route("GET", "/v2/models/{model}/ready", "viewer"),
    Route("GET", "/v2/models/{model}/versions/1", "viewer"),
    Route("GET", "/v2/models/{model}/versions/1/ready", "viewer"),
    Route("POST", "/v2/models/{model}/infer", "invoker", body={"inputs": []}),
    Route("POST", "/v2/models/{model}/versions/1/infer", "invoker", body={"inputs": []}),
]
