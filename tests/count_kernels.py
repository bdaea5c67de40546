"""Count the kernels that an inner step and an outer step of the benchmark's workloads launch on a GPU.

The steps run on the CPU while operations are counted. Operations that only return a view launch no kernel (NOTHING);
some launch more than one on a GPU (KERNELS, from PyTorch 2.11's CUDA sources). Bytes are those of all tensors that an
operation reads or writes, each once: what a step moves if no cache keeps any of it. `python -m tests.count_kernels`
prints the table of docs/performance.md, and the bytes of an inner step.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from firstorder.engines.graph import schedule
from firstorder.engines.graph.outer_step import OuterStep
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.method import training
from firstorder.method.architectures import ARCHITECTURES
from firstorder.method.images import ImagePool
from firstorder.method.training import Problem
from firstorder.settings import TrainingSettings, checks

ROOT = Path(__file__).parents[1]
NOTHING = {
    "_reshape_alias",
    "_unsafe_view",
    "alias",
    "as_strided",
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "expand",
    "lift_fresh",
    "new_empty",
    "permute",
    "scalar_tensor",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "t",
    "transpose",
    "unbind",
    "unflatten",
    "unsqueeze",
    "view",
}
KERNELS = {
    "native_batch_norm": 3,  # statistics, inverse standard deviation, map
    "native_batch_norm_backward": 2,  # both sums, map
    "baddbmm": 2,  # copy of the bias, product added to it
    "constant_pad_nd": 2,  # fill, copy
    "max_pool2d_with_indices_backward": 2,  # fill with zeros, scatter
}
MICROSECONDS = 2.5  # per kernel of a CUDA graph, if its work is negligible
# Name: training of params.yaml, second moments. W4 is MAML with 10 support and 10 query images a task.
WORKLOADS = {
    "W1": ("reptile/omniglot-5way", {}),
    "W2": ("reptile/omniglot-20way", {}),
    "W3": ("reptile/mini-imagenet-5way", {}),
    "W4 fomaml": ("fomaml/omniglot-5way-1shot", {"train_shot": 2, "query_shot": 2, "inner_batch_size": 10}),
    "W4 maml": ("maml/omniglot-5way-1shot", {"train_shot": 2, "query_shot": 2, "inner_batch_size": 10}),
}


class Kernels(TorchDispatchMode):
    """Counts operations by name, and the bytes that they read and write, while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        out = func(*args, **(kwargs or {}))
        if name not in NOTHING:
            self.operations[name] += 1
            found = [part for part in tree_flatten((args, kwargs, out))[0] if isinstance(part, torch.Tensor)]
            # An expanded tensor has fewer bytes than elements; a result that was written in place is an argument too.
            sizes = {
                (part.data_ptr(), part.numel()): min(part.nbytes, part.untyped_storage().nbytes()) for part in found
            }
            self.moved += sum(sizes.values())
        return out

    @property
    def kernels(self) -> int:
        """Number of kernels that a GPU would launch."""
        return sum(count * KERNELS.get(name, 1) for name, count in self.operations.items())


def noise_problem(settings: TrainingSettings, seed: int = 0) -> Problem:
    """Set up a training on images of noise."""
    sizes = ARCHITECTURES[settings.network]
    images = settings.train_shot + (settings.query_shot or 0)
    noise = np.random.default_rng(0).integers(0, 2, (settings.way, images, sizes.channels, sizes.size, sizes.size))
    pool = ImagePool.of(noise.astype(np.uint8), 1, torch.device("cpu"))
    return Problem("noise", settings, seed, {"meta-train": pool, "meta-test": pool})


def outer_step(settings: TrainingSettings) -> Kernels:
    """Count the kernels of one outer step of one seed, without what is done only once for all steps."""
    problem = noise_problem(settings)
    engine = LanesEngine(settings.network, settings.way)
    step = OuterStep([problem], [training.start(problem)], engine)
    step.load(schedule.draw([problem], step.offsets, range(1)), 1)
    step.take()
    step.counter.zero_()
    with Kernels() as counted:
        step.take()
    return counted


def inner_step(settings: TrainingSettings) -> tuple[int, int]:
    """Count the kernels, and the bytes, that one more inner step adds to an outer step of one task."""
    one = dataclasses.replace(settings, meta_batch_size=1, inner_steps=1)
    two, first = outer_step(dataclasses.replace(one, inner_steps=2)), outer_step(one)
    return two.kernels - first.kernels, two.moved - first.moved


def workload(name: str, second_moments: str) -> TrainingSettings:
    """Return the settings of one of WORKLOADS."""
    training_name, changes = WORKLOADS[name]
    settings = checks.load(ROOT / "params.yaml").trainings[training_name]
    if settings.algorithm == "reptile":
        changes = {**changes, "second_moments": second_moments}
    return dataclasses.replace(settings, **changes)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(
        "| workload | second moments | kernels an inner step | an outer step | microseconds at 2.5 each "
        "| MB an inner step |"
    )
    print("|---|---|---|---|---|---|")
    for name in WORKLOADS:
        for second_moments in ("carried", "per_lane") if "W4" not in name else ("per_lane",):
            settings = workload(name, second_moments)
            (inner, moved), outer = inner_step(settings), outer_step(settings).kernels
            times = f"{MICROSECONDS * outer:,.0f} | {moved / 1e6:,.0f}"
            print(f"| {name} | {second_moments} | {inner} | {outer} | {times} |")


if __name__ == "__main__":
    main()
