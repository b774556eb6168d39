"""A study goes on after kill -9 of the server and the loss of its client."""

from __future__ import annotations

import threading
from collections.abc import Callable

import sundog
from harness import Server, eventually

app = sundog.App("restart")
ENVIRONMENT = sundog.Environment("numpy==2.4.6")
SPACE = {"x": sundog.uniform(-1.0, 1.0)}
ROWS = [{"a": n, "label": n % 2} for n in range(100)]


@app.training(environment=ENVIRONMENT, memory=512, timeout=60)
def fit(run, data, *, x: float = 0.0):
    """No learner: the study's way is what is tested, not a model."""
    import time

    time.sleep(1)
    run.log(score=1 - x * x)
    return {"x": x}


def tune(cloud: sundog.Cloud, data: sundog.DatasetVersion | str) -> sundog.Study:
    """The same call, whoever makes it."""
    return cloud.tune(fit, data, space=SPACE, trials=5, parallel=1, maximise="score", name="kept", pruner="none")


def test_the_same_call_goes_on(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server().start()
    cloud = server.cloud()
    data = cloud.datasets.create("rows", ROWS, label="label").preprocess(split=(0.6, 0.2, 0.2))
    lost: list[BaseException] = []

    def first_client() -> None:
        try:
            tune(cloud, data)
        except BaseException as error:
            lost.append(error)

    client = threading.Thread(target=first_client)
    client.start()
    watcher = server.cloud()

    def finished() -> dict[int, str]:
        try:
            study = watcher.studies.get("kept")
        except sundog.NotFound:
            return {}
        return {trial.number: trial.run for trial in study.trials if trial.state == "succeeded"}

    before = eventually(finished, within=120, what="the first trial's end")
    server.kill()
    client.join(120)
    assert not client.is_alive()
    assert isinstance(lost[0], sundog.SundogError)
    server.start()
    study = tune(server.cloud(), data.reference)
    after = {trial.number: trial.run for trial in study.trials if trial.state == "succeeded"}
    assert len(after) == 5
    assert before.items() <= after.items()
    assert server.stop() == 0
