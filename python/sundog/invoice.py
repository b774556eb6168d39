"""Invoices: what a tenant owes for a month or another span, line by line, and as CSV, JSON or a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from sundog.errors import InvalidArgument
from sundog.tables import html_table, text_table
from sundog.transport import Json, Request

FORMATS = ("csv", "json", "html")


@dataclass(frozen=True)
class InvoiceLine:
    """One position of one function: requests, execution, init or restore. `quantity` in `unit` at `price` for each `per`."""

    function: str
    kind: str
    position: str
    quantity: Decimal
    unit: str
    duration_ms: int
    price: Decimal
    per: str
    amount: Decimal


@dataclass(frozen=True)
class Invoice:
    """What one tenant owes. Money is exact: `total` is the sum of the lines' amounts, each rounded half up to 12 decimals.

    Attributes:
        final: The span is over, so that nothing can be added any more.
        totals: By position: requests, execution, init, restore.
    """

    tenant: str
    start: str
    end: str
    final: bool
    currency: str
    plan: str
    lines: tuple[InvoiceLine, ...]
    totals: Mapping[str, Decimal]
    total: Decimal
    json: Json = field(default=None, repr=False, compare=False)
    document: Callable[[str], str] | None = field(default=None, repr=False, compare=False)

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Writes it as the server makes it: CSV, JSON or a page that needs nothing else, by `format` or the path's suffix."""
        path = Path(path)
        wanted = format or path.suffix.removeprefix(".").lower()
        if wanted not in FORMATS or self.document is None:
            raise InvalidArgument(f'"{path.name}" names no format of an invoice.', "Formats: csv, json, html.")
        try:
            path.write_text(self.document(wanted), encoding="utf-8", newline="")
        except OSError as error:
            raise InvalidArgument(
                f'The invoice cannot be written to "{path}": {error.strerror}.',
                "Name a file in a folder that you may write to.",
            ) from error
        return path

    def rows(self) -> tuple[list[str], list[list[object]]]:
        """The table: its columns, and a row a line."""
        columns = ["function", "kind", "position", "quantity", "unit", "price", "amount"]
        return columns, [[plain(getattr(line, column)) for column in columns] for line in self.lines]

    def sums(self) -> list[str]:
        """A sentence for the total, and one for its parts."""
        parts = ", ".join(f"{name} {plain(amount)}" for name, amount in self.totals.items())
        state = "" if self.final else " so far (the span is not over)"
        return [
            f"Total {plain(self.total)} {self.currency}{state}: {parts}.",
            f"Tenant {self.tenant}, {self.start[:10]} to {self.end[:10]} UTC, prices of {self.plan}.",
        ]

    def __str__(self) -> str:
        return "\n".join([text_table(*self.rows()), *self.sums()])

    def _repr_html_(self) -> str:
        columns, rows = self.rows()
        total, facts = self.sums()
        return html_table(columns, rows, f"Invoice in {self.currency}") + f"<div>{total}</div><div>{facts}</div>"


def plain(value: Decimal | str) -> str:
    """With all its digits, never as 1E-9."""
    return format(value, "f") if isinstance(value, Decimal) else value


def invoice_request(
    month: str | None = None,
    start: str | None = None,
    end: str | None = None,
    tenant: str = "",
    format: str = "json",
) -> Request:
    """`month` as "2026-11"; else `start` and `end` as RFC 3339 in UTC; neither: this month so far."""
    params = {"month": month, "from": start, "to": end, "tenant": tenant or None, "format": format}
    return Request("GET", "/v1/invoice", params=params)


def parse_invoice(json: Json, document: Callable[[str], str] | None = None) -> Invoice:
    """The invoice of protocol/api.md."""
    totals = {name: Decimal(amount) for name, amount in (json.get("totals") or {}).items()}
    total = totals.pop("total", Decimal(0))
    order = ("requests", "execution", "init", "restore")
    return Invoice(
        tenant=json.get("tenant") or "",
        start=str(json.get("from") or ""),
        end=str(json.get("to") or ""),
        final=bool(json.get("final")),
        currency=json.get("currency") or "USD",
        plan=json.get("plan") or "",
        lines=tuple(
            InvoiceLine(
                function=line["function"],
                kind=line["kind"],
                position=line["position"],
                quantity=Decimal(line["quantity"]),
                unit=line["unit"],
                duration_ms=int(line.get("duration_ms") or 0),
                price=Decimal(line["price"]),
                per=line["per"],
                amount=Decimal(line["amount"]),
            )
            for line in json.get("lines") or ()
        ),
        totals={name: totals[name] for name in order if name in totals},
        total=total,
        json=json,
        document=document,
    )
