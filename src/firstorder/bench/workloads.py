"""What the benchmark times: outer steps and evaluation tasks with the settings of params.yaml, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from firstorder.bench import flops
from firstorder.settings import EvaluationSettings, Project, TrainingSettings, lookup


@dataclass(frozen=True)
class PoolSize:
    """Number of classes of a pool, and images per class."""

    classes: int
    class_images: int


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One thing to time: an outer step of `settings`, or an inductive task of `evaluation` with the same network."""

    title: str
    settings: TrainingSettings
    evaluation: EvaluationSettings | None = None
    pool: PoolSize | None = None  # None: that of contenders.POOLS

    @property
    def unit(self) -> str:
        """What is counted: outer steps or tasks."""
        return "outer steps" if self.evaluation is None else "tasks"

    @property
    def operations(self) -> int:
        """Floating-point operations of one outer step or task."""
        if self.evaluation is None:
            return flops.of_outer_step(self.settings)
        return flops.of_inductive_task(self.settings.network, self.settings.way, self.evaluation)


def all_workloads(project: Project) -> dict[str, Workload]:
    """Return W1 to W5 by name, from the trainings and evaluations of that name in params.yaml.

    W4 has 32 tasks with one inner step on 10 images and 10 query images. This is the size of the published comparison,
    between the 1-shot and the 5-shot training.
    """
    trainings, evaluations = project.trainings, project.evaluations
    omniglot, twenty = trainings["reptile/omniglot-5way"], trainings["reptile/omniglot-20way"]
    mini = trainings["reptile/mini-imagenet-5way"]
    maml, fomaml = (
        replace(trainings[f"{name}/omniglot-5way-1shot"], train_shot=2, query_shot=2, inner_batch_size=10)
        for name in ("maml", "fomaml")
    )
    return {
        "W1": Workload(title="Reptile, Omniglot 5-way", settings=omniglot),
        "W2": Workload(title="Reptile, Omniglot 20-way", settings=twenty),
        "W3": Workload(title="Reptile, mini-ImageNet 5-way", settings=mini),
        "W4 maml": Workload(title="MAML, Omniglot 5-way, 10 + 10 images", settings=maml),
        "W4 fomaml": Workload(title="FOMAML, Omniglot 5-way, 10 + 10 images", settings=fomaml),
        "W5 omniglot": Workload(
            title="Inductive task, Omniglot 5-way 1-shot",
            settings=omniglot,
            evaluation=evaluations["reptile/omniglot-5way/1shot"],
        ),
        "W5 mini-imagenet": Workload(
            title="Inductive task, mini-ImageNet 5-way 5-shot",
            settings=mini,
            evaluation=evaluations["reptile/mini-imagenet-5way/5shot"],
        ),
        **{
            f"{name} per lane": Workload(
                title=f"{title}, second moments per lane", settings=replace(settings, second_moments="per_lane")
            )
            for name, title, settings in (
                ("W1", "Reptile, Omniglot 5-way", omniglot),
                ("W2", "Reptile, Omniglot 20-way", twenty),
                ("W3", "Reptile, mini-ImageNet 5-way", mini),
            )
        },
    }


def chosen(project: Project, names: Sequence[str], device: str) -> dict[str, Workload]:
    """Return the named workloads; "W4" names all that begin with "W4 ". Without names, return all for the device.

    The `per lane` workloads, whose tasks run side by side, are for a GPU.
    """
    known = all_workloads(project)
    if not names:
        return {name: one for name, one in known.items() if device == "cuda" or not name.endswith("per lane")}
    found: dict[str, Workload] = {}
    for name in names:
        group = {} if name in known else {each: one for each, one in known.items() if each.startswith(f"{name} ")}
        found |= group or {name: lookup(known, name, "workload")}
    return found
