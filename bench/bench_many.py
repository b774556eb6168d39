"""1,000 functions are deployed and 5 of them called: their p99 beside the same with only these 5 deployed."""

from __future__ import annotations

import random
import time

import handlers
from deployed import BODY, ROLE, Deployed, eventually, sundog
from figures import QUICK, Figure, Report, against, quantile
from load import Caller

DEPLOYED = 100 if QUICK else 1000
CALLED = 5
SECONDS = 4.0 if QUICK else 20.0


def deploy(server: Deployed, count: int) -> list[str]:
    """So many functions of the same code, each with a name, a version and a folder of its own."""
    client = server.server.boto3()
    names = [f"f{number}" for number in range(count)]
    for number, name in enumerate(names):
        code = handlers.package(handlers.BARE + f"\nNUMBER = {number}\n")
        client.create_function(
            FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", MemorySize=128, Timeout=10,
            Code={"ZipFile": code},
        )  # fmt: skip
    for name in names:

        def active(name: str = name) -> bool:
            return client.get_function_configuration(FunctionName=name)["State"] == "Active"

        eventually(active, within=120, what=f"function {name} active")
    # Templates are built in the background, one after the other: what is measured is what comes after.
    eventually(lambda: server.http.get("/v1/fleet").json()["to_build"] == 0, within=1800, what="all templates built")
    return names


def latencies(server: Deployed, names: list[str]) -> list[float]:
    """Milliseconds of warm calls, the functions in random order."""
    callers: list[Caller] = [server.caller(name, BODY["bare"]) for name in names]
    for caller in callers * 3:
        caller.call()
    dice = random.Random(1)
    taken = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        taken.append(dice.choice(callers).timed()[0])
    return taken


def main() -> None:
    """Prints one table."""
    report = Report("many")
    found = {}
    for count in (CALLED, DEPLOYED):
        with sundog("--idle-instance", "600", "--idle-template", "3600") as server:
            names = deploy(server, count)
            step = count // CALLED
            found[count] = latencies(server, names[::step][:CALLED])
    few, many = (quantile(found[count], 0.99) for count in (CALLED, DEPLOYED))
    ratio = against(many, few)
    report.add(
        Figure("many.p99", f"{DEPLOYED:,} deployed, {CALLED} called, warm", "ms", quantile(found[DEPLOYED], 0.5), many, None, few,
               f"p99 with {CALLED}", ratio, "p99 as with 5 deployed", ratio <= 1.2, f"p99 with {CALLED} deployed {few:.3f} ms")
    )  # fmt: skip
    report.write()


if __name__ == "__main__":
    main()
