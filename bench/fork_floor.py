"""The floor of a start: a warmed process is forked, the child answers one prediction. No server, no confinement, no socket.

Prints one line of JSON: milliseconds of each fork to its first answer, CPU of one start to the end of its teardown, and
MiB that an idle child holds for itself. Run by the benchmarks with the interpreter that has the libraries.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from pathlib import Path


def one(handler, event: dict) -> float:
    """Milliseconds from the fork to the answer's arrival."""
    reading, writing = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps(handler(event, None)).encode())
        os._exit(0)
    os.read(reading, 4096)
    taken = (time.perf_counter() - began) * 1000
    os.close(reading)
    os.close(writing)
    os.waitpid(child, 0)
    return taken


def held(handler, event: dict) -> float:
    """MiB that a child which has answered once holds for itself."""
    reading, writing = os.pipe()
    waiting, release = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        os.write(writing, json.dumps(handler(event, None)).encode())
        os.read(waiting, 1)
        os._exit(0)
    os.read(reading, 4096)
    lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty:", "Private_Clean:")))
    os.close(release)
    os.waitpid(child, 0)
    return private / 1024


def main() -> None:
    """fork_floor.py FOLDER COUNT EVENT: FOLDER holds app.py and its model."""
    folder, count, event = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    sys.path.insert(0, folder)
    from app import handler

    for _ in range(3):
        handler(event, None)
    gc.collect()
    gc.freeze()
    one(handler, event)

    def cpu() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before = cpu()
    taken = [one(handler, event) for _ in range(count)]
    used = (cpu() - before) / count
    began = time.perf_counter()
    calls = 0
    while time.perf_counter() - began < 1:
        handler(event, None)
        calls += 1
    loop_us = (time.perf_counter() - began) / calls * 1e6
    print(
        json.dumps({"ms": taken, "cpu_us": used * 1e6, "own_mib": held(handler, event), "handler_us": loop_us}),
        flush=True,
    )


if __name__ == "__main__":
    main()
