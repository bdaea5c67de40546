"""Estimate how long a training or an evaluation takes on this machine from its benchmark (`make bench`).

An estimate is the number of operations of the training (flops.py) divided by the rate, in operations a second, of the
most similar benchmarked workload: with one process, and with the engine that a training would choose on this machine.
Sampling of tasks and other work that is not arithmetic is assumed to take the same share of the time in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from firstorder.bench import flops
from firstorder.method.architectures import architecture_of
from firstorder.report import BENCH_FILE
from firstorder.settings import EvaluationSettings, TrainingSettings
from firstorder.settings.engines import GRAPH, NATIVE, ONE, PLAIN

# Network -> the benchmarked workload of the same network and, where it matters, the same order of derivatives.
SIMILAR: Mapping[str, Callable[[TrainingSettings], str]] = {
    "omniglot": lambda settings: "W1" if settings.way < 10 else "W2",
    "mini_imagenet": lambda settings: "W3",
    "omniglot_finn": lambda settings: f"W4 {_order(settings)}",
    "mini_imagenet_finn": lambda settings: "W3",
}
DEFAULTS = (GRAPH, NATIVE, PLAIN)  # those that a training may choose by default; the first benchmarked one counts
EVALUATION_WORKLOADS = {"omniglot": "W5 omniglot", "mini_imagenet": "W5 mini-imagenet"}


def read(folder: Path, device: str, machine: str) -> dict[str, Any] | None:
    """Read the benchmark of this device from results/bench of `folder`; None if there is none.

    `device` and `machine` are spelled as in a run file (`.run.json`): "cpu" and the machine, or a GPU's name.
    """
    for path in sorted((folder / "results/bench").glob("*.json")):
        found = BENCH_FILE.read_json(path)
        run = found.get("run", {})
        if not isinstance(run, dict):
            raise BENCH_FILE.refused(path, "expected a mapping under run")
        same_cpu = device == "cpu" and found.get("device") == "cpu" and run.get("machine") == machine
        if same_cpu or (device != "cpu" and device in (found.get("machine"), run.get("device"))):
            return found
    return None


def of_training(bench: Mapping[str, Any], settings: TrainingSettings) -> float | None:
    """Estimate the seconds of one seed, learning curve included; None if no similar workload was benchmarked."""
    similar = SIMILAR.get(settings.network)
    rate = None if similar is None else _rate(bench, similar(settings))
    if rate is None:
        return None
    curve = settings.curve
    task = EvaluationSettings(
        training="", shot=curve.shot, inner_steps=curve.inner_steps, inner_batch_size=curve.inner_batch_size, tasks=1
    )
    points = -(-settings.outer_steps // curve.every)  # rounded up: the curve includes the last outer step
    tasks = 2 * points * curve.tasks  # on meta-train and on meta-test classes
    operations = settings.outer_steps * flops.of_outer_step(settings)
    operations += tasks * flops.of_inductive_task(architecture_of(settings.network, settings.image), settings.way, task)
    return operations / rate


def of_evaluation(bench: Mapping[str, Any], settings: TrainingSettings, evaluation: EvaluationSettings) -> float | None:
    """Estimate the seconds of one seed's evaluation, which measures both modes; None as for `of_training`."""
    rate = _rate(bench, EVALUATION_WORKLOADS.get(settings.network.removesuffix("_finn"), ""))
    if rate is None:
        return None
    return (
        evaluation.tasks
        * flops.of_inductive_task(architecture_of(settings.network, settings.image), settings.way, evaluation)
        / rate
    )


def _rate(bench: Mapping[str, Any], workload: str) -> float | None:
    """Return the operations a second of a benchmarked workload; None if it was not benchmarked."""
    try:
        engines = bench.get("workloads", {}).get(workload, {}).get("engines", {})
        measured = next(filter(None, (engines.get(name, {}).get(ONE) for name in DEFAULTS)), None)
        return float(measured["gflop_per_second"]) * 1e9 or None if measured else None
    except (AttributeError, KeyError, TypeError, ValueError):  # not as the benchmark writes it
        return None


def _order(settings: TrainingSettings) -> str:
    return "maml" if settings.algorithm in flops.SECOND_ORDER else "fomaml"
