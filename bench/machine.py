"""The machine that is measured: what it is, what a tree of processes consumed, how much memory it holds."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

import psutil

TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[psutil.Process]:
    """A process and everything below it."""
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def _times(pid: int) -> float:
    """Seconds of CPU of a process and of all children that it has reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICK


def cpu_seconds(pid: int) -> float:
    """User and system time of a whole tree, of what in it has ended too: take differences of two."""
    return sum(_times(process.pid) for process in tree(pid))


def settled_cpu_seconds(pid: int, quiet: float = 0.5, within: float = 20.0) -> float:
    """The same, once nothing of the tree works any more: the teardown is counted."""
    deadline = time.monotonic() + within
    before = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(quiet)
        now = cpu_seconds(pid)
        if now - before <= 1 / TICK:
            return now
        before = now
    return before


def machine_busy_seconds() -> float:
    """Seconds that all cores together were not idle since boot."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, idle, iowait, irq, softirq, steal = fields
    del idle, iowait
    return (user + nice + system + irq + softirq + steal) / TICK


def memory_mib(pid: int) -> float:
    """Proportional set size of a whole tree: pages that several share are counted once."""
    total = 0
    for process in tree(pid):
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
    return total / 1024


def own_mib(pid: int) -> float:
    """What a process holds for itself alone: its own copies."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    wanted = ("Private_Dirty:", "Private_Clean:")
    return sum(int(line.split()[1]) for line in lines if line.startswith(wanted)) / 1024


def describe() -> dict[str, str]:
    """What the figures depend on, for the page that shows them."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    system = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line.partition("=")[1]
    )
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    words = (said.stdout + said.stderr).split()
    return {
        "CPU": f"{cpu}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": f"Linux {platform.release()}",
        "cgroup": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
        "system": system.get("PRETTY_NAME", "").strip('"'),
        "Python": platform.python_version(),
        "wrk": words[1] if len(words) > 1 else "absent",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }
