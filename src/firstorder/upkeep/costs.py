"""What each computation costs, whatever computes it: counted operations, and on a GPU also kernels.

Operations are those of bench/flops.py. Kernels matter because a GPU starts one after another, each in about the same
time however little it does: an outer step is as long as its kernels or as its operations take, whichever is more.
Sampling of tasks and other work that is not arithmetic is assumed to take the same share of the time as in what was
measured. Figures 1 and 2 and section 5's expansion have networks of a few units and no operations worth counting;
their steps are counted instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import perm
from typing import Final

from firstorder.bench import flops
from firstorder.method.architectures import Architecture, architecture_of
from firstorder.settings import EvaluationSettings, Project, TrainingSettings, lookup
from firstorder.settings.studies import ManifoldSettings, SineSettings, TheorySettings
from firstorder.settings.trainings import WITHOUT_MEMORY

SINE, MANIFOLDS, EXPANSION = "sine", "manifolds", "theory"  # studies that are measured in steps
INNER_PRODUCTS = "inner products"  # of section 5: in part float64, with autograd
PLAIN_ONLY = ", engine plain"  # ends the name of a workload that no other engine computes

# Kernels of engine graph, as counted by `python -m tests.count_kernels` (docs/performance.md): an inner step or a pass
# of the queries, what remains of an outer step (more where moments are carried or the outer optimiser is Adam), and the
# product of a Hessian with a vector.
KERNELS_OF_STEP: Final = {"omniglot": 59, "mini_imagenet": 71}
KERNELS_CARRIED, KERNELS_ADAM, KERNELS_OTHER, KERNELS_HESSIAN = 53, 48, 34, 475
LARGE_IMAGE = 56  # pixels a side from which a network counts as one for mini-ImageNet's images


@dataclass(frozen=True)
class Work:
    """The cost of a computation. `workload` names the benchmarked workload that it resembles, or the study itself."""

    workload: str
    operations: float
    kernels: float = 0.0
    on_gpu: bool = True  # a GPU computes it where there is one

    def times(self, factor: float) -> Work:
        """Return the cost of `factor` times as much."""
        return replace(self, operations=factor * self.operations, kernels=factor * self.kernels)


def of_outer_step(settings: TrainingSettings) -> Work:
    """Count one outer step of a training: operations and kernels."""
    return Work(workload(settings), flops.of_outer_step(settings), kernels_of_outer_step(settings))


def of_training(settings: TrainingSettings) -> Work:
    """Count one seed of a training, learning curve included."""
    curve = settings.curve
    task = EvaluationSettings(
        training="", shot=curve.shot, inner_steps=curve.inner_steps, inner_batch_size=curve.inner_batch_size, tasks=1
    )
    points = -(-settings.outer_steps // curve.every)  # rounded up: the curve includes the last outer step
    tasks = 2 * points * curve.tasks  # on meta-train and on meta-test classes
    steps = of_outer_step(settings).times(settings.outer_steps)
    measured = tasks * flops.of_inductive_task(_architecture(settings), settings.way, task)
    return replace(steps, operations=steps.operations + measured)


def of_evaluation(settings: TrainingSettings, evaluation: EvaluationSettings) -> Work:
    """Count one seed of an evaluation, which measures both modes. A GPU adapts its tasks side by side."""
    operations = evaluation.tasks * flops.of_inductive_task(_architecture(settings), settings.way, evaluation)
    return Work(_by_engine("W5 mini-imagenet" if _is_large(settings) else "W5 omniglot", settings), operations)


def of_adaptation(project: Project, name: str) -> Work:
    """Count one seed of accuracy along the inner steps of an evaluation: tasks adapted to the last step listed."""
    entry, evaluation = (project.adaptations or {})[name], project.evaluations[name]
    longest = replace(evaluation, tasks=entry.tasks, inner_steps=max(*entry.inner_steps, 1))
    return of_evaluation(project.trainings[evaluation.training], longest)


def of_alphabets(project: Project, name: str) -> Work:
    """Count one seed of the confusions between alphabets in an evaluation."""
    evaluation = replace(project.evaluations[name], tasks=(project.alphabets or {})[name].tasks)
    return of_evaluation(project.trainings[evaluation.training], evaluation)


def of_inner_products(project: Project, name: str) -> Work:
    """Count one seed of section 5's inner products.

    These are Reptile, its joint counterpart with as many inner steps in all, and the gradients of both kinds of
    mini-batches at each measurement.
    """
    settings, own = lookup(project.trainings, name, "training"), _theory(project).inner_products
    one = flops.operations(_architecture(settings), settings.way)
    gradients = settings.inner_steps * settings.inner_batch_size * one.gradient
    measured = 2 * 2 * (own.measurements + 1) * own.tasks * gradients
    steps = of_outer_step(settings).times(2 * own.outer_steps)
    return replace(steps, workload=INNER_PRODUCTS, operations=steps.operations + measured)


def of_sine(settings: SineSettings) -> Work:
    """Count the steps of Figure 1's trainings, of all seeds; a step of MAML needs a second derivative too."""
    steps = settings.reptile.outer_steps * settings.reptile.inner_steps
    steps += settings.maml.outer_steps * (2 * settings.maml.inner_steps + 1)
    if settings.joint is not None:
        steps += settings.joint.outer_steps * settings.joint.inner_steps
    return Work(SINE, len(settings.seeds) * steps, on_gpu=False)


