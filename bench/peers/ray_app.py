"""The same model behind Ray Serve: one replica, or from zero replicas when the second argument says so."""

import signal
import sys

import ray
from ray import serve

port, least = int(sys.argv[1]), int(sys.argv[2])
SCALING = {
    "min_replicas": least,
    "initial_replicas": least,
    "max_replicas": 1,
    "upscale_delay_s": 0,
    "downscale_delay_s": 600,
}


@serve.deployment(autoscaling_config=SCALING, max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})
class Risk:
    def __init__(self) -> None:
        from app import answer

        self.answer = answer

    async def __call__(self, request) -> dict[str, float]:
        return {"p": self.answer((await request.json())["row"])}


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(Risk.bind(), name="risk", route_prefix="/predict")
signal.sigwait({signal.SIGTERM, signal.SIGINT})
serve.shutdown()
ray.shutdown()
