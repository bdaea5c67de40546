"""Tables and charts of the benchmark, from a stored example with made-up numbers: no torch, no timing."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from firstorder.__main__ import main
from firstorder.errors import UserError
from firstorder.report.benchmark import performance, performance_charts, performance_costs, performance_tables
from firstorder.report.figures import style
from firstorder.settings import checks

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests/bench_example.json"
PAGE = "# Speed\n\n<!-- firstorder:begin bench -->\nold\n<!-- firstorder:end bench -->\n\nafter\n"


@pytest.fixture
def result() -> dict[str, Any]:
    return performance.read(EXAMPLE)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Return a folder with docs/performance.md and the example as the only machine."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/performance.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "results/bench").mkdir(parents=True)
    shutil.copy(EXAMPLE, tmp_path / "results/bench/example.json")
    return tmp_path


def on_a_gpu(result: dict[str, Any]) -> dict[str, Any]:
    """Turn the example into one of a GPU: one process, with kernels and floors."""
    gpu = copy.deepcopy(result)
    gpu |= {"device": "cuda", "machine": "Example GPU, 16 cores"}
    gpu["limits"] |= {"copy_gigabytes_per_second": 3000.0, "launch_seconds": 1.5e-6}
    for workload in gpu["workloads"].values():
        for ways in workload["engines"].values():
            del ways["side by side"]
            more = {"kernels": 1000.0, "launch_floor_seconds": 0.0015, "peak_device_memory_mib": 512}
            ways["one process"] |= {**more, "bandwidth_floor_seconds": 0.0004, "units": 3}
    return gpu


def test_rates_have_a_row_for_every_round(result: dict[str, Any]) -> None:
    frame = performance.rates(result)
    assert len(frame) == 3 * 2 * 3  # rounds, ways, (W1: plain, native; W3: plain)
    row = frame[(frame["workload"] == "W1") & (frame["engine"] == "native") & (frame["layout"] == "side by side")].iloc[
        1
    ]
    assert row["rate"] == 41
    assert row["percent_of_limit"] == pytest.approx(100 * 41 * 3.93024 / 320)


def test_slopes_are_those_of_the_largest_counts(result: dict[str, Any]) -> None:
    """In the example, cost is linear except for 1 to 4 lanes of `plain`; the slope uses the last three, 4 to 16."""
    slopes = performance.scaling(result).groupby(["axis", "engine"])["slope"].first()
    assert slopes.to_numpy() == pytest.approx(1, abs=1e-3)


def test_bars_are_medians_and_whiskers_reach_the_slowest_and_fastest_round(result: dict[str, Any]) -> None:
    with style.applied():
        (axis,) = performance_charts.draw_rates(performance.rates(result)).axes
    widths = [bar.get_width() for bars in axis.containers for bar in bars]
    share = 100 * 3.93024 / 320
    assert any(width == pytest.approx(41 * share) for width in widths)
    ends = [sorted(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 2]
    assert any(end == pytest.approx([40 * share, 42 * share]) for end in ends)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["W1", "W3"]


def test_growth_is_drawn_with_its_slope(result: dict[str, Any]) -> None:
    with style.applied():
        figure = performance_charts.draw_scaling(performance.scaling(result))
    assert [axis.get_xlabel() for axis in figure.axes] == ["outer steps", "tasks", "lanes"]
    lanes = figure.axes[2].lines[0]
    assert list(lanes.get_xdata()) == [1, 2, 4, 8, 16]
    assert list(lanes.get_ydata()) == [0.05, 0.05, 0.05, 0.1, 0.2]
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["plain: slope 1.00", "native: slope 1.00"]


def test_the_table_compares_the_better_way_of_each_engine_with_plain(result: dict[str, Any]) -> None:
    text = performance_tables.markdown(result, "results/bench/example", Path("docs/performance.md"))
    (native,) = [line for line in text.splitlines() if line.startswith("|  | native")]
    assert "31 (30 to 32)" in native
    assert "41 (40 to 42) | 2.16 | 50.4 |" in native  # 41 / 19; 41 * 3.93 / 320
    assert "jax is left out: JAX is not installed." in text
    assert "native is left out in W3: no C compiler found" in text
    assert "![Percent of the limit on Example processor, 2 cores](../results/bench/example.png)" in text


def test_rates_are_shown_with_their_growth_with_threads(result: dict[str, Any]) -> None:
    text = performance_tables.markdown(result, "results/bench/example", Path("docs/performance.md"))
    assert "| One process, units a second | engine | 1 thread | 2 |" in text
    assert "| **W1** | native | 20 | 38 (x1.90) |" in text
    assert "| **W3** | native | 1 | 1.8 (x1.80) |" in text


def test_results_without_threads_are_read(result: dict[str, Any], tmp_path: Path) -> None:
    """Older files of the same schema lack them."""
    for path in (Path(__file__).parents[2] / "results/bench").glob("*.json"):
        performance.read(path)
    del result["scaling"]["threads"]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    old = performance.read(path)
    assert "1 thread |" not in performance_tables.markdown(old, "old", path)


def test_a_gpu_is_shown_apart_with_kernels_and_floors(measured: Path, result: dict[str, Any]) -> None:
    path = measured / "results/bench/gpu.json"
    path.write_text(json.dumps(on_a_gpu(result)), encoding="utf-8")
    performance.update(measured / "docs/performance.md", measured / "results/bench")
    text = (measured / "docs/performance.md").read_text(encoding="utf-8")
    cpu, gpu = text.split("### GPU")
    assert "Example processor" in cpu
    assert "Example GPU" not in cpu
    # 3 outer steps at once, 10 a second: 300 ms each time.
    assert "| plain | 10 (9 to 11) | 300 | 1,000 | 1.5 | 0.4 |" in gpu
    assert "copies 3,000 GB/s, an idle kernel in a graph 1.50 µs" in gpu


def test_the_page_is_rewritten_between_its_markers_only(measured: Path) -> None:
    page = measured / "docs/performance.md"
    command = ["performance", "--docs", str(page), "--results", str(measured / "results/bench")]
    assert main(command) == 0
    first = page.read_text(encoding="utf-8")
    names = {path.name for path in (measured / "results/bench").iterdir()}
    assert names == {"example.json"} | {f"example{part}.{kind}" for part in ("", "-scaling") for kind in KINDS}
    assert first.startswith("# Speed\n")
    assert first.endswith("\n\nafter\n")
    assert "old" not in first
    pictures = {path.name: path.read_bytes() for path in (measured / "results/bench").iterdir()}
    assert main(command) == 0
    assert page.read_text(encoding="utf-8") == first
    assert {path.name: path.read_bytes() for path in (measured / "results/bench").iterdir()} == pictures


KINDS = ("png", "pdf", "csv")


def test_hours_are_lengths_over_rates(result: dict[str, Any]) -> None:
    """100,000 outer steps at 41 a second by two processes on 2 cores: 100,000 * 2 / 41 / 3600 = 1.36 hours."""
    project = checks.load(ROOT / "params.yaml")
    lines = performance_costs.markdown([result, on_a_gpu(result)], project).splitlines()
    assert lines[4] == "| Computation | Machine | plain | native |"
    assert lines[6:] == [
        "| train reptile/omniglot-5way, 100,000 outer steps | Example processor, 2 cores | 2.92 (2.78) | 1.36 (0.90) |",
        "| train reptile/mini-imagenet-5way, 100,000 outer steps | Example processor, 2 cores | 50.51 (46.30) | — |",
    ]
    assert performance_costs.markdown([on_a_gpu(result)], project) == ""


def test_without_results_the_page_says_so(measured: Path) -> None:
    performance.update(measured / "docs/performance.md", measured / "nowhere")
    assert (measured / "docs/performance.md").read_text(encoding="utf-8").count(performance.NOTHING) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "not valid JSON"), ('{"schema": 0}', "expected schema 2, found 0"), ('{"schema": 2}', "keys missing")],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=words) as caught:
        performance.read(path)
    assert str(path) in str(caught.value)


def test_a_page_without_markers_is_named(measured: Path) -> None:
    (measured / "docs/performance.md").write_text("nothing here\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"performance\.md: expected one line"):
        performance.update(measured / "docs/performance.md", measured / "results/bench")


def test_software_of_a_contender_of_its_own_is_named(result: dict[str, Any]) -> None:
    engines = result["workloads"]["W1"]["engines"]
    engines["authors"] = {
        layout: {**entry, "software": "TensorFlow 2.15.1"} for layout, entry in engines["plain"].items()
    }
    text = performance_tables.markdown(result, "x", Path("docs/performance.md"))
    assert "\n\nauthors ran with TensorFlow 2.15.1." in text