def of_manifolds(settings: ManifoldSettings) -> Work:
    """Count the inner steps of Figure 2."""
    return Work(MANIFOLDS, settings.outer_steps * settings.inner_steps, on_gpu=False)


def of_expansion(project: Project) -> Work:
    """Count the ordered choices of mini-batches that section 5's expansion is averaged over."""
    own = _theory(project).expansion
    orders = sum(perm(own.mini_batches, steps) for steps in own.inner_steps)
    return Work(EXPANSION, len(own.problems) * own.tasks * len(own.learning_rates) * orders, on_gpu=False)


def workload(settings: TrainingSettings) -> str:
    """Name the benchmarked workload of the same kind of network and, where it matters, order of derivatives."""
    name = "W1" if settings.way < 10 else "W2"
    if _is_large(settings):
        name = "W3"
    elif settings.algorithm in WITHOUT_MEMORY and settings.network.endswith("_finn"):
        name = f"W4 {'maml' if settings.algorithm in flops.SECOND_ORDER else 'fomaml'}"
    return _by_engine(name, settings)


def _by_engine(name: str, settings: TrainingSettings) -> str:
    return f"{name}{PLAIN_ONLY}" if settings.inner_beta1 else name


def kernels_of_outer_step(settings: TrainingSettings) -> int:
    """Count the kernels of an outer step of engine graph, for any number of seeds side by side."""
    step = KERNELS_OF_STEP["mini_imagenet" if _is_large(settings) else "omniglot"]
    carried = settings.second_moments == "carried" and settings.algorithm not in WITHOUT_MEMORY
    steps = settings.inner_steps * (settings.meta_batch_size if carried else 1)
    rest = KERNELS_CARRIED if carried else KERNELS_ADAM if settings.outer_optimiser else KERNELS_OTHER
    kernels = step * (steps + bool(settings.query_shot)) + rest
    if settings.algorithm in flops.SECOND_ORDER:
        kernels += KERNELS_HESSIAN * settings.inner_steps
    return kernels


def _architecture(settings: TrainingSettings) -> Architecture:
    return architecture_of(settings.network, settings.image)


def _is_large(settings: TrainingSettings) -> bool:
    return _architecture(settings).size >= LARGE_IMAGE


def _theory(project: Project) -> TheorySettings:
    found: TheorySettings = project.section("theory")
    return found
