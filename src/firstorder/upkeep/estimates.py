"""How long a training or an evaluation would take here, from what `make bench` measured on this machine.

A newcomer would get wrong: this is no record of that training. It is the operations that the training asks for
(flops.py), divided by the rate at which the most similar benchmarked workload did its own: one process, the engine that
a training here would choose. The sampling of tasks and what else is no arithmetic go with it in proportion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from firstorder.bench import flops
from firstorder.files import parse_json
from firstorder.settings import EvaluationSettings, TrainingSettings

# The benchmarked workload of the same network and order.
SIMILAR: Mapping[str, Callable[[TrainingSettings], str]] = {
    "omniglot": lambda settings: "W1" if settings.way < 10 else "W2",
    "mini_imagenet": lambda settings: "W3",
    "omniglot_finn": lambda settings: f"W4 {_order(settings)}",
    "mini_imagenet_finn": lambda settings: "W3",
}
ENGINES = ("graph", "native", "plain")  # what a training chooses by itself, the first that was benchmarked
EVALUATED = {"omniglot": "W5 omniglot", "mini_imagenet": "W5 mini-imagenet"}


def read(folder: Path, device: str, machine: str) -> dict[str, Any] | None:
    """Read the benchmark of this device in results/bench of `folder`; None if there is none.

    `device` and `machine` are in the words of a `.run.json`: "cpu" and the machine, or a GPU's name.
    """
    for path in sorted((folder / "results/bench").glob("*.json")):
        found: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        run = found.get("run", {})
        same_cpu = device == "cpu" and found.get("device") == "cpu" and run.get("machine") == machine
        if same_cpu or (device != "cpu" and device in (found.get("machine"), run.get("device"))):
            return found
    return None


def of_training(bench: Mapping[str, Any], settings: TrainingSettings) -> float | None:
    """Estimate the seconds of one seed, the learning curve included; None if nothing similar was benchmarked."""
    rate = _rate(bench, SIMILAR[settings.network](settings))
    if rate is None:
        return None
    curve = settings.curve
    task = EvaluationSettings(
        training="", shot=curve.shot, inner_steps=curve.inner_steps, inner_batch_size=curve.inner_batch_size, tasks=1
    )
    measured = 2 * -(-settings.outer_steps // curve.every) * curve.tasks  # tasks of meta-train and meta-test classes
    operations = settings.outer_steps * flops.of_outer_step(settings)
    operations += measured * flops.of_inductive_task(settings.network, settings.way, task)
    return operations / rate


def of_evaluation(bench: Mapping[str, Any], settings: TrainingSettings, evaluation: EvaluationSettings) -> float | None:
    """Estimate the seconds of one seed's evaluation, which measures both modes."""
    rate = _rate(bench, EVALUATED.get(settings.network.removesuffix("_finn"), ""))
    if rate is None:
        return None
    return evaluation.tasks * flops.of_inductive_task(settings.network, settings.way, evaluation) / rate


def _rate(bench: Mapping[str, Any], workload: str) -> float | None:
    """Return operations a second."""
    engines = bench.get("workloads", {}).get(workload, {}).get("engines", {})
    for name in ENGINES:
        measured = engines.get(name, {}).get("one process")
        if measured:
            return float(measured["gflop_per_second"]) * 1e9
    return None


def _order(settings: TrainingSettings) -> str:
    return "maml" if settings.algorithm in flops.SECOND_ORDER else "fomaml"
