"""Jobs: long work on the server (ingest, profile, preprocess, predict, deploy)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from sundog.errors import Cancelled, DeadlineExceeded, error_from_json
from sundog.tables import html_table
from sundog.transport import Json, Request, Transport, items


class Progress(Protocol):
    """Called as work goes on, with a word on what is done now and how far it is; `total` 0: not known."""

    def __call__(self, note: str, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class Job:
    """One job as the server described it last."""

    id: str
    kind: str
    state: str
    done: int = 0
    total: int = 0
    note: str = ""
    result: Json = None
    error: Json = None
    created: str = ""
    ended: str = ""
    json: Json = field(default=None, repr=False, compare=False)

    @property
    def over(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")

    def _repr_html_(self) -> str:
        return html_table(["job", "kind", "state", "progress"], [[self.id, self.kind, self.state, self.note]])


def parse_job(json: Json) -> Job:
    """A Job of protocol/api.md."""
    progress = json.get("progress") or {}
    return Job(
        id=json["id"],
        kind=json.get("kind", ""),
        state=json["state"],
        done=int(progress.get("done") or 0),
        total=int(progress.get("total") or 0),
        note=progress.get("note") or "",
        result=json.get("result"),
        error=json.get("error"),
        created=json.get("created") or "",
        ended=json.get("ended") or "",
        json=json,
    )


def get_job_request(job_id: str, wait: int = 0) -> Request:
    return Request("GET", f"/v1/jobs/{job_id}", params={"wait": wait or None}, timeout=wait + 30.0)


class Jobs:
    """The jobs of this tenant."""

    def __init__(self, transport: Transport, clock: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._clock = clock

    def get(self, job_id: str) -> Job:
        return parse_job(self._transport.call(get_job_request(job_id)))

    def list(self) -> Iterator[Job]:
        """Every job without its result, the newest first; asks for a page of them when it gets there."""
        return (parse_job(job) for job in items(self._transport, "/v1/jobs"))

    def cancel(self, job_id: str) -> None:
        self._transport.call(Request("DELETE", f"/v1/jobs/{job_id}"))

    def wait(
        self, job: Job | str | dict[str, Any], *, progress: Progress | None = None, timeout: float = 3600.0
    ) -> Job:
        """Waits until the job has succeeded.

        Args:
            job: A Job, its id, or the server's answer that announced it.
            progress: Told of every step forward.
            timeout: Seconds.

        Raises:
            SundogError: The job failed; the error has the job's own code, message and hint.
            Cancelled: It was cancelled.
            DeadlineExceeded: It goes on, but not within `timeout`.
        """
        current = job if isinstance(job, Job) else self.get(job) if isinstance(job, str) else parse_job(job)
        deadline = self._clock() + timeout
        while True:
            if progress is not None:
                progress(current.note or current.kind, current.done, current.total)
            if current.over:
                break
            left = deadline - self._clock()
            if left <= 0:
                raise DeadlineExceeded(
                    f"Job {current.id} ({current.kind}) is still {current.state} after {timeout:g} s.",
                    f"It goes on; look again with: sundog jobs show {current.id}",
                )
            current = parse_job(self._transport.call(get_job_request(current.id, wait=max(1, min(20, int(left))))))
        if current.state == "failed":
            raise error_from_json(current.error, f"Job {current.id} ({current.kind}) failed.")
        if current.state == "cancelled":
            raise Cancelled(f"Job {current.id} ({current.kind}) was cancelled.")
        return current
