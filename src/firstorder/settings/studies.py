"""Settings of the studies: sine waves (Figure 1), curves in the plane (Figure 2) and section 5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from firstorder.settings.schema import LARGEST_SEED, setting


@dataclass(frozen=True, kw_only=True)
class ManifoldSettings:
    """Figure 2: iterates between two curves in the plane, which studies/manifolds.py defines."""

    start: tuple[float, ...] = setting("phi before the first outer step: x and y")
    inner_learning_rate: float = setting("alpha, on half the squared distance to the curve", above=0, at_most=1)
    inner_steps: int = setting("k, inner steps per task", at_least=1)
    outer_steps: int = setting("outer steps, alternating between the two curves", at_least=2)
    outer_step_size: float = setting("epsilon at the start, annealed linearly to 0", above=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class SineTrainingSettings:
    """One meta-training on sine waves (Figure 1)."""

    inner_learning_rate: float = setting("alpha, on the mean squared error", above=0)
    inner_steps: int = setting("inner steps per task", at_least=1)
    inner_batch_size: int = setting("points per inner step", at_least=1)
    meta_batch_size: int = setting("n, tasks per outer step", at_least=1)
    outer_steps: int = setting("outer steps", at_least=1)
    outer_step_size: float = setting("outer step size at the start, annealed linearly to 0", above=0)


@dataclass(frozen=True, kw_only=True)
class SineSettings:
    """Figure 1: regression on sine waves. studies/sine.py says where each setting comes from."""

    seed: int = setting("seed of all draws; its waves are those of the figure", at_least=0, at_most=LARGEST_SEED)
    hidden: int = setting("units in each of the two hidden layers", at_least=1)
    activation: Literal["relu", "tanh"] = setting("the paper uses ReLU, the authors' demonstration tanh")
    grid: int = setting("points in [-5, 5] at which a wave is sampled", at_least=2)
    support: int = setting("distinct points of the grid by which the network adapts to a new wave", at_least=1)
    evaluation_steps: tuple[int, ...] = setting("inner steps after which the loss is measured", at_least=0)
    evaluation_tasks: int = setting("new waves that the loss is averaged over", at_least=2)
    evaluation_learning_rate: float = setting("alpha at evaluation", above=0)
    drawn_tasks: int = setting("waves whose fits are drawn", at_least=1)
    reptile: SineTrainingSettings = setting("meta-training by Reptile")
    maml: SineTrainingSettings = setting("meta-training by MAML, second order, outer optimiser Adam")
    joint: SineTrainingSettings | None = setting(
        "joint training: Reptile with one inner step; absent: not trained", default=None
    )
    further_seeds: tuple[int, ...] | None = setting(
        "seeds of which the losses are computed too", at_least=0, at_most=LARGEST_SEED, default=None
    )

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, the drawn one first."""
        return (self.seed, *(self.further_seeds or ()))


@dataclass(frozen=True, kw_only=True)
class ExpansionSettings:
    """Section 5.1 on small smooth problems, averaged over all orders of a task's mini-batches."""

    seed: int = setting("seed of all draws", at_least=0, at_most=LARGEST_SEED)
    problems: tuple[Literal["regression", "classification"], ...] = setting("functions of studies/theory.py")
    tasks: int = setting("tasks that the expectation is over", at_least=1)
    mini_batches: int = setting("n, mini-batches per task", at_least=2)
    batch_size: int = setting("points per mini-batch", at_least=1)
    hidden: int = setting("units in each hidden layer", at_least=1)
    inner_steps: tuple[int, ...] = setting("numbers k of gradients, at most n", at_least=2)
    learning_rates: tuple[float, ...] = setting("values of alpha, ascending, for the limit of alpha to 0", above=0)


@dataclass(frozen=True, kw_only=True)
class InnerProductSettings:
    """Section 5.1's explanation: inner products of gradients, measured during Reptile and joint training.

    Joint training is the same training with one inner step and k times as many outer steps.
    """

    trainings: tuple[str, ...] = setting("Reptile trainings whose settings are used, except the outer steps")
    outer_steps: int = setting("outer steps of Reptile, epsilon annealed over them", at_least=1)
    measurements: int = setting("measurements after the start, evenly spaced", at_least=1)
    tasks: int = setting("meta-training tasks per measurement, the same in each", at_least=2)


@dataclass(frozen=True, kw_only=True)
class TheorySettings:
    """Section 5 of the paper, checked numerically."""

    expansion: ExpansionSettings = setting("E[g] against its leading-order expansion; needs no data")
    inner_products: InnerProductSettings = setting("what the expansion explains, measured during training")
