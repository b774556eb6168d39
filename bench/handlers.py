"""The functions that are measured: a bare one, and one model (logistic regression, 30 numbers) in two libraries.

The same source serves in Sundog, in the bare loops that are the floor, and in the peers.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

SCIKIT_LEARN = ("scikit-learn==1.9.1", "numpy==2.4.6")
ONNXRUNTIME = ("onnxruntime==1.32.0", "numpy==2.4.6")

BARE = """
calls = 0

def handler(event, context):
    global calls
    calls += 1
    return {"calls": calls}
"""

SKLEARN = """
import os
import pickle

import numpy

calls = 0
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.pkl"), "rb") as file:
    model = pickle.load(file)

def answer(row):
    return float(model.predict_proba(numpy.asarray([row]))[0, 1])

for _ in range(3):
    answer([0.5] * 30)

def handler(event, context):
    global calls
    calls += 1
    return {"p": answer(event["row"]), "calls": calls}
"""

ONNX = """
import os

import numpy
import onnxruntime

calls = 0
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.onnx")
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

def answer(row):
    return float(session.run(None, {"row": numpy.asarray([row], dtype=numpy.float32)})[0][0, 0])

for _ in range(3):
    answer([0.5] * 30)

def handler(event, context):
    global calls
    calls += 1
    return {"p": answer(event["row"]), "calls": calls}
"""

ROW = [17.99, 10.38, 122.8, 1001.0, 0.1184, 0.2776, 0.3001, 0.1471, 0.2419, 0.07871, 1.095, 0.9053, 8.589, 153.4, 0.0064,
       0.049, 0.0537, 0.0159, 0.03, 0.0062, 25.38, 17.33, 184.6, 2019.0, 0.1622, 0.6656, 0.7119, 0.2654, 0.4601, 0.1189]  # fmt: skip


def write_models(folder: Path) -> None:
    """model.pkl and model.onnx: one logistic regression of the breast-cancer table, fitted once."""
    import numpy
    from onnx import TensorProto, helper, save
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression

    table = load_breast_cancer()
    model = LogisticRegression(max_iter=10_000).fit(table.data, table.target)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    weights = model.coef_.T.astype(numpy.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["row", "weights", "bias"], ["score"]),
            helper.make_node("Sigmoid", ["score"], ["p"]),
        ],
        "logistic",
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, [None, 30])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.flatten()),
            helper.make_tensor("bias", TensorProto.FLOAT, [1], model.intercept_.astype(numpy.float32)),
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")


def write_app(folder: Path, source: str) -> Path:
    """app.py beside the models, for a bare loop or a peer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.py").write_text(source)
    return folder


def package(source: str, *files: Path) -> bytes:
    """A code package with `source` as app.py and the files beside it."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", source)
        for file in files:
            archive.writestr(file.name, file.read_bytes())
    return memory.getvalue()


if __name__ == "__main__":
    import sys

    write_models(Path(sys.argv[1]))
