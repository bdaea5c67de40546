"""Speeds of devices: from a benchmark, from the nearest recorded one, or from what the package knows."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from firstorder.bench import flops
from firstorder.settings import CURVE, checks
from firstorder.upkeep import costs, estimates, plan, plan_text, recorded_speeds
from firstorder.upkeep.costs import Work
from firstorder.upkeep.estimates import Device, Speed, Speeds

BENCH = Path(__file__).parents[1] / "bench_example.json"
ROOT = Path(__file__).parents[2]
MACHINE = "Example processor, 2 cores, Linux x86_64"
PROJECT = checks.load(ROOT / "params.yaml")


@pytest.fixture
def bench(tmp_path: Path) -> Speeds:
    """Return the example as `read` finds it: native does 121.84e9 operations a second with two threads."""
    folder = tmp_path / "results/bench"
    folder.mkdir(parents=True)
    (folder / "example.json").write_text(BENCH.read_text(encoding="utf-8"), encoding="utf-8")
    found = estimates.read(tmp_path, "cpu", MACHINE)
    assert found is not None
    return estimates.speeds(found, "the example")


def test_only_the_benchmark_of_this_device_counts(tmp_path: Path, bench: Speeds) -> None:
    assert bench.device == Device("cpu", MACHINE)
    assert estimates.read(tmp_path, "cpu", "another") is None
    assert estimates.read(tmp_path, "NVIDIA H100", MACHINE) is None
    assert estimates.read(tmp_path / "nothing", "cpu", MACHINE) is None


def test_a_trainings_time_is_its_operations_at_the_measured_rate(bench: Speeds) -> None:
    settings = PROJECT.trainings["reptile/omniglot-5way"]
    seconds = bench.of["W1"].seconds(costs.of_training(settings), threads=2)
    steps = settings.outer_steps * flops.of_outer_step(settings) / 121.84e9
    assert steps < seconds < 1.2 * steps  # the learning curve costs the rest
    half = costs.of_training(replace(settings, outer_steps=settings.outer_steps // 2))
    assert bench.of["W1"].seconds(half, threads=2) == pytest.approx(seconds / 2)


def test_a_workload_that_was_not_measured_has_the_speed_of_a_similar_one(bench: Speeds) -> None:
    maml = costs.of_training(PROJECT.trainings["maml/omniglot-5way-1shot"])
    assert maml.workload not in bench.of
    found = estimates.estimate(maml, [bench])
    assert found.source == "the example"
    assert found.seconds == pytest.approx(bench.of["W1"].seconds(maml))
    with pytest.raises(LookupError):
        estimates.estimate(maml, [])


def test_what_only_plain_computes_has_the_speed_of_plain(bench: Speeds) -> None:
    """In the example plain is slower than native; where plain was not measured, the time is that of what was."""
    settings = PROJECT.trainings["reptile/omniglot-5way"]
    work, momentum = (costs.of_training(replace(settings, inner_beta1=beta1)) for beta1 in (None, 0.9))
    assert (momentum.workload, momentum.operations) == ("W1, engine plain", work.operations)
    found = estimates.estimate(momentum, [bench])
    assert found.speed == bench.of["W1, engine plain"]
    assert found.seconds > 1.5 * estimates.estimate(work, [bench]).seconds
    native_only = dataclasses.replace(bench, of={"W1": bench.of["W1"]})
    assert estimates.estimate(momentum, [native_only]).speed == bench.of["W1"]
    evaluation = PROJECT.evaluations["reptile/omniglot-5way/1shot"]
    assert costs.of_evaluation(replace(settings, inner_beta1=0.9), evaluation).workload == "W5 omniglot, engine plain"


def test_a_source_that_measured_the_workload_goes_before_a_nearer_one_that_did_not(bench: Speeds) -> None:
    maml = costs.of_training(PROJECT.trainings["maml/omniglot-5way-1shot"])
    assert estimates.estimate(maml, [bench, *recorded_speeds.recorded()]).source.endswith(
        "AMD EPYC (family 25 model 17), 2 cores, Linux x86_64"
    )


def test_more_threads_count_as_far_as_they_were_measured() -> None:
    speed, work = Speed({1: 10.0, 4: 30.0}), Work("W1", 60.0)
    assert [speed.seconds(work, threads) for threads in (1, 2, 4, 64)] == [6.0, 6.0, 2.0, 2.0]


def test_on_a_gpu_an_outer_step_takes_its_operations_or_its_kernels_whichever_is_longer() -> None:
    speed = Speed({1: 100.0}, kernels=10.0)
    assert speed.seconds(Work("W1", 1000.0, kernels=20.0)) == 10.0
    assert speed.seconds(Work("W1", 100.0, kernels=50.0)) == 5.0


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("reptile/omniglot-5way", 1528),
        ("reptile/omniglot-20way", 3003),
        ("reptile/mini-imagenet-5way", 2893),
        ("joint/omniglot-5way-g1", 59 + 34),
    ],
)
def test_kernels_are_those_that_were_counted(name: str, kernels: int) -> None:
    """The table of docs/performance.md, "GPU engine"."""
    assert costs.kernels_of_outer_step(PROJECT.trainings[name]) == kernels


def test_kernels_of_the_benchmarks_w4_are_those_that_were_counted() -> None:
    """One inner step, its query, and for MAML one Hessian product: 166 and 641 in docs/performance.md."""
    counted = {}
    for name in ("fomaml", "maml"):
        settings = PROJECT.trainings[f"{name}/omniglot-5way-1shot"]
        counted[name] = costs.kernels_of_outer_step(replace(settings, inner_steps=1))
    assert counted == {"fomaml": 166, "maml": 641}


def test_the_nearest_machine_is_of_the_same_processor() -> None:
    names = (
        "AMD EPYC (family 25 model 17), 2 cores, Linux x86_64",
        "Intel(R) Xeon(R) Processor, 2 cores, Linux x86_64",
        "Apple M3, 8 cores",
    )
    known = [Speeds(Device("cpu", name), name, {"W1": Speed({1: 1.0})}) for name in names]
    known.append(Speeds(Device("NVIDIA H200", ""), "a GPU", {"W1": Speed({1: 1.0})}))

    def nearest(device: Device) -> str:
        return estimates.nearest(device, known)[0].source

    assert nearest(Device("cpu", "AMD EPYC 9654 96-Core Processor, 96 cores, Linux x86_64")) == names[0]
    assert nearest(Device("cpu", "Intel(R) Xeon(R) Platinum 8480+, 64 cores, Linux x86_64")) == names[1]
    assert nearest(Device("NVIDIA A100-SXM4-80GB", "")) == "a GPU"


def test_the_speeds_that_the_package_knows_are_those_that_were_recorded() -> None:
    """They are copies: of a benchmark, of run files, and of docs/evidence.md."""
    bench = json.loads((ROOT / "results/bench/amd-epyc-family-25-model-17-2-cores.json").read_text(encoding="utf-8"))
    cpu, gpu = recorded_speeds.recorded()
    for name, speed in estimates.speeds(bench, "").of.items():
        assert cpu.of[name].operations == pytest.approx(speed.operations)
    studies = {
        costs.MANIFOLDS: (costs.of_manifolds(PROJECT.section("manifolds")), "manifolds/points"),
        costs.EXPANSION: (costs.of_expansion(PROJECT), "theory/expansion"),
        costs.INNER_PRODUCTS: (
            costs.of_inner_products(PROJECT, "reptile/omniglot-5way"),
            "theory/reptile/omniglot-5way/seed-1",
        ),
    }
    one_seed = dataclasses.replace(PROJECT.section("sine"), further_seeds=None)
    assert costs.of_sine(one_seed).operations == recorded_speeds.STUDIES[costs.SINE][0]
    assert costs.of_sine(PROJECT.section("sine")).operations == 3 * recorded_speeds.STUDIES[costs.SINE][0]
    assert studies.keys() | {costs.SINE} == recorded_speeds.STUDIES.keys()
    for name, (work, path) in studies.items():
        run = json.loads((ROOT / f"results/curves/{path}.run.json").read_text(encoding="utf-8"))
        assert (work.operations, run["seconds"]) == recorded_speeds.STUDIES[name], CURVE
    for name, training in (("W2", "reptile/omniglot-20way"), ("W3", "reptile/mini-imagenet-5way")):
        rate, operations, kernels = recorded_speeds.OUTER_STEPS[name]
        work = costs.of_outer_step(PROJECT.trainings[training])
        assert (work.operations, work.kernels) == (operations, kernels)
        assert gpu.of[name].seconds(work) == pytest.approx(1 / rate)
        evidence = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
        assert re.search(rf"one seed: {rate} (outer steps )?a second", evidence)


@pytest.mark.parametrize("device", [Device("cpu", "a new machine, 64 cores"), Device("NVIDIA B200", "")])
def test_no_time_is_unknown_on_a_device_of_which_nothing_is_known(tmp_path: Path, device: Device) -> None:
    made = plan.make(tmp_path, device, project=PROJECT)
    assert all(entry.seconds > 0 and entry.source for entry in made.entries)
    text = plan_text.describe(made)
    assert "unknown" not in text.lower()
    assert "To measure this machine: make plan PROBE=1" in text


def test_a_probe_goes_before_every_other_estimate(tmp_path: Path) -> None:
    device = Device("cpu", "AMD EPYC (family 25 model 17), 2 cores, Linux x86_64")
    probed = Speeds(device, "a probe", {"W1": Speed({1: 1e9})})
    made = plan.make(tmp_path, device, [ROOT], PROJECT, probed=probed)
    entry = made.named("training", "reptile/omniglot-5way")
    assert (entry.source, entry.seconds) == ("a probe", entry.computation.work.operations / 1e9)
    assert made.named("training", "reptile/omniglot-20way").source == f"the benchmark of {device}"


def test_readme_and_help_state_the_times_of_the_plan(tmp_path: Path) -> None:
    """On the machine that they name: one cell with all that it needs, and everything, from nothing."""
    device = Device("cpu", "AMD EPYC (family 26 model 2), 2 cores, Linux x86_64")
    made = plan.make(tmp_path, device, [ROOT], PROJECT, room=plan.Room(2))
    cell = plan_text.describe_cell(made, "reptile/omniglot-5way/1shot/transductive", (0,))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (stated,) = re.findall(
        r"SEED=0 FORCE=1` \| one number of the table.*this one (\d+ min|[\d.]+ h) by the benchmark", readme
    )
    assert f"To do: ~{stated} " in cell
    (everything,) = re.findall(r"wall time +~([\d.]+) days", plan_text.describe(made))
    assert re.search(r"^\| `make paper` \|.*\| days \|$", readme, re.MULTILINE)
    assert 2 < float(everything) < 14
