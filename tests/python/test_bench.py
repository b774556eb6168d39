"""./dev bench --check: what it compares, and that it never compares with the figures of an earlier run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from dev import bench
from dev.steps import StepFailed


class Programs:
    """A bench folder with the programs warm and start; `measured` is what each next run of one finds, None: nothing."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.results = folder / "build" / "bench" / "results"
        self.recorded = folder / "recorded.json"
        self.measured: dict[str, list[dict[str, float] | None]] = {}
        self.built = 0
        for name in ("start", "warm"):
            (folder / f"bench_{name}.py").touch()
        monkeypatch.setattr(bench, "FOLDER", folder)
        monkeypatch.setattr(bench, "ROOT", folder)
        monkeypatch.setattr(bench, "BUILD", folder / "build")
        monkeypatch.setattr(bench, "RECORDED", self.recorded)
        monkeypatch.setattr(bench, "build", self.build)
        monkeypatch.setattr(bench, "step", self.step)

    def build(self, preset: str, targets: list[str]) -> None:
        self.built += 1

    def step(self, what: str, command: list, extra: dict | None = None) -> None:
        name = what.split()[-1]
        found = self.measured[name].pop(0)
        if found is not None:
            figures = [{"id": key, "ratio": ratio} for key, ratio in found.items()]
            (self.results / f"{name}.json").write_text(json.dumps(figures))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(tmp_path, monkeypatch)


def test_without_recorded_figures_nothing_is_run(programs: Programs) -> None:
    with pytest.raises(StepFailed, match=r"recorded.json, .* is not there yet; ./dev bench --record makes it"):
        bench.main(bench.Asked(check=True))
    assert programs.built == 0


def test_a_regression_must_show_twice(programs: Programs) -> None:
    programs.recorded.write_text(json.dumps({"warm": {"p50": 2.0}, "start": {"p50": 3.0}}))
    programs.measured = {"warm": [{"p50": 2.5}, {"p50": 2.1}], "start": [{"p50": 3.5}]}
    bench.main(bench.Asked(check=True))
    programs.measured = {"warm": [{"p50": 2.5}, {"p50": 2.6}]}
    with pytest.raises(StepFailed, match="p50 is 2.6 times its floor"):
        bench.main(bench.Asked(names=["warm"], check=True))


def test_a_recorded_figure_that_was_not_measured_is_a_failure(programs: Programs) -> None:
    programs.measured = {"warm": [{"p50": 2.0, "p99": 4.0}], "start": [{"p50": 3.0}]}
    bench.main(bench.Asked(record=True))
    programs.measured = {"warm": [{"p50": 2.0}], "start": [None]}  # the file of the run before lies there still
    with pytest.raises(StepFailed, match="not measured: start: p50; warm: p99"):
        bench.main(bench.Asked(check=True))
    programs.measured = {"warm": [{"p50": 9.0, "p99": 4.0}, None]}
    with pytest.raises(StepFailed, match="p50 was not measured again"):
        bench.main(bench.Asked(names=["warm"], check=True))
