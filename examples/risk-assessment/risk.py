"""Risk assessment: from 30,000 real credit histories to a decision, with its reasons.

Run it against a server (`sundog up` in another terminal):

    python risk.py

It collects the table, looks at it, prepares and balances it, trains and tunes two kinds of model, keeps the better one,
deploys it, measures it on clients that no training saw, and deploys a function that decides: proceed, or freeze until the
previous bills are covered. `sundog demo` runs this file too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import sundog

CSV = Path(__file__).with_name("credit_default.csv.gz")
LABEL = "default-payment-next-month"
# The decision must not rest on who somebody is: sex, age and marital status stay out (and so does the row's number).
LEFT_OUT = ["ID", "SEX", "AGE", "MARRIAGE_0", "MARRIAGE_1", "MARRIAGE_2", "MARRIAGE_3"]
# The training part is balanced: the clients in default weigh as much as those who paid, so at a half both count alike.
THRESHOLD = 0.5

app = sundog.App("risk")
env = sundog.Environment("scikit-learn==1.9.1", "pandas")


@app.training(environment=env, memory=1024, timeout=300)
def fit_trees(run: Any, data: Any, *, learning_rate: float = 0.05, max_leaf_nodes: int = 12, l2: float = 5.0) -> Any:
    """Gradient-boosted trees, grown in three rounds; the AUC after each tells whether going on is worth it."""
    import numpy
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    def relations(frame: Any) -> Any:
        """The columns, and what a banker would read from them: the limit's use, bills covered, months late, trends."""
        limit = frame["LIMIT_BAL"].to_numpy(float).clip(1)
        bills = frame[[f"BILL_AMT{month}" for month in range(1, 7)]].to_numpy(float)
        paid = frame[[f"PAY_AMT{month}" for month in range(1, 7)]].to_numpy(float)
        late = frame[["PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"]].to_numpy(float)
        used = bills / limit[:, None]
        covered = paid[:, :5] / bills[:, 1:].clip(1)
        sums = [late.max(1), late.clip(0).sum(1), late.mean(1), (late > 0).sum(1), paid.sum(1), paid.sum(1) / limit]
        trends = [paid.min(1), used.mean(1), used[:, 0] - used[:, 5]]
        return numpy.hstack([frame.to_numpy(float), used, covered, numpy.column_stack(sums + trends)])

    (x, y), weights = data.split("train").xy(), data.split("train").weights()
    x_valid, y_valid = data.split("valid").xy()
    features = FunctionTransformer(relations).fit(x)
    trees = HistGradientBoostingClassifier(
        learning_rate=learning_rate,
        max_leaf_nodes=max_leaf_nodes,
        l2_regularization=l2,
        min_samples_leaf=80,
        max_features=0.3,
        early_stopping=False,
        warm_start=True,
        random_state=1,
    )
    model = Pipeline([("relations", features), ("trees", trees)])
    known = features.transform(x)
    for count in (50, 100, 150):
        trees.set_params(max_iter=count).fit(known, y, sample_weight=weights)
        run.log(step=count, auc=roc_auc_score(y_valid, model.predict_proba(x_valid)[:, 1]))
    return model


