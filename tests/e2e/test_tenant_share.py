"""One tenant's flood: the other's calls are all served, the flood's surplus is refused at once, and what was taken is answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from harness import Server, eventually

SOURCE = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return 1\n"
FLOODERS = 48  # four slots: more than can be served within the patience
CALLS = 10


def test_a_flood_of_one_leaves_the_other_served(
    fresh_server: Callable[..., Server], package: Callable[..., bytes]
) -> None:
    # Room for some four instances beside the two templates.
    server = fresh_server("--memory-mb", "620", "--queue-limit", "4").start()
    tenants: dict[str, httpx.Client] = {}
    with server.http() as http:
        for tenant in ("rich", "poor"):
            key = http.post("/v1/keys", json={"role": "admin", "tenant": tenant}).json()
            headers = {"Authorization": f"Bearer {key['token']}"}
            tenants[tenant] = httpx.Client(
                base_url=server.url, headers=headers, timeout=60, limits=httpx.Limits(max_connections=64)
            )
    import base64

    for client in tenants.values():
        body = {
            "FunctionName": "f",
            "Runtime": "python3.11",
            "Role": "arn:aws:iam::000000000000:role/any",
            "Handler": "app.handler",
            "Timeout": 30,
            "Code": {"ZipFile": base64.b64encode(package(app=SOURCE)).decode()},
        }
        assert client.post("/2015-03-31/functions", json=body).status_code == 201
        assert client.post("/2015-03-31/functions/f/invocations", json=0).json() == 1

    flood: Counter[int] = Counter()
    over = threading.Event()
    lock = threading.Lock()

    def hammer(_: int) -> None:
        while not over.is_set():
            answer = tenants["rich"].post("/2015-03-31/functions/f/invocations", json=0.3)
            with lock:
                flood[answer.status_code] += 1
            if answer.status_code == 429:
                assert int(answer.headers["Retry-After"]) >= 1
                over.wait(0.2)

    with ThreadPoolExecutor(FLOODERS) as pool:
        hammering = [pool.submit(hammer, n) for n in range(FLOODERS)]
        eventually(lambda: flood[429] > 0, within=60, what="a refusal of the flood")
        answers = [tenants["poor"].post("/2015-03-31/functions/f/invocations", json=0) for _ in range(CALLS)]
        over.set()
        for one in hammering:
            one.result()
    assert [answer.status_code for answer in answers] == [200] * CALLS
    assert set(flood) <= {200, 429}
    assert flood[200] > FLOODERS / 4
    for client in tenants.values():
        client.close()
