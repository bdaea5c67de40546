"""Settings of data sets, trainings, evaluations and sweeps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from firstorder.settings.digests import resolved
from firstorder.settings.schema import setting

Mode = Literal["inductive", "transductive"]
MODES: tuple[Mode, ...] = ("inductive", "transductive")
WITHOUT_MEMORY = ("fomaml", "maml", "binomial")  # every task starts from the same optimiser state


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """One image data set and how its classes are split into pools."""

    source: Literal["omniglot", "glyphs", "mini_imagenet", "folder"] = setting(
        "what makes the pack; folder: your own images, in one folder for each class (docs/data.md)"
    )
    meta_train_classes: int | None = setting(
        "classes for meta-training; the rest is meta-test; not for mini_imagenet, whose classes are split by their ids",
        at_least=2,
        default=None,
    )
    rotations: tuple[int, ...] | None = setting(
        "degrees; each rotation of a meta-training class is a class of its own; not for mini_imagenet",
        at_least=0,
        at_most=270,
        default=None,
    )
    pack: str | None = setting(
        "data set whose pack this entry splits in another way; its name is used in cells; absent: the entry's own",
        default=None,
    )
    meta_validation_classes: int | None = setting(
        "classes between meta-training and meta-test that are left out of both", at_least=0, default=None
    )
    split_seed: int | None = setting("seed of the split for every training; absent: the training's seed", default=None)
    rotate: Literal["tasks"] | None = setting(
        "tasks: each class of each task is rotated at random, in meta-test too; absent: rotations are classes",
        default=None,
    )
    ink: int | None = setting("pixel value of ink, 0 or 1; absent: 0", at_least=0, at_most=1, default=None)
    resize: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = setting(
        "how images are resized; absent: mini_imagenet's by nearest, as in the authors' Pillow; a folder's not at all",
        default=None,
    )
    size: int | None = setting("folder only: images are packed as size x size pixels", at_least=16, default=None)
    channels: int | None = setting("folder only: 1 for grey, 3 for colours", at_least=1, at_most=3, default=None)
    split: Literal["folders", "lists"] | None = setting(
        "folder only. folders: classes lie in train/, val/ and test/; lists: files name the classes of each; "
        "absent: by seed, with meta_train_classes",
        default=None,
    )
    class_names: Literal["path"] | None = setting(
        "folder only. path: folders of one name at two places are two classes; absent: they are refused", default=None
    )

    @property
    def is_yours(self) -> bool:
        """Whether the pack is made of a user's own copy or images, with `firstorder data`."""
        return self.source in ("mini_imagenet", "folder")

    @property
    def packing(self) -> dict[str, str | None]:
        """The settings that act only while packing, with their defaults: a pack made with others is not this one."""
        resize = self.resize or ("nearest" if self.source == "mini_imagenet" else None)
        made: dict[str, str | None] = {"source": self.source, "resize": resize}
        if self.source == "folder":
            made |= {"split": self.split or "seed", "images": f"{self.channels}x{self.size}x{self.size}"}
        return made


