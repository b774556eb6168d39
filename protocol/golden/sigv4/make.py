"""Signs requests with botocore, AWS's own signer, and writes what it gives: the answers that server/api/sigv4_test.cc expects.

    python protocol/golden/sigv4/make.py > protocol/golden/sigv4/vectors.json

The key, the time and the first cases are those of AWS's published Signature Version 4 test suite; its published signatures
of `get-vanilla` and `post-vanilla` are checked here, so that the rest can be believed.
"""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any
from unittest import mock

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TIME = datetime.datetime(2015, 8, 30, 12, 36, 0, tzinfo=datetime.UTC)
HOST = "example.amazonaws.com"
PUBLISHED = {
    "get-vanilla": "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    "post-vanilla": "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
}

CASES: list[tuple[str, str, str, str, dict[str, str], str]] = [
    ("get-vanilla", "service", "GET", "/", {}, ""),
    ("post-vanilla", "service", "POST", "/", {}, ""),
    ("get-vanilla-query-order-key-case", "service", "GET", "/?Param2=value2&Param1=value1", {}, ""),
    ("get-vanilla-query-order-value", "service", "GET", "/?Param1=value2&Param1=value1", {}, ""),
    ("get-vanilla-query-unreserved", "service", "GET", "/?-._~0Az=-._~0Az", {}, ""),
    ("get-vanilla-empty-query-value", "service", "GET", "/?Param1=", {}, ""),
    ("get-utf8", "service", "GET", "/%E1%88%B4", {}, ""),
    ("get-space", "service", "GET", "/example%20space/", {}, ""),
    ("get-slashes", "service", "GET", "//example//", {}, ""),
    ("get-header-value-trim", "service", "GET", "/", {"My-Header1": "  value1 ", "My-Header2": ' "a   b   c" '}, ""),
    ("post-body", "service", "POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, "Param1=value1"),
    (
        "lambda-invoke",
        "lambda",
        "POST",
        "/2015-03-31/functions/score/invocations?Qualifier=live",
        {"X-Amz-Invocation-Type": "RequestResponse", "X-Amz-Log-Type": "Tail"},
        '{"a":1}',
    ),
    (
        "lambda-arn",
        "lambda",
        "GET",
        "/2015-03-31/functions/arn%3Aaws%3Alambda%3Alocal%3A000000000000%3Afunction%3Ascore",
        {},
        "",
    ),
    ("lambda-list", "lambda", "GET", "/2015-03-31/functions/?Marker=a%2Fb%20c&MaxItems=2", {}, ""),
]


def sign(name: str, service: str, method: str, target: str, headers: dict[str, str], body: str) -> dict[str, Any]:
    request = AWSRequest(method=method, url=f"http://{HOST}{target}", headers=dict(headers), data=body.encode())
    signer = botocore.auth.SigV4Auth(Credentials(KEY_ID, SECRET), service, "us-east-1")
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=TIME):
        signer.add_auth(request)
    sent = {key.lower(): value for key, value in request.headers.items()}
    sent["host"] = HOST
    if name in PUBLISHED and not sent["authorization"].endswith(PUBLISHED[name]):
        sys.exit(f"{name} is not as AWS published it: {sent['authorization']}")
    return {"name": name, "service": service, "method": method, "target": target, "headers": sent, "body": body}


if __name__ == "__main__":
    vectors = [sign(*case) for case in CASES]
    print(json.dumps({"key_id": KEY_ID, "secret": SECRET, "time": "20150830T123600Z", "vectors": vectors}, indent=1))
