"""What one more function over one scikit-learn environment holds while parked, and what is left once all have gone."""

from __future__ import annotations

import sys
from pathlib import Path

import handlers
import installed
import machine
from deployed import BODY, LAYER, ROLE, Deployed, _environment, eventually, sundog
from figures import QUICK, Figure, Report, against

FUNCTIONS = 20 if QUICK else 1000
IDLE_TEMPLATE = 20 if QUICK else 300  # s: all are parked at the same time, then all go
LIMIT_MIB = 10.0
LIMIT_LEFT = 1.02


def deploy(server: Deployed, count: int) -> list[str]:
    """So many functions of one environment, each with a folder and an init of its own."""
    client = server.server.boto3()
    environment = _environment(server.http, handlers.SCIKIT_LEARN)
    names = [f"d{number}" for number in range(count)]
    for number, name in enumerate(names):
        code = handlers.package(handlers.SKLEARN + f"\nNUMBER = {number}\n", installed.models() / "model.pkl")
        client.create_function(
            FunctionName=name, Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}", Role=ROLE, Timeout=60,
            Handler="app.handler", MemorySize=512, Code={"ZipFile": code}, Layers=[LAYER.format(environment)],
        )  # fmt: skip
    for name in names:

        def active(name: str = name) -> bool:
            return client.get_function_configuration(FunctionName=name)["State"] == "Active"

        eventually(active, within=120, what=f"function {name} active")
    return names


def used_mib() -> float:
    """What the whole machine has in use."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return (int(fields["MemTotal"].split()[0]) - int(fields["MemAvailable"].split()[0])) / 1024


def wait_for_none(server: Deployed) -> None:
    """Until nothing of any function runs: the server and its launcher are left."""
    eventually(lambda: len(machine.tree(server.server.pid)) <= 2, within=IDLE_TEMPLATE + 120, what="nothing left")


def main() -> None:
    """Prints one table."""
    report = Report("density")
    # Which functions have a template, and since when, is this program's own doing.
    kept = ("--idle-template", str(IDLE_TEMPLATE), "--idle-environment", "1", "--no-prebuild")
    with sundog("--idle-instance", "1", "--parked", "0", *kept) as server:
        names = deploy(server, FUNCTIONS)
        server.caller(names[0], BODY["sklearn"]).call()
        wait_for_none(server)
        before, machine_before = machine.memory_mib(server.server.pid), used_mib()
        server.caller(names[0], BODY["sklearn"]).call()
        server.caller(names[1], BODY["sklearn"]).call()
        eventually(lambda: not server.instances(), what="no instance left")
        two, machine_two = machine.memory_mib(server.server.pid), used_mib()
        for name in names[2:]:
            server.caller(name, BODY["sklearn"]).call()
        eventually(lambda: not server.instances(), what="no instance left")
        templates = server.http.get("/v1/fleet").json()["templates"]
        if not templates:
            raise RuntimeError("All templates had ended before they were measured: --idle-template is too short here.")
        charged = sum(each["memory_mb"] for each in templates) / len(templates)
        all_of_them, machine_all = machine.memory_mib(server.server.pid), used_mib()
        wait_for_none(server)
        left, machine_left = machine.memory_mib(server.server.pid), used_mib()
    one = (all_of_them - two) / (FUNCTIONS - 2)
    one_machine = (machine_all - machine_two) / (FUNCTIONS - 2)
    report.add(
        Figure("density.function", f"one more of {len(templates):,} parked functions, scikit-learn", "MiB", one, one, None, None, "",
               None, f"≤ {LIMIT_MIB:.0f} MiB", one <= LIMIT_MIB,
               f"by the kernel's account of shared pages; its cgroup {charged:.2f} MiB; the machine {one_machine:.2f} MiB")
    )  # fmt: skip
    report.add(
        Figure("density.left", "memory once all have gone", "MiB", left, left, None, before, "before the first",
               against(left, before), "within 2 %", left <= LIMIT_LEFT * before,
               f"the machine {machine_left:,.0f} of {machine_before:,.0f} MiB; with all {all_of_them:,.0f} MiB")
    )  # fmt: skip
    report.write()


if __name__ == "__main__":
    main()
