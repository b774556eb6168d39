"""Watches handlers from outside: each tells, over a connection of its own, when it begins and how long it took by its own clock.

Nothing of it goes through Sundog, so that what it saw can be held against what Sundog's ledger says. The lines of a handler that is
killed stay: the kernel has them.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import defaultdict
from dataclasses import dataclass, field

# In a handler's module: `tell("begin", context)` first, `tell("end", context, began)` last. Needs the network `host`.
TELL = """
import os, resource, socket, time
_link = []
def tell(word, context, began=None):
    if not _link:
        _link.append(socket.create_connection(("127.0.0.1", int(os.environ["OBSERVER"]))))
        _link[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken = 0 if began is None else time.perf_counter_ns() - began
    aside = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    _link[0].sendall(f"{word} {context.aws_request_id} {taken} {aside}\\n".encode())
"""


def stand_back() -> None:
    """The calling thread takes a core only when nobody else wants it, so that it sets no handler aside."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


@dataclass
class Seen:
    """Of one request id: how often it began, and the milliseconds of those that came to their end, in order.

    `set_aside`: how often the kernel gave its core to another between what the handler reads and what the runtime reads, as far as it is known:
    before the handler's first reading and, once the instance's next call tells it, after its last.
    """

    begun: int = 0
    took_ms: list[float] = field(default_factory=list)
    set_aside: int = 0


class Observer:
    """A listener on a port of its own; `seen` by request id."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self.seen: dict[str, Seen] = defaultdict(Seen)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            reading = threading.Thread(target=self._read, args=(link,), daemon=True)
            self._threads.append(reading)
            reading.start()

    def _read(self, link: socket.socket) -> None:
        stand_back()
        last = ("", 0)  # of this instance: the request before, and the count at its end
        with link, link.makefile("rb") as lines:
            try:
                for line in lines:
                    if line.endswith(b"\n"):
                        last = self._note(*line.decode().split(), last=last)
            except OSError:
                return  # reset: its instance was killed

    def _note(self, word: str, request_id: str, taken: str, aside: str, *, last: tuple[str, int]) -> tuple[str, int]:
        seen, count = self.seen[request_id], int(aside)
        with self._lock:
            if word == "begin":
                seen.begun += 1
                for touched in {request_id, last[0]} - {""}:
                    self.seen[touched].set_aside += count - last[1]
            else:
                seen.took_ms.append(int(taken) / 1e6)
        return request_id, count

    def close(self) -> None:
        """Once no instance lives any more: what they told is all read."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(10)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "an instance still has its connection"
