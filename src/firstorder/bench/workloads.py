"""What the benchmark times: outer steps and evaluation tasks of params.yaml's own settings, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from firstorder.bench import flops
from firstorder.settings import EvaluationSettings, Project, TrainingSettings, lookup


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One thing to time: an outer step of `settings`, or an inductive task of `evaluation` with that network."""

    title: str
    settings: TrainingSettings
    evaluation: EvaluationSettings | None = None
    pool: tuple[int, int] | None = None  # classes and images a class; None: those of POOLS

    @property
    def unit(self) -> str:
        """What one step makes."""
        return "outer steps" if self.evaluation is None else "tasks"

    @property
    def operations(self) -> int:
        """Floating-point operations of one step."""
        if self.evaluation is None:
            return flops.of_outer_step(self.settings)
        return flops.of_inductive_task(self.settings.network, self.settings.way, self.evaluation)


def all_workloads(project: Project) -> dict[str, Workload]:
    """Return W1 to W5 by name, from the trainings and evaluations of that name in params.yaml.

    W4 has 32 tasks, one inner step on 10 images and 10 query images: the published comparison's size, which is
    between the 1-shot and the 5-shot training.
    """
    trainings, evaluations = project.trainings, project.evaluations
    omniglot, twenty = trainings["reptile/omniglot-5way"], trainings["reptile/omniglot-20way"]
    mini = trainings["reptile/mini-imagenet-5way"]
    second, first = (
        replace(trainings[f"{name}/omniglot-5way-1shot"], train_shot=2, query_shot=2, inner_batch_size=10)
        for name in ("maml", "fomaml")
    )
    return {
        "W1": Workload(title="Reptile, Omniglot 5-way", settings=omniglot),
        "W2": Workload(title="Reptile, Omniglot 20-way", settings=twenty),
        "W3": Workload(title="Reptile, mini-ImageNet 5-way", settings=mini),
        "W4 maml": Workload(title="MAML, Omniglot 5-way, 10 + 10 images", settings=second),
        "W4 fomaml": Workload(title="FOMAML, Omniglot 5-way, 10 + 10 images", settings=first),
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
    """Return the workloads named (W4: all whose name begins so); none named: all that are meant for the device.

    Tasks side by side (`per lane`) are for a GPU.
    """
    known = all_workloads(project)
    if not names:
        return {name: one for name, one in known.items() if device == "cuda" or not name.endswith("per lane")}
    found: dict[str, Workload] = {}
    for name in names:
        group = {} if name in known else {each: one for each, one in known.items() if each.startswith(f"{name} ")}
        found |= group or {name: lookup(known, name, "workload")}
    return found
