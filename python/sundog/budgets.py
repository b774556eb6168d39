"""Budgets: what the tenant, or one of its functions, may spend in a month."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from sundog.invoice import plain
from sundog.tables import html_table
from sundog.transport import Json, Request, Transport


@dataclass(frozen=True)
class Budget:
    """A limit for a month (UTC). `state`: ok; alarm, from the share `alarm` on; spent: nothing new begins, events wait."""

    function: str
    limit: Decimal
    spent: Decimal
    reserved: Decimal
    share: float
    alarm: float
    on_alarm: str
    by_operator: bool
    state: str


@dataclass(frozen=True)
class Spending:
    """What the tenant has spent this month, and its budgets: its own first, then those of functions."""

    month: str
    currency: str
    spent: Decimal
    budgets: tuple[Budget, ...]
    json: Json = field(default=None, repr=False, compare=False)

    def rows(self) -> tuple[list[str], list[list[object]]]:
        """The table: its columns, and a row a budget."""
        columns = ["of", "limit", "spent", "share", "state", "alarm at", "on alarm"]
        rows: list[list[object]] = [
            [
                b.function or "the whole tenant",
                plain(b.limit),
                plain(b.spent),
                f"{b.share:.1%}",
                b.state,
                f"{b.alarm:.0%}",
                b.on_alarm or None,
            ]
            for b in self.budgets
        ]
        return columns, rows

    def sums(self) -> str:
        return f"Spent in {self.month}: {plain(self.spent)} {self.currency}" + (
            "." if self.budgets else "; no budget is set."
        )

    def _repr_html_(self) -> str:
        return html_table(*self.rows(), "Budgets") + f"<div>{self.sums()}</div>"


def parse_spending(json: Json) -> Spending:
    """The answer of /v1/budgets."""
    return Spending(
        month=json.get("month") or "",
        currency=json.get("currency") or "USD",
        spent=Decimal(json.get("spent") or 0),
        budgets=tuple(
            Budget(
                function=item.get("function") or "",
                limit=Decimal(item["limit"]),
                spent=Decimal(item["spent"]),
                reserved=Decimal(item["reserved"]),
                share=float(item["share"]),
                alarm=float(item["alarm"]),
                on_alarm=item.get("on_alarm") or "",
                by_operator=bool(item.get("by_operator")),
                state=item["state"],
            )
            for item in json.get("items") or ()
        ),
        json=json,
    )


class Budgets:
    """What may be spent. `tenant`: another one's, for an admin of the operator's tenant."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def show(self, *, tenant: str = "") -> Spending:
        """This month's spending and the budgets."""
        return parse_spending(self._transport.call(Request("GET", "/v1/budgets", params={"tenant": tenant or None})))

    def set(
        self,
        limit: Decimal | str | float,
        *,
        alarm: float = 0.8,
        function: str = "",
        on_alarm: str = "",
        tenant: str = "",
    ) -> Spending:
        """Sets a budget; for admins.

        Args:
            limit: For a month, in the price plan's currency: "5.00". 0 stops everything.
            alarm: The share of the limit, 0 to 1, at which the alarm is told: once a month.
            function: Of this function alone; "" for all that the tenant does.
            on_alarm: A function that is invoked, as an event, with the alarm.
            tenant: Whose; a tenant cannot change what the operator set for it.
        """
        exact = Decimal(repr(limit)) if isinstance(limit, int | float) else limit
        body = {"limit": plain(exact), "alarm": alarm, "function": function, "on_alarm": on_alarm}
        request = Request("PUT", "/v1/budgets", params={"tenant": tenant or None}, body=body)
        return parse_spending(self._transport.call(request))

    def clear(self, *, function: str = "", tenant: str = "") -> Spending:
        """Takes a budget away; for admins.

        Raises:
            NotFound: None is set.
        """
        params = {"function": function or None, "tenant": tenant or None}
        return parse_spending(self._transport.call(Request("DELETE", "/v1/budgets", params=params)))
