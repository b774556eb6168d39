"""Requests, answers, errors, retries."""

from __future__ import annotations

import httpx
import pytest

from sdk import FakeServer, golden
from sundog import errors
from sundog.transport import Request, items


def test_sends_the_key_and_json() -> None:
    server = FakeServer({("POST", "/v1/x"): {"ok": True}})
    assert server.transport().call(Request("POST", "/v1/x", body={"a": 1}, params={"n": 2, "none": None})) == {
        "ok": True
    }
    request = server.requests[0]
    assert request.headers["authorization"] == "Bearer sk-1"
    assert request.content == b'{"a":1}'
    assert str(request.url.query, "ascii") == "n=2"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_argument", errors.InvalidArgument),
        (401, "unauthenticated", errors.Unauthenticated),
        (403, "permission_denied", errors.PermissionDenied),
        (404, "not_found", errors.NotFound),
        (409, "already_exists", errors.AlreadyExists),
        (409, "conflict", errors.Conflict),
        (409, "cancelled", errors.Cancelled),
        (413, "too_large", errors.TooLarge),
        (500, "data_loss", errors.DataLoss),
        (500, "internal", errors.Internal),
        (501, "unsupported", errors.Unsupported),
        (504, "deadline_exceeded", errors.DeadlineExceeded),
    ],
)
def test_each_code_has_its_class(status: int, code: str, kind: type[errors.SundogError]) -> None:
    body = {"error": {"code": code, "message": "What happened.", "hint": "What to do."}}
    server = FakeServer({("GET", "/x"): httpx.Response(status, json=body)})
    with pytest.raises(errors.SundogError) as caught:
        server.transport().call(Request("GET", "/x"))
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.hint) == ("What happened.", "What to do.")


def test_the_golden_error() -> None:
    server = FakeServer({("GET", "/x"): httpx.Response(404, json=golden("error"))})
    with pytest.raises(errors.NotFound, match='No dataset "clients". sundog data list'):
        server.transport().call(Request("GET", "/x"))


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (404, "ResourceNotFoundException", errors.NotFound),
        (409, "ResourceConflictException", errors.Conflict),
        (400, "InvalidParameterValueException", errors.InvalidArgument),
        (413, "RequestTooLargeException", errors.TooLarge),
        (403, "AccessDeniedException", errors.PermissionDenied),
    ],
)
def test_lambdas_errors(status: int, name: str, kind: type[errors.SundogError]) -> None:
    response = httpx.Response(status, json={"Type": "User", "Message": "Text."}, headers={"x-amzn-ErrorType": name})
    with pytest.raises(kind, match="Text."):
        FakeServer({("GET", "/x"): response}).transport().call(Request("GET", "/x"))


def test_an_answer_that_is_no_json_is_quoted() -> None:
    server = FakeServer({("POST", "/x"): httpx.Response(502, text="<h1>Bad gateway</h1>")})
    with pytest.raises(errors.Internal, match="502.*Bad gateway"):
        server.transport().call(Request("POST", "/x"))


def test_waits_as_long_as_the_server_asks_when_throttled() -> None:
    throttled = httpx.Response(
        429, json={"error": {"code": "resource_exhausted", "message": "Full."}}, headers={"Retry-After": "7"}
    )
    server = FakeServer({("POST", "/x"): [throttled, {"ok": 1}]})
    assert server.transport().call(Request("POST", "/x")) == {"ok": 1}
    assert server.waits == [7.0]


def test_gives_up_throttled_after_four_attempts_and_says_when_to_retry() -> None:
    throttled = httpx.Response(
        429, json={"error": {"code": "resource_exhausted", "message": "Full."}}, headers={"Retry-After": "2"}
    )
    server = FakeServer({("POST", "/x"): throttled})
    with pytest.raises(errors.Throttled) as caught:
        server.transport().call(Request("POST", "/x"))
    assert caught.value.retry_after == 2.0
    assert len(server.requests) == 4


def test_a_broken_connection_is_retried_for_idempotent_requests_only() -> None:
    for method, attempts in (("GET", 4), ("PUT", 4), ("DELETE", 4), ("POST", 1)):
        server = FakeServer({(method, "/x"): httpx.ReadError("gone")})
        with pytest.raises(errors.Unavailable, match="broke"):
            server.transport().call(Request(method, "/x"))
        assert len(server.requests) == attempts, method
    server = FakeServer({("POST", "/x"): [httpx.ReadError("gone"), {"ok": 1}]})
    assert server.transport().call(Request("POST", "/x", idempotent=True)) == {"ok": 1}


def test_a_request_that_never_left_is_retried_whatever_it_does() -> None:
    server = FakeServer({("POST", "/x"): [httpx.ConnectError("refused"), {"ok": 1}]})
    assert server.transport().call(Request("POST", "/x")) == {"ok": 1}


def test_no_server() -> None:
    server = FakeServer({("GET", "/x"): httpx.ConnectError("refused")})
    with pytest.raises(errors.Unavailable) as caught:
        server.transport().call(Request("GET", "/x"))
    assert str(caught.value) == "No server answers at http://sundog.test. Start one with: sundog up"


def test_an_answer_that_does_not_come() -> None:
    server = FakeServer({("POST", "/x"): httpx.ReadTimeout("slow")})
    with pytest.raises(errors.DeadlineExceeded, match="POST /x had no answer within 5 s"):
        server.transport().call(Request("POST", "/x", timeout=5))


def test_a_retried_upload_begins_anew() -> None:
    server = FakeServer({("PUT", "/v1/blobs"): [httpx.WriteError("gone"), {"id": "b"}]})
    request = Request("PUT", "/v1/blobs", content=lambda: iter([b"ab", b"cd"]))
    assert server.transport().call(request) == {"id": "b"}
    assert [r.content for r in server.requests] == [b"abcd", b"abcd"]


def test_pages() -> None:
    def page(request: httpx.Request) -> object:
        after = request.url.params.get("after")
        return {"items": [3], "next": ""} if after == "2" else {"items": [1, 2], "next": "2"}

    assert list(items(FakeServer({("GET", "/l"): page}).transport(), "/l")) == [1, 2, 3]


def test_lines_and_downloads() -> None:
    server = FakeServer(
        {("GET", "/l"): httpx.Response(200, text="a\nb\n"), ("GET", "/d"): httpx.Response(200, content=b"xyz")}
    )
    assert list(server.transport().lines(Request("GET", "/l"))) == ["a", "b"]
    got = bytearray()
    assert server.transport().download(Request("GET", "/d"), got.extend) == 3
    assert got == b"xyz"


def test_the_functions_own_error() -> None:
    error = errors.function_error(
        b'{"errorType":"ValueError","errorMessage":"no","stackTrace":["  File a, line 1\\n"]}', "r-1"
    )
    assert (error.error_type, error.message, error.request_id) == ("ValueError", "no", "r-1")
    assert str(error) == "ValueError: no\n  File a, line 1"
    assert errors.function_error(b"not json").message == "not json"
    missing = errors.function_error(
        b'{"errorType":"Runtime.ImportModuleError","errorMessage":"No module named \'mine\'"}'
    )
    assert "include=" in missing.hint
