"""Compare this package with a recording of the authors' own code: same start, same batches, same result?

Usage: python tools/compare_recording.py RECORDING.npz [float32|float64]

A recording is an npz with keys like `init|conv2d|kernel:0`, `outer0|images`, `outer0|conv2d|kernel:0`,
`eval1shot|support`, `eval1shot|transductive_logits` (TensorFlow's names; kernels [height, width, in, out],
dense [in, out] with the flattened map in the order height, width, channel). Printed are the largest
differences, relative to the size of the *change* that the steps made, which is stricter than relative to
the weights. Biases of convolutions are left out: batch normalisation cancels them, so they only collect
rounding noise.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from firstorder.algorithms import reptile
from firstorder.evaluation import inductive_logits, transductive_logits
from firstorder.inner_loop import InnerLoop, OptimiserState, adapt
from firstorder.models import omniglot_network
from firstorder.training import classification_loss


class Recording:
    """One recording, read into this package's layout."""

    def __init__(self, path: str, dtype: torch.dtype) -> None:
        self.arrays = np.load(path)
        self.dtype = dtype
        self.way = self.arrays["init|dense|bias:0"].shape[0]
        self.network = omniglot_network(self.way)
        self.adam = "init|beta2_power:0" in self.arrays

    def tensor(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[key]).to(self.dtype)

    def flat(self, moment: str, slot: str = "") -> torch.Tensor:
        """All variables (or their Adam slot) at a moment as [1, parameters]."""
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

    def images(self, key: str) -> torch.Tensor:
        return self.tensor(key).unsqueeze(-3)


def report(what: str, ours: torch.Tensor, theirs: torch.Tensor, before: torch.Tensor | None = None) -> None:
    """Print the largest difference, and the root mean square one relative to the change (or the size)."""
    change = theirs - before if before is not None else theirs
    relative = (ours - theirs).norm() / change.norm()
    print(f"{what:34} largest {(ours - theirs).abs().max():.2e}   relative {relative:.2e}")


def main(path: str, precision: str = "float32") -> None:
    """Run the recorded outer steps and evaluations and print how far they end from the recorded values."""
    recording = Recording(path, getattr(torch, precision))
    network = recording.network
    optimiser, rate = ("adam", 5e-4) if recording.adam else ("sgd", 3e-3)
    inner = InnerLoop(classification_loss(network), optimiser, rate)
    parameters = recording.flat("init")
    state = OptimiserState.fresh(parameters)
    print(f"{path}: {recording.way}-way, {optimiser}, {precision}")
    outer = 0
    while f"outer{outer}|images" in recording.arrays:
        moment = f"outer{outer}"
        before = parameters
        images, labels = (
            recording.images(f"{moment}|images"),
            torch.from_numpy(recording.arrays[f"{moment}|labels"]).long(),
        )
        groups = [[(x[None], y[None]) for x, y in zip(images[t], labels[t], strict=True)] for t in range(len(images))]
        meta_gradient, state = reptile(inner, parameters, state, groups)
        parameters = parameters - float(recording.arrays[f"{moment}|epsilon"]) * meta_gradient
        report(f"outer step {outer}: parameters", parameters, recording.flat(moment), before)
        if recording.adam:
            report(f"outer step {outer}: second moments", state.second_moments, recording.flat(moment, "|Adam_1"))
        outer += 1
    last = f"outer{outer - 1}"
    for shot in (1, 5):
        name = f"eval{shot}shot"
        if f"{name}|support" not in recording.arrays:
            continue
        # Each evaluation starts from the recorded state, so that differences do not add up.
        start = recording.flat(last)
        state = OptimiserState.fresh(start)
        if recording.adam:
            power = float(recording.arrays[f"{last}|beta2_power:0"])
            steps = round(np.log(power) / np.log(0.999)) - 1
            state = OptimiserState(recording.flat(last, "|Adam_1"), steps)
        support, query = recording.images(f"{name}|support")[None], recording.images(f"{name}|query")[None]
        labels = torch.from_numpy(recording.arrays[f"{name}|support_labels"]).long()[None]
        order = torch.from_numpy(recording.arrays[f"{name}|order"]).long()
        adapted, _ = adapt(inner, start, state, [(support[:, row], labels[:, row]) for row in order])
        report(f"{name}: adapted parameters", adapted, recording.flat(f"{name}_after"), start)
        for mode, logits in (
            ("transductive", transductive_logits(network, adapted, query)),
            ("inductive", inductive_logits(network, adapted, support, query)),
        ):
            theirs = recording.tensor(f"{name}|{mode}_logits")
            report(f"{name}: {mode} logits", logits[0], theirs)
            same = (logits[0].argmax(-1) == theirs.argmax(-1)).sum().item()
            print(f"{'':34} same answer for {same} of {len(theirs)} queries")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
