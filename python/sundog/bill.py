"""The bill: what was used, what it costs, and what always-on servers would have cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sundog.tables import html_table, text_table
from sundog.transport import Json, Request


@dataclass(frozen=True)
class BillLine:
    """The sum of some invocations. `billed_ms` of handler time; the money in the bill's currency."""

    function: str
    day: str
    kind: str
    invocations: int
    gb_seconds: float
    billed_ms: int
    requests: float
    execution: float
    init: float
    restore: float
    total: float


@dataclass(frozen=True)
class Bill:
    """Costs by function, day and kind. `always_on` is the sum for servers of the same memory that never stop."""

    currency: str
    plan: str
    start: str
    end: str
    lines: tuple[BillLine, ...]
    total: float
    always_on: float
    always_on_hours: float
    json: Json = field(default=None, repr=False, compare=False)

    def _columns(self) -> list[str]:
        shown = [name for name in ("function", "day", "kind") if any(getattr(line, name) for line in self.lines)]
        return [*(shown or ["function"]), "invocations", "billed_ms", "gb_seconds", "total"]

    def rows(self) -> tuple[list[str], list[list[object]]]:
        """The table: its columns, and a row a line, dearest first; money as text."""
        columns = self._columns()
        lines = sorted(self.lines, key=lambda line: -line.total)
        rows: list[list[object]] = [
            [money(line.total, self.currency) if c == "total" else getattr(line, c) for c in columns] for line in lines
        ]
        return [c.replace("_", " ") for c in columns], rows

    def _sums(self) -> str:
        total, always = money(self.total, self.currency), money(self.always_on, self.currency)
        text = f"Total {total}. Always-on servers of the same memory, since each function's first call: {always}"
        factor = self.always_on / self.total if self.total > 0 else 0.0
        return text + (f", {factor:,.{0 if factor >= 10 else 1}f} times as much." if factor else ".")

    def __str__(self) -> str:
        columns, rows = self.rows()
        return f"{text_table(columns, rows)}\n{self._sums()}\nPrices: {self.plan}, {self.start[:19]} to {self.end[:19]} UTC"

    def _repr_html_(self) -> str:
        columns, rows = self.rows()
        return html_table(columns, rows, f"Bill by the prices of {self.plan}") + f"<div>{self._sums()}</div>"


def money(amount: float, currency: str = "USD") -> str:
    """An amount with as many digits as it needs: $0.000012, $1.50."""
    sign = "$" if currency == "USD" else f"{currency} "
    if amount and abs(amount) < 0.01:
        return f"{sign}{amount:.8f}".rstrip("0")
    return f"{sign}{amount:,.4f}" if abs(amount) < 1 else f"{sign}{amount:,.2f}"


def bill_request(
    start: str | None = None, end: str | None = None, by: Sequence[str] = ("function", "kind"), tenant: str = ""
) -> Request:
    """`start` and `end` as RFC 3339 in UTC; `by` any of function, day, kind."""
    return Request("GET", "/v1/bill", params={"from": start, "to": end, "by": ",".join(by), "tenant": tenant or None})


def verify_request(start: str | None = None, end: str | None = None, tenant: str = "") -> Request:
    """Adds the records of each day up again and compares with the roll-ups that bills are made of."""
    return Request("GET", "/v1/bill/verify", params={"from": start, "to": end, "tenant": tenant or None}, timeout=600)


def parse_bill(json: Json) -> Bill:
    """The bill of meter/usage.h."""
    always = json.get("always_on") or {}
    return Bill(
        currency=json.get("currency") or "USD",
        plan=json.get("plan") or "",
        start=str(json.get("from") or ""),
        end=str(json.get("to") or ""),
        lines=tuple(
            BillLine(
                function=line.get("function") or "",
                day=line.get("day") or "",
                kind=line.get("kind") or "",
                invocations=int(line.get("invocations") or 0),
                gb_seconds=float(line.get("gb_seconds") or 0.0),
                billed_ms=int(line.get("billed_ms") or 0),
                requests=float(line.get("requests") or 0.0),
                execution=float(line.get("execution") or 0.0),
                init=float(line.get("init") or 0.0),
                restore=float(line.get("restore") or 0.0),
                total=float(line.get("total") or 0.0),
            )
            for line in json.get("lines") or ()
        ),
        total=float(json.get("total") or 0.0),
        always_on=float(always.get("total") or 0.0),
        always_on_hours=float(always.get("hours") or 0.0),
        json=json,
    )
