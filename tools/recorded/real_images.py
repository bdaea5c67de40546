"""Repeats a recording on real images of Omniglot, which contains all images and weights and is not published.

It is an npz file with keys like `init|conv2d|kernel:0`, `outer0|images`, `outer0|conv2d|kernel:0`,
`eval1shot|support`, `eval1shot|transductive_logits`: TensorFlow's names, kernels [height, width, in, out], dense
[in, out] with the flattened map in the order height, width, channel. Every outer step and every evaluation starts from
the recorded values before it.

Distances are between three results: the recorded one (float32), ours in float32, and ours in float64. If the first
column is at most about as large as the last, recording and package differ by float32 rounding only. The last column
shows the effect of rounding alone, which is large where a ReLU's input is near 0 over a large uniform area of paper.

Biases of convolutions are left out: batch normalisation cancels them, so they only accumulate rounding errors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from firstorder.method.algorithms import Group, reptile
from firstorder.method.inner_loop import InnerLoop, OptimiserState, adapt
from firstorder.method.networks import make_network
from firstorder.method.training import classification_loss


class Recording:
    """A recording, converted to this package's layout."""

    def __init__(self, path: str, dtype: torch.dtype) -> None:
        self.arrays = np.load(path)
        self.dtype = dtype
        self.way = self.arrays["init|dense|bias:0"].shape[0]
        self.network = make_network("omniglot", self.way)
        self.adam = "init|beta2_power:0" in self.arrays

    def tensor(self, key: str) -> torch.Tensor:
        """Return an array in the chosen precision."""
        return torch.from_numpy(self.arrays[key]).to(self.dtype)

    def flat(self, moment: str, slot: str = "") -> torch.Tensor:
        """Return all variables (or their Adam slot) at a moment, [1, parameters]."""
        named = {}
        for block in range(4):
            suffix = f"_{block}" if block else ""
            conv, norm = f"{moment}|conv2d{suffix}|", f"{moment}|batch_normalization{suffix}|"
            named[f"convolution{block + 1}.kernel"] = self.tensor(f"{conv}kernel{slot}:0").permute(3, 0, 1, 2)
            named[f"normalisation{block + 1}.scale"] = self.tensor(f"{norm}gamma{slot}:0")
            named[f"normalisation{block + 1}.shift"] = self.tensor(f"{norm}beta{slot}:0")
        dense = self.tensor(f"{moment}|dense|kernel{slot}:0")
        named["dense.kernel"] = dense.reshape(2, 2, 64, self.way).permute(3, 2, 0, 1).reshape(self.way, 256)
        named["dense.bias"] = self.tensor(f"{moment}|dense|bias{slot}:0")
        return self.network.flat(named)[None]

    def labels(self, key: str) -> torch.Tensor:
        """Return labels."""
        return torch.from_numpy(self.arrays[key]).long()

    def images(self, key: str) -> torch.Tensor:
        """Return images, with an axis for channels added."""
        return self.tensor(key).unsqueeze(-3)


@dataclass(frozen=True)
class Comparison:
    """Named tensors: our results, the recorded ones, and the values before the steps."""

    ours: dict[str, torch.Tensor] = field(default_factory=dict)
    recorded: dict[str, torch.Tensor] = field(default_factory=dict)
    before: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, key: str, ours: torch.Tensor, recorded: torch.Tensor, before: torch.Tensor | None = None) -> None:
        """Add a result; without a value before, distances are relative to its size."""
        self.ours[key], self.recorded[key] = ours, recorded
        self.before[key] = torch.zeros_like(recorded) if before is None else before


def compare(path: str, dtype: torch.dtype) -> Comparison:
    """Repeat all recorded steps and evaluations in a precision."""
    recording = Recording(path, dtype)
    optimiser, rate = ("adam", 5e-4) if recording.adam else ("sgd", 3e-3)
    inner = InnerLoop(classification_loss(recording.network), optimiser, rate, logits=recording.network.logits)
    comparison, outer = Comparison(), 0
    while f"outer{outer}|images" in recording.arrays:
        moment, start = f"outer{outer}", recording.flat("init" if outer == 0 else f"outer{outer - 1}")
        images, labels = recording.images(f"{moment}|images"), recording.labels(f"{moment}|labels")
        tasks = zip(images, labels, strict=True)
        groups = [Group([(x[None], y[None]) for x, y in zip(*task, strict=True)]) for task in tasks]
        meta_gradient, state = reptile(inner, start, OptimiserState.fresh(start), groups)
        after = start - float(recording.arrays[f"{moment}|epsilon"]) * meta_gradient
        comparison.add(f"outer step {outer}: parameters", after, recording.flat(moment), start)
        if recording.adam:
            moments = recording.flat(moment, "|Adam_1")
            comparison.add(f"outer step {outer}: second moments", state.second_moments, moments)
        outer += 1
    for shot in (1, 5):
        if f"eval{shot}shot|support" in recording.arrays:
            evaluate(recording, inner, f"eval{shot}shot", f"outer{outer - 1}", comparison)
    return comparison


def evaluate(recording: Recording, inner: InnerLoop, name: str, last: str, comparison: Comparison) -> None:
    """Repeat a recorded evaluation from the recorded state after the outer step `last`."""
    start = recording.flat(last)
    state = OptimiserState.fresh(start)
    if recording.adam:
        # TensorFlow stores beta2 to the power of (steps + 1).
        steps = round(np.log(float(recording.arrays[f"{last}|beta2_power:0"])) / np.log(0.999)) - 1
        state = OptimiserState(recording.flat(last, "|Adam_1"), steps)
    support, query = recording.images(f"{name}|support")[None], recording.images(f"{name}|query")[None]
    labels = recording.labels(f"{name}|support_labels")[None]
    order = torch.from_numpy(recording.arrays[f"{name}|order"]).long()
    adapted, _ = adapt(inner, start, state, [(support[:, row], labels[:, row]) for row in order])
    comparison.add(f"{name}: adapted parameters", adapted, recording.flat(f"{name}_after"), start)
    for mode, logits in (
        ("transductive", inner.engine.logits(inner, adapted, query)),
        ("inductive", inner.engine.inductive_logits(inner, adapted, support, query)),
    ):
        comparison.add(f"{name}: {mode} logits", logits[0], recording.tensor(f"{name}|{mode}_logits"))


def show(path: str) -> None:
    """Print the three distances for every recorded value."""
    comparison = compare(path, torch.float32)
    single, recorded, before = comparison.ours, comparison.recorded, comparison.before
    double = compare(path, torch.float64).ours
    print(f"{Path(path).name}\n{'':32} {'recorded-ours':>14} {'recorded-ours64':>16} {'ours-ours64':>12}")
    for key in recorded:
        change = (recorded[key] - before[key]).double().norm()
        pairs = ((recorded, single), (recorded, double), (single, double))
        distances = [float((a[key].double() - b[key].double()).norm() / change) for a, b in pairs]
        same = ""
        if "logits" in key:
            same = (
                f"  same answers {int((recorded[key].argmax(-1) == single[key].argmax(-1)).sum())}/{len(single[key])}"
            )
        print(f"{key:32} {distances[0]:14.1e} {distances[1]:16.1e} {distances[2]:12.1e}{same}")
