"""Times estimated from a benchmark are proportional to operations and count for one device only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from firstorder.bench import flops
from firstorder.settings import checks
from firstorder.upkeep import estimates, plan

BENCH = Path(__file__).parents[1] / "bench_example.json"
ROOT = Path(__file__).parents[2]
MACHINE = "Example processor, 2 cores, Linux x86_64"


@pytest.fixture
def bench(tmp_path: Path) -> dict[str, object]:
    """Return the example as `read` finds it: native does 121.84e9 and plain 39.3e9 operations a second."""
    folder = tmp_path / "results/bench"
    folder.mkdir(parents=True)
    (folder / "example.json").write_text(BENCH.read_text(encoding="utf-8"), encoding="utf-8")
    found = estimates.read(tmp_path, "cpu", MACHINE)
    assert found is not None
    return found


def test_only_the_benchmark_of_this_device_counts(tmp_path: Path, bench: dict[str, object]) -> None:
    assert bench["machine"] == "Example processor, 2 cores"
    assert estimates.read(tmp_path, "cpu", "another") is None
    assert estimates.read(tmp_path, "NVIDIA H100", MACHINE) is None
    assert estimates.read(tmp_path / "nothing", "cpu", MACHINE) is None


def test_a_trainings_time_is_its_operations_at_the_measured_rate(bench: dict[str, object]) -> None:
    settings = checks.load(ROOT / "params.yaml").trainings["reptile/omniglot-5way"]
    seconds = estimates.of_training(bench, settings)
    steps = settings.outer_steps * flops.of_outer_step(settings) / 121.84e9
    assert seconds is not None
    assert steps < seconds < 1.2 * steps  # the learning curve costs the rest
    half = replace(settings, outer_steps=settings.outer_steps // 2)
    assert estimates.of_training(bench, half) == pytest.approx(seconds / 2)


def test_a_time_without_a_similar_workload_stays_unknown(bench: dict[str, object]) -> None:
    project = checks.load(ROOT / "params.yaml")
    assert estimates.of_training(bench, project.trainings["maml/omniglot-5way-1shot"]) is None
    assert estimates.of_training({}, project.trainings["reptile/omniglot-5way"]) is None


def test_the_plan_marks_estimates(tmp_path: Path, bench: dict[str, object]) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    printed = plan.describe(tmp_path, plan.Device("cpu", MACHINE))
    (line,) = [line for line in printed.splitlines() if line.startswith("reptile/omniglot-5way ")]
    assert line.split()[-4].startswith("~")
    assert "~: estimated from the benchmark of this device" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("maml/omniglot-5way-1shot ")]
    assert line.split()[-1] == "unknown"