@app.training(environment=env, memory=512, timeout=300)
def fit_logistic(run: Any, data: Any, *, c: float = 1.0) -> Any:
    """Logistic regression on standardised columns: the simple model that the trees must beat."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (x, y), weights = data.split("train").xy(), data.split("train").weights()
    x_valid, y_valid = data.split("valid").xy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, solver="newton-cholesky"))
    model.fit(x, y, logisticregression__sample_weight=weights)
    run.log(auc=roc_auc_score(y_valid, model.predict_proba(x_valid)[:, 1]))
    return model


MONTHS = ("September", "August", "July", "June", "May", "April")
PAY = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6")


def feature_groups() -> dict[str, list[str]]:
    """What a reason can be, in words, and the columns that it stands for."""
    groups = {"credit limit": ["LIMIT_BAL"], "education": [f"EDUCATION_{i}" for i in range(7)]}
    for month, pay in zip(MONTHS, PAY, strict=True):
        groups[f"repayment status in {month}"] = [pay]
    for number, month in enumerate(MONTHS, 1):
        groups[f"bill of {month}"] = [f"BILL_AMT{number}"]
        groups[f"payment in {month}"] = [f"PAY_AMT{number}"]
    return groups


def decision_function(model: str, typical: dict[str, float], threshold: float = THRESHOLD) -> Any:
    """The function that decides, for a deployed model.

    Args:
        model: The model's name; its endpoint is called from within the function.
        typical: Column → the training part's median: the client that others are compared with.
        threshold: The score from which on to freeze.
    """
    groups = feature_groups()

    @app.function(memory=128, timeout=60, name="decide")
    def decide(client: dict[str, Any]) -> dict[str, Any]:
        """{"decision","score","reasons"} for one client; a reason's effect is how far it moved the score.

        Occlusion: each feature in turn is set to its typical value, and the change of the score is its effect. All
        variants are scored in one call of the model.
        """
        import sundog.runtime.host as host

        variants = [client] + [{**client, **{c: typical[c] for c in columns}} for columns in groups.values()]
        answer = host.invoke(f"model-{model}", {"rows": variants}, qualifier="live")
        score, *without = (row["probability"] for row in answer["rows"])
        freeze = score >= threshold
        effects = [
            {"feature": name, "effect": round(score - other, 4), "value": [client[c] for c in columns]}
            for (name, columns), other in zip(groups.items(), without, strict=True)
        ]
        effects.sort(key=lambda e: -e["effect"] if freeze else e["effect"])
        moved = [e for e in effects if (e["effect"] > 0) == freeze and abs(e["effect"]) >= 0.005]
        return {
            "decision": "freeze until the previous bills are covered" if freeze else "proceed",
            "score": round(score, 4),
            "reasons": moved[:3],
        }

    return decide


class Report(Protocol):
    """A step that goes on: progress as it comes, one sentence of result."""

    def __call__(self, note: str, done: int, total: int) -> None: ...
    def result(self, text: str) -> None: ...


Step = Callable[[str], AbstractContextManager[Report]]


class _Line:
    def __init__(self) -> None:
        self.text = ""

    def __call__(self, note: str, done: int, total: int) -> None:
        pass

    def result(self, text: str) -> None:
        self.text = text


@contextlib.contextmanager
def plain_step(title: str) -> Iterator[Report]:
    """Prints a line a step: its title, seconds and result."""
    start, line = time.monotonic(), _Line()
    yield line
    print(f"{title:<44} {time.monotonic() - start:6.1f} s   {line.text}", flush=True)


@dataclass
class Assessment:
    """What came out."""

    data: sundog.DatasetVersion
    endpoint: sundog.Endpoint
    decide: Any
    chosen: str
    valid_auc: dict[str, float]
    test_auc: float
    clients: list[dict[str, Any]]


def tune_both(
    cloud: sundog.Cloud, data: sundog.DatasetVersion, step: Step, trials: int, parallel: int
) -> dict[str, sundog.Study]:
    """Learner → its study: trees, and a line to compare them with."""
    with step(f"Tune gradient-boosted trees, {trials} trials") as report:
        trees = cloud.tune(
            fit_trees,
            data,
            space={
                "learning_rate": sundog.loguniform(0.03, 0.08),
                "max_leaf_nodes": sundog.integer(7, 16),
                "l2": sundog.loguniform(1.0, 10.0),
            },
            trials=trials,
            parallel=parallel,
            maximise="auc",
            progress=report,
        )
        stopped = sum(1 for t in trees.trials if t.state == "pruned")
        report.result(f"AUC {trees.best.value:.4f} on the validation part, {stopped} trials stopped early")

    with step("Tune logistic regression, 3 trials") as report:
        logistic = cloud.tune(
            fit_logistic,
            data,
            space={"c": sundog.loguniform(0.001, 10.0)},
            trials=3,
            parallel=parallel,
            maximise="auc",
            progress=report,
        )
        report.result(f"AUC {logistic.best.value:.4f} on the validation part")

    return {"gradient-boosted trees": trees, "logistic regression": logistic}


def assess(cloud: sundog.Cloud, step: Step = plain_step, *, trials: int = 6, parallel: int = 2) -> Assessment:
    """The whole way. `trials` for the trees; `parallel` instances at a time."""
    with step("Build the environment, once") as report:
        for function in (fit_trees, fit_logistic):
            cloud.functions.deploy(function, progress=report)
        built = [e for e in cloud.environments.list() if any("scikit-learn" in p for p in e.packages)]
        report.result(f"{len(built[-1].resolved)} packages" if built else "")

    with step("Collect 30,000 clients") as report:
        raw = cloud.datasets.create("clients", CSV, label=LABEL, progress=report)
        report.result(f"{raw.rows:,} rows × {len(raw.columns)} columns, {raw.quarantined} quarantined")

    with step("Look at every column") as report:
        profile = raw.profile(progress=report)
        report.result(" ".join([f"{profile.duplicate_rows} duplicate rows.", *profile.warnings[:1]]))

    with step("Clean, split, balance the training part") as report:
        data = raw.preprocess(
            name="clients-ready",
            drop=LEFT_OUT,
            balance="weights",
            split=(0.6, 0.2, 0.2),
            split_by="stratified",
            seed=5,
            fit_in="512 MB",
            progress=report,
        )
        report.result(", ".join(f"{split} {rows:,}" for split, rows in data.splits.items()))

    studies = tune_both(cloud, data, step, trials, parallel)
    chosen = max(studies, key=lambda name: studies[name].best.value or 0.0)

    with step("Register and deploy the better one") as report:
        version = cloud.models.register("risk", studies[chosen].best)
        endpoint = version.deploy(alias="live", memory=512, progress=report)
        report.result(f"{chosen}, version {version.version}")

    with step("Score the held-out fifth, offline") as report:
        scored = endpoint.predict_offline(data, name="clients-scored", split="test", parallel=parallel, progress=report)
        table = scored.to_arrow()
        test_auc = auc(table.column(LABEL).to_pylist(), table.column("probability").to_pylist())
        report.result(f"AUC {test_auc:.4f} on {table.num_rows:,} clients that no training saw")

    with step("Deploy the decision") as report:
        decide = cloud.functions.deploy(decision_function("risk", medians(data)), progress=report)
        report.result(decide.name)

    inputs = [column.name for column in version.signature.inputs]
    examples = table.slice(0, 200).to_pylist()
    examples.sort(key=lambda row: row["probability"])
    clients = [
        {name: row[name] for name in inputs} for row in (examples[len(examples) // 8], examples[-len(examples) // 16])
    ]
    return Assessment(
        data=data,
        endpoint=endpoint,
        decide=decide,
        chosen=chosen,
        valid_auc={name: study.best.value or 0.0 for name, study in studies.items()},
        test_auc=test_auc,
        clients=clients,
    )


def medians(data: sundog.DatasetVersion) -> dict[str, float]:
    """Column → median of the training part."""
    import numpy

    table = data.to_arrow("train")
    found = {}
    for column in data.columns:
        if column.name not in (data.label, "__weight__"):
            median = float(numpy.nanmedian(table.column(column.name).to_numpy()))
            found[column.name] = round(median) if column.type == "int64" else median
    return found


def auc(labels: list[Any], scores: list[float]) -> float:
    """The area under the ROC curve: the share of pairs (a default, a payment) that the scores order rightly; ties half."""
    import numpy

    positive = numpy.asarray(labels, dtype=float) > 0.5
    _, index, counts = numpy.unique(numpy.asarray(scores), return_inverse=True, return_counts=True)
    ranks = (numpy.cumsum(counts) - (counts - 1) / 2.0)[index]
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2.0) / (n * m))


def main() -> None:
    """Runs it and prints two decisions and the bill."""
    cloud = sundog.connect()
    found = assess(cloud)
    for client in found.clients:
        answer = found.decide.remote(client)
        print(f"\n{answer['decision']} (score {answer['score']})")
        for reason in answer["reasons"]:
            print(
                f"  {reason['feature']} = {reason['value'][0] if len(reason['value']) == 1 else 'as given'}: {reason['effect']:+.3f}"
            )
    print(f"\n{cloud.bill()}")


if __name__ == "__main__":
    main()