@dataclass(frozen=True, kw_only=True)
class CurveSettings:
    """The learning curve: accuracy measured during training. It is only shown; nothing is selected by it."""

    every: int = setting("outer steps between two measurements", at_least=1)
    tasks: int = setting("tasks per measurement and pool of classes", at_least=1)
    shot: int = setting("support images per class", at_least=1)
    inner_steps: int = setting("inner steps of a measurement", at_least=1)
    inner_batch_size: int = setting("images per inner step of a measurement", at_least=1)


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """Images and filters of a network's own, in place of the named network's. All else stays as in that network."""

    size: int = setting("images are size x size pixels", at_least=16, at_most=512)
    channels: int = setting("channels of an image: 1 grey, 3 colours", at_least=1, at_most=64)
    filters: int = setting("filters of each convolution; engine native takes multiples of 16", at_least=1, at_most=512)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """One meta-training (per seed). Symbols are the paper's."""

    algorithm: Literal["reptile", "joint", "last_step", "fomaml", "maml", "binomial", "untrained"] = setting(
        "function of method/algorithms.py"
    )
    dataset: str = setting("name under `datasets`")
    network: Literal["omniglot", "mini_imagenet", "omniglot_finn", "mini_imagenet_finn"] = setting(
        "architecture of method/architectures.py"
    )
    way: int = setting("classes per task, N", at_least=2)
    train_shot: int = setting("images per class drawn for a training task", at_least=1)
    sampling: Literal["cycle", "replacement"] = setting("how mini-batches are drawn from a task's images")
    inner_optimiser: Literal["adam", "sgd"] = setting(
        "Adam has beta1 = 0 (or inner_beta1), beta2 = 0.999, epsilon = 1e-8"
    )
    inner_learning_rate: float = setting("alpha, on the loss summed over the mini-batch", above=0)
    inner_steps: int = setting("k, inner steps per task", at_least=1)
    inner_batch_size: int = setting("images per inner step", at_least=1)
    second_moments: Literal["carried", "per_lane"] = setting(
        "carried: Adam's moments pass from each task of a meta-batch to the next, as in the authors' code; "
        "per_lane: each task of the meta-batch keeps its own"
    )
    outer_steps: int = setting("outer steps (meta-iterations)", at_least=0)
    outer_step_size: float = setting("epsilon at the first outer step", at_least=0)
    outer_step_size_final: float = setting("epsilon at the end of the linear annealing", at_least=0)
    meta_batch_size: int = setting("n, tasks per outer step", at_least=1)
    query_shot: int | None = setting(
        "images per class kept apart from the inner loop's: MAML's query set, the separate tail",
        at_least=1,
        default=None,
    )
    outer_optimiser: Literal["adam"] | None = setting(
        "Adam (TensorFlow's settings) on the meta-gradient; absent: phi moves by epsilon times it", default=None
    )
    meta_loss_divisor: float | None = setting("divides the summed query loss of a task", above=0, default=None)
    meta_gradient_clip: float | None = setting(
        "each entry of the meta-gradient is clipped to this absolute value", above=0, default=None
    )
    truncation_order: int | None = setting("L of the binomial truncation", at_least=0, default=None)
    precision: Literal["tf32", "bfloat16"] | None = setting(
        "of matrix products in training and evaluation; absent: float32. Not for records until its accuracies are "
        "shown to be equivalent, docs/performance.md",
        default=None,
    )
    image: ImageSettings | None = setting(
        "sizes in place of the network's own, for images of your own; absent: the network's", default=None
    )
    inner_beta1: float | None = setting(
        "beta1 of the inner Adam; above 0, first moments are kept wherever second moments are, and only engine plain "
        "computes it; absent: 0, as in the paper",
        at_least=0,
        below=1,
        default=None,
    )
    curve: CurveSettings = setting("learning curve")

    @property
    def inner_steps_taken(self) -> int:
        """By how much an outer step increases the inner optimiser's step count."""
        if self.inner_optimiser != "adam" or self.algorithm in WITHOUT_MEMORY:
            return 0
        return self.inner_steps * (self.meta_batch_size if self.second_moments == "carried" else 1)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """One evaluation of a training: one shot, measured in both modes (two cells)."""

    training: str = setting("name under `trainings`")
    shot: int = setting("K, support images per class", at_least=1)
    inner_steps: int = setting("inner steps per task", at_least=1)
    inner_batch_size: int = setting("images per inner step", at_least=1)
    tasks: int = setting("meta-test tasks", at_least=1)
    query: int | None = setting("query images per class; absent: one", at_least=1, default=None)


@dataclass(frozen=True, kw_only=True)
class SweepVariant:
    """One line of a sweep: the settings that differ from the sweep's base."""

    label: str = setting("printed name")
    algorithm: Literal["reptile", "last_step"] = setting("function of method/algorithms.py")
    sampling: Literal["cycle", "replacement"] | None = setting("as in a training", default=None)
    train_shot: int | None = setting("as in a training", at_least=1, default=None)
    query_shot: int | None = setting("as in a training; last_step's separate tail", at_least=1, default=None)
    outer_step_size: float | None = setting("as in a training", above=0, default=None)


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """One panel of Figure 4: a training for each variant and each value of one setting.

    A training is named after its settings, so two sweeps that need the same training share it.
    """

    base: TrainingSettings = setting("all settings of a training; the variant replaces the algorithm")
    varied: Literal["inner_steps", "inner_batch_size", "outer_step_size"] = setting("which setting of a training")
    values: tuple[float, ...] = setting("its values, ascending", above=0)
    variants: dict[str, SweepVariant] = setting("lines of the panel")
    step_size_of_images: int | None = setting(
        "the outer step size is that of an inner step on this many images, and falls as inner_batch_size rises",
        at_least=1,
        default=None,
    )

    def training(self, variant: str, value: float) -> TrainingSettings:
        """Resolve the training of one variant and value."""
        chosen = resolved(self.variants[variant])
        del chosen["label"]
        chosen[self.varied] = value if self.varied == "outer_step_size" else int(value)
        made = dataclasses.replace(self.base, **chosen)
        if self.step_size_of_images is None:
            return made
        scale = self.step_size_of_images / made.inner_batch_size
        return dataclasses.replace(made, outer_step_size=made.outer_step_size * scale)


@dataclass(frozen=True, kw_only=True)
class AdaptationSettings:
    """Accuracy against inner steps at evaluation, for the evaluation of the same name."""

    inner_steps: tuple[int, ...] = setting("inner steps after which the task's queries are classified", at_least=0)
    tasks: int = setting("meta-test tasks", at_least=2)


@dataclass(frozen=True, kw_only=True)
class AlphabetSettings:
    """Which alphabets are mistaken for which, in the evaluation of the same name."""

    tasks: int = setting("meta-test tasks", at_least=2)
