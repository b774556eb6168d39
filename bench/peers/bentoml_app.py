"""The same model behind BentoML, one worker."""

import bentoml


@bentoml.service(workers=1, logging={"access": {"enabled": False}})  # as uvicorn's is off
class Risk:
    def __init__(self) -> None:
        from app import answer

        self.answer = answer

    @bentoml.api
    def predict(self, row: list[float]) -> dict[str, float]:
        return {"p": self.answer(row)}
