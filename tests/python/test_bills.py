"""Bill, invoice and budgets of the SDK and the command line."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

import sundog
from sdk import FakeServer, golden
from sundog.cli import app
from sundog.cli.output import Connection
from sundog.errors import error_from_reply
from sundog.invoice import parse_invoice


def as_asked(request: httpx.Request) -> httpx.Response:
    """The invoice in the format that was asked for."""
    if request.url.params["format"] == "json":
        return httpx.Response(200, json=golden("invoice"))
    return httpx.Response(200, text=f"as {request.url.params['format']}\r\n")


def server() -> FakeServer:
    return FakeServer({("GET", "/v1/invoice"): as_asked, ("GET", "/v1/budgets"): golden("budgets")})


def run(fake: FakeServer, *words: str) -> Result:
    connection = Connection("http://sundog.test", "sk-1", httpx.MockTransport(fake))
    return CliRunner().invoke(app, list(words), obj=connection, catch_exceptions=False)


def test_an_invoice_is_exact() -> None:
    invoice = parse_invoice(golden("invoice"))
    assert invoice.total == Decimal("0.00007620015") == sum(line.amount for line in invoice.lines)
    assert list(invoice.totals) == ["requests", "execution", "init", "restore"]
    assert invoice.lines[1].quantity * 1000 * 2 == invoice.lines[1].duration_ms
    assert "so far" in str(invoice)
    assert "so far" not in str(parse_invoice({**golden("invoice"), "final": True}))
    assert "risk-fit" in invoice._repr_html_()


def test_an_invoice_is_asked_for_and_saved(tmp_path: Path) -> None:
    fake = server()
    invoice = fake.cloud().invoice("2026-11", tenant="acme")
    asked = dict(fake.requests[-1].url.params)
    assert asked == {"month": "2026-11", "tenant": "acme", "format": "json"}
    assert invoice.save(tmp_path / "invoice.csv").read_bytes() == b"as csv\r\n"
    assert invoice.save(tmp_path / "page", "html").read_bytes() == b"as html\r\n"
    with pytest.raises(sundog.errors.InvalidArgument, match="invoice.pdf"):
        invoice.save(tmp_path / "invoice.pdf")


def test_invoice_command(tmp_path: Path) -> None:
    assert run(server(), "invoice", "--format", "csv").stdout == "as csv\n"
    assert json.loads(run(server(), "invoice", "--json").stdout) == golden("invoice")
    written = run(server(), "invoice", "--out", str(tmp_path / "a.html"))
    assert (written.exit_code, (tmp_path / "a.html").read_bytes()) == (0, b"as html\r\n")
    assert run(server(), "invoice", "--format", "pdf").exit_code == 1
    with pytest.raises(sundog.errors.InvalidArgument, match="cannot be written to .*No such file.*may write to"):
        server().cloud().invoice().save(tmp_path / "none" / "a.html")
    assert run(server(), "invoice", "--out", str(tmp_path / "none" / "a.html")).exit_code == 1


def test_budgets() -> None:
    fake = FakeServer({("GET", "/v1/budgets"): golden("budgets"), ("PUT", "/v1/budgets"): golden("budgets")})
    spending = fake.cloud().budgets.set("5.00", function="risk-fit", on_alarm="tell-me", tenant="acme")
    wanted = golden("requests")["set budget"]
    assert fake.bodies(wanted["method"], wanted["path"]) == [wanted["body"]]
    assert fake.requests[-1].url.params["tenant"] == "acme"
    assert [budget.state for budget in spending.budgets] == ["alarm", "spent"]
    assert spending.budgets[0].limit - spending.spent == Decimal("0.75")
    assert "the whole tenant" in spending._repr_html_()
    assert "no budget is set" in run(FakeServer({("GET", "/v1/budgets"): {"month": "2026-11"}}), "budget").stdout


def test_records_that_differ_from_the_bill_are_exit_code_1() -> None:
    day = {"day": "2026-11-23", "state": "differs", "records": 12, "duplicates": 0, "problem": "Remove the file."}
    fake = FakeServer({("GET", "/v1/bill/verify"): {"ok": False, "days": [day]}})
    result = run(fake, "bill", "--verify")
    assert result.exit_code == 1
    assert "Remove the file." in result.stdout


def test_a_spent_budget_is_an_error_of_its_own() -> None:
    body = json.dumps({"Type": "User", "message": "The budget is spent."}).encode()
    error = error_from_reply(402, {"x-amzn-errortype": "BudgetExceededException"}, body)
    assert type(error) is sundog.BudgetExceeded
    assert type(error_from_reply(402, {}, b"")) is sundog.BudgetExceeded
