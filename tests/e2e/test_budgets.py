"""Invoices and budgets on the real server: documents that add up, a stop that stops, events that wait, an alarm that is told."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from decimal import Decimal

import botocore.exceptions
import httpx
import pytest

import sundog
from harness import Server, eventually

FUNCTIONS = "/2015-03-31/functions"
ECHO = "def handler(event, context):\n    return event"


def deploy(server: Server, zipped: bytes, *names: str, key: dict[str, str] | None = None) -> None:
    for name in names:
        server.deploy(zipped, FunctionName=name, wait=True, key=key)


def invoke(http: httpx.Client, name: str, event: object, kind: str = "RequestResponse") -> httpx.Response:
    return http.post(f"{FUNCTIONS}/{name}/invocations", json=event, headers={"X-Amz-Invocation-Type": kind})


def records_of(http: httpx.Client, name: str) -> list[dict]:
    return [r for r in http.get("/v1/usage?limit=1000").json()["items"] if r["function"] == name]


def spent(http: httpx.Client, function: str) -> Decimal:
    (item,) = [item for item in http.get("/v1/budgets").json()["items"] if item["function"] == function]
    return Decimal(item["spent"])


def test_a_budget_stops_and_events_wait(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    server = fresh_server().start()
    deploy(server, package(app=ECHO), "spends", "tell-me", "other")
    limit = Decimal("0.000002")
    with server.http() as http:
        assert invoke(http, "spends", 0).status_code == 200
        budget = {"limit": str(limit), "alarm": 0.5, "function": "spends", "on_alarm": "tell-me"}
        assert http.put("/v1/budgets", json=budget).status_code == 200
        answers = [invoke(http, "spends", n) for n in range(30)]
        stopped = [answer.status_code for answer in answers].index(402)
        assert {answer.status_code for answer in answers[:stopped]} == {200}
        assert {answer.status_code for answer in answers[stopped:]} == {402}
        dearest = max(Decimal(str(record["cost"])) for record in records_of(http, "spends"))
        assert limit <= spent(http, "spends") < limit + dearest
        assert len(records_of(http, "spends")) == 1 + stopped

        with pytest.raises(
            botocore.exceptions.ClientError, match='budget of function "spends" for .* is spent'
        ) as refused:
            server.boto3().invoke(FunctionName="spends", Payload=b"1")
        assert refused.value.response["Error"]["Code"] == "BudgetExceededException"
        with pytest.raises(sundog.BudgetExceeded, match="sundog budget set"):
            server.cloud().functions.get("spends").invoke(1)
        assert invoke(http, "other", 1).status_code == 200

        waiting = [invoke(http, "spends", n, "Event").headers["x-amzn-RequestId"] for n in range(3)]
        (told,) = eventually(lambda: records_of(http, "tell-me"), what="the alarm")
        assert told["outcome"] == "ok"
    assert '"budget_alarm"' in server.log.read_text()
    server.kill()
    server.start()
    with server.http() as http:
        assert invoke(http, "spends", 1).status_code == 402
        assert limit <= spent(http, "spends") < limit + dearest
        assert not {record["request_id"] for record in records_of(http, "spends")} & set(waiting)
        assert http.delete("/v1/budgets?function=spends").status_code == 200
        eventually(
            lambda: set(waiting) <= {record["request_id"] for record in records_of(http, "spends")},
            what="the events that waited",
        )
        assert not http.get("/v1/functions/spends/dead-letters").json()["items"]
        assert len(records_of(http, "tell-me")) == 1
    assert server.stop() == 0


def test_an_invoice_adds_up_in_every_format(fresh_server: Callable[..., Server], package: Callable[..., bytes]) -> None:
    server = fresh_server("--no-prebuild").start()  # so that the first call pays for an init
    deploy(server, package(app=ECHO), "echo")
    cloud = server.cloud()
    with server.http() as http:
        for n in range(5):
            assert invoke(http, "echo", n).status_code == 200
        invoice = cloud.invoice()
        assert not invoice.final
        assert {line.position for line in invoice.lines} == {"requests", "execution", "init", "restore"}
        assert sum(line.amount for line in invoice.lines) == invoice.total > 0
        assert float(invoice.total) == pytest.approx(cloud.bill().total, abs=1e-12)

        answer = http.get("/v1/invoice?format=csv")
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert Decimal(rows[-1]["amount"]) == invoice.total
        assert sum(Decimal(row["amount"]) for row in rows if row["function"]) == invoice.total
        page = http.get("/v1/invoice?format=html")
        assert page.headers["content-type"].startswith("text/html")
        assert format(invoice.total, "f") in page.text
        assert http.get("/v1/invoice?format=pdf").status_code == 400
        assert http.get("/v1/invoice?month=2026-13").status_code == 400
        nothing = cloud.invoice("2020-02")
        assert (nothing.final, nothing.total, nothing.end[:10]) == (True, 0, "2020-03-01")
        assert cloud.verify_bill()["ok"]
    assert server.stop() == 0


def test_the_operator_sees_and_limits_a_tenant(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server().start()
    cloud = server.cloud()
    acme = sundog.connect(server.url, cloud.keys.create("admin", tenant="acme").token)
    acme.budgets.set("3.00")
    assert cloud.budgets.set("2.00", tenant="acme").budgets[0].by_operator
    assert acme.budgets.show().budgets[0].limit == Decimal("2.00")
    for change in (lambda: acme.budgets.set("9.00"), acme.budgets.clear):
        with pytest.raises(sundog.PermissionDenied, match="operator"):
            change()
    with pytest.raises(sundog.PermissionDenied, match="another one spends"):
        acme.invoice(tenant="default")
    with pytest.raises(sundog.errors.NotFound, match="operator"):
        acme.operator_cost()
    assert "held" not in acme.fleet()
    assert [line["billed"] for line in cloud.operator_cost()["lines"]] == [True] + [False] * 4
    assert cloud.invoice(tenant="acme").tenant == "acme"
    cloud.budgets.clear(tenant="acme")
    with pytest.raises(sundog.errors.NotFound):
        acme.budgets.clear()
    for wrong in ("-1", "much", "1.0000000000001"):
        with pytest.raises(sundog.errors.InvalidArgument, match="no amount"):
            acme.budgets.set(wrong)
    with pytest.raises(sundog.errors.InvalidArgument, match="alarm"):
        acme.budgets.set("1", alarm=1.5)
    assert server.stop() == 0


def test_a_budget_goes_with_its_function_unless_the_operator_set_it(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server().start()
    with server.http() as http:
        key = http.post("/v1/keys", json={"role": "admin", "tenant": "acme"}).json()
        deploy(server, package(app=ECHO), "gone")
        deploy(server, package(app=ECHO), "gone", key=key)
        assert http.put("/v1/budgets", json={"limit": "1", "function": "none"}).status_code == 404
        assert http.put("/v1/budgets", json={"limit": "1", "function": "gone"}).status_code == 200
        assert http.put("/v1/budgets?tenant=acme", json={"limit": "1", "function": "gone"}).status_code == 200
        server.boto3(key).delete_function(FunctionName="gone")
        server.boto3().delete_function(FunctionName="gone")
        eventually(lambda: not http.get("/v1/budgets").json()["items"], what="the budget's end")
    assert server.stop() == 0
    server.start()
    with server.http() as http:
        assert not http.get("/v1/budgets").json()["items"]
        assert [item["function"] for item in http.get("/v1/budgets?tenant=acme").json()["items"]] == ["gone"]
    assert server.stop() == 0


def test_a_damaged_ledger_stops_a_start_only_where_a_budget_needs_it(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    server = fresh_server().start()
    deploy(server, package(app=ECHO), "echo")
    with server.http() as http:
        for n in range(3):
            assert invoke(http, "echo", n).status_code == 200
        before = http.get("/v1/budgets").json()["spent"]
    assert server.stop() == 0
    (segment,) = server.data.glob("ledger/*.ledger")
    whole = segment.read_bytes()
    damaged = bytearray(whole)
    damaged[20] ^= 1
    segment.write_bytes(damaged)
    server.start()
    with server.http() as http:
        assert invoke(http, "echo", 1).status_code == 200
        assert http.put("/v1/budgets", json={"limit": "1"}).json()["error"]["code"] == "data_loss"
    assert server.stop() == 0
    segment.write_bytes(whole)
    server.start()
    with server.http() as http:
        assert http.put("/v1/budgets", json={"limit": "1"}).json()["spent"] == before
    assert server.stop() == 0
    segment.write_bytes(damaged)
    with pytest.raises(AssertionError, match="Budgets are set, and what of them is spent cannot be read"):
        server.start()


def test_a_wrong_price_plan_is_told_at_the_start(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    server.data.mkdir(mode=0o700)
    (server.data / "price-plan.json").write_text('{"tenants": {"acme": {"per_gb_secnod": 1}}}')
    with pytest.raises(AssertionError, match="tenant .*acme.* has the unknown field .*per_gb_secnod"):
        server.start()
