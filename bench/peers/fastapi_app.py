"""The same model behind FastAPI and uvicorn, one worker."""

from app import answer
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Row(BaseModel):
    row: list[float]


@app.post("/predict")
def predict(body: Row) -> dict[str, float]:
    return {"p": answer(body.row)}
