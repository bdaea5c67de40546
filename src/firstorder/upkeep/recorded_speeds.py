"""Speeds that were measured once, for a device of which nothing is recorded.

Each is copied from a result that this repository keeps, and a test compares the two. What runs without the repository,
such as an installed package, has them too.
"""

from __future__ import annotations

from typing import Final

from firstorder.upkeep.costs import EXPANSION, INNER_PRODUCTS, MANIFOLDS, PLAIN_ONLY, SINE
from firstorder.upkeep.estimates import CPU, Device, Speed, Speeds

EPYC: Final = Device(CPU, "AMD EPYC (family 25 model 17), 2 cores, Linux x86_64")
# results/bench/amd-epyc-family-25-model-17-2-cores.json: GFLOP/s of engine native, and of plain, of each of two
# processes with one thread side by side and of one process with two threads.
_GFLOPS: Final = {
    "W1": (87.8, 142.4),
    "W2": (88.25, 165.0),
    "W3": (134.3, 251.3),
    "W4 fomaml": (83.3, 149.3),
    "W4 maml": (72.45, 123.9),
    "W5 omniglot": (92.1, 131.2),
    "W5 mini-imagenet": (113.6, 209.7),
}
_GFLOPS_OF_PLAIN: Final = {
    "W1": (36.65, 54.16),
    "W2": (48.545, 73.93),
    "W3": (57.1, 101.7),
    "W4 fomaml": (31.05, 67.33),
    "W4 maml": (19.19, 36.87),
    "W5 omniglot": (27.625, 34.14),
    "W5 mini-imagenet": (48.47, 87.32),
}
# Run files below results/curves with the settings of the main params.yaml: counted steps (or operations) and seconds.
# They were made on an AMD EPYC whose model is not recorded.
# Of the inner products that is the median of the three seeds of reptile/omniglot-5way. Figure 1's is of one seed there;
# the present record, of three seeds, was made on another machine that was busy.
STUDIES: Final = {
    SINE: (225_000, 125.9),
    MANIFOLDS: (500, 2.2),
    EXPANSION: (68_880, 43.3),
    INNER_PRODUCTS: (17_450_265_600_000, 489.4),
}
# docs/evidence.md, "First hours on a GPU": outer steps a second of one seed with nothing else on the card, and the
# operations and kernels of one such outer step.
H200: Final = Device("NVIDIA H200", "")
OUTER_STEPS: Final = {"W2": (88, 15_744_000_000, 3003), "W3": (45, 61_215_436_800, 2893)}


def recorded() -> list[Speeds]:
    """Return the speeds of both devices."""
    rates = _GFLOPS | {f"{name}{PLAIN_ONLY}": pair for name, pair in _GFLOPS_OF_PLAIN.items()}
    cpu = {name: Speed({1: one * 1e9, 2: two * 1e9}) for name, (one, two) in rates.items()}
    cpu |= {name: Speed({1: count / seconds}) for name, (count, seconds) in STUDIES.items()}
    gpu = {
        name: Speed({1: rate * operations}, rate * kernels) for name, (rate, operations, kernels) in OUTER_STEPS.items()
    }
    return [Speeds(EPYC, f"the benchmark of {EPYC}", cpu), Speeds(H200, f"two trainings on {H200}", gpu)]
