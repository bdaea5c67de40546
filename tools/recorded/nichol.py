"""Records outer steps and evaluations of openai/supervised-reptile, whose modules it imports and does not change."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from recorded import version_one
from recorded.made_up import BLOCKS, POOL_SEED, START_SEED, Array, images, kept, start

MODELS = {"omniglot": "OmniglotModel", "mini_imagenet": "MiniImageNetModel"}


class MadeUpClass:
    """A class of images, with the method that their code calls."""

    def __init__(self, pictures: Sequence[Array]) -> None:
        self.pictures = pictures

    def sample(self, count: int) -> list[Array]:
        """Return `count` different images."""
        return random.sample(self.pictures, count)


class Watched:
    """A session that writes down what their code feeds and asks."""

    def __init__(self, session: Any, model: Any, pictures: Sequence[Array]) -> None:
        self.session, self.model = session, model
        self.number = {id(picture): number for number, picture in enumerate(pictures)}
        self.batches: list[tuple[list[int], list[int]]] = []
        self.asked: list[tuple[list[int], Array, Array]] = []
        self.adapted: dict[str, Array] = {}

    def run(self, fetches: Any, feed_dict: Any = None) -> Any:
        """Run the session; remember mini-batches, and the state and the logits when predictions are asked for."""
        if fetches is self.model.minimize_op:
            self.batches.append((self._numbers(feed_dict), list(feed_dict[self.model.label_ph])))
        if fetches is self.model.predictions:
            self.adapted = trainables(self.session)
            logits, answers = self.session.run([self.model.logits, fetches], feed_dict)
            self.asked.append((self._numbers(feed_dict), logits, answers))
        return self.session.run(fetches, feed_dict)

    def _numbers(self, feed_dict: Any) -> list[int]:
        return [self.number[id(picture)] for picture in feed_dict[self.model.input_ph]]


def ours(variable: str) -> str:
    """Translate the name of one of their variables: conv2d_1/kernel:0 is our convolution2.kernel."""
    layer, kind = variable.removesuffix(":0").split("/")[:2]
    if layer == "dense":
        return f"dense.{kind}"
    name, _, block = layer.partition("_") if layer.startswith("conv2d") else layer.rpartition("_normalization")
    block = block.removeprefix("_") or "0"
    kind = {"gamma": "scale", "beta": "shift"}.get(kind, kind)
    return f"{'convolution' if name == 'conv2d' else 'normalisation'}{int(block) + 1}.{kind}"


def trainables(session: Any, slot: str = "") -> dict[str, Array]:
    """Return the value of each trainable variable, or of its slot of the optimiser."""
    variables = {variable.name: variable for variable in version_one.ONE.global_variables()}
    names = [variable.name for variable in version_one.ONE.trainable_variables()]
    return {ours(name): session.run(variables[name.replace(":0", f"{slot}:0")]) for name in names}


def record(stand_in: Any, about: dict[str, Any], double: bool) -> dict[str, Array]:
    """Run their code in one precision; return what happened, with keys of the form outer0|images0."""
    args, models, variables = (
        importlib.import_module(f"supervised_reptile.{name}") for name in ("args", "models", "variables")
    )
    parsed = args.argument_parser().parse_args(about["flags"])
    training, kind = args.train_kwargs(parsed), np.float64 if double else np.float32
    version_one.set_precision(stand_in, double)
    with version_one.ONE.Graph().as_default(), version_one.ONE.Session() as session:
        options = dict(args.model_kwargs(parsed))
        options["learning_rate"] = kind(options["learning_rate"])
        if double and not parsed.sgd:
            options |= {"beta2": np.float64(version_one.BETA2), "epsilon": np.float64(version_one.EPSILON)}
        model = getattr(models, MODELS[about["network"]])(parsed.classes, **options)
        session.run(version_one.ONE.global_variables_initializer())
        values = start(about["network"], parsed.classes, START_SEED)
        for variable in version_one.ONE.trainable_variables():
            variable.load(values[ours(variable.name)].astype(kind), session)
        drawn = images(about["network"], about["classes"], about["class_images"], POOL_SEED)
        pictures = [picture.astype(kind) / kind(255 if drawn.ndim == 4 else 1) for picture in drawn]
        watched = Watched(session, model, pictures)
        classes = np.array_split(np.arange(len(pictures)), about["classes"])
        pool = [MadeUpClass([pictures[number] for number in numbers]) for numbers in classes]
        found = outer_steps(about, training, variables, watched, pool)
        for shot, batch, steps in about["evaluations"]:
            found |= evaluation(watched, pool, parsed.classes, (shot, batch, steps), variables)
    return found


def outer_steps(about: Any, training: Any, variables: Any, watched: Watched, pool: Any) -> dict[str, Array]:
    """Take the outer steps, as their train() does."""
    random.seed(about["seed"])
    learner = training["reptile_fn"](watched, pre_step_op=variables.weight_decay(training["weight_decay_rate"]))
    found: dict[str, Array] = {}
    for step in range(about["outer_steps"]):
        watched.batches.clear()
        done = step / training["meta_iters"]
        learner.train_step(
            pool,
            watched.model.input_ph,
            watched.model.label_ph,
            watched.model.minimize_op,
            num_classes=training["num_classes"],
            num_shots=training["train_shots"],
            inner_batch_size=training["inner_batch_size"],
            inner_iters=training["inner_iters"],
            replacement=training["replacement"],
            meta_step_size=(1 - done) * training["meta_step_size"] + done * training["meta_step_size_final"],
            meta_batch_size=training["meta_batch_size"],
        )
        found |= batches(f"outer{step}", watched.batches, training["inner_iters"])
        found |= state(watched.session, f"outer{step}")
    return found


def evaluation(watched: Watched, pool: Any, way: int, sizes: tuple[int, int, int], variables: Any) -> dict[str, Array]:
    """Evaluate one task in both modes; the second mode has the same task and the same mini-batches."""
    shot, batch, steps = sizes
    name, found = f"evaluation{shot}shot", {}
    reptile = importlib.import_module("supervised_reptile.reptile")
    for mode in ("inductive", "transductive"):
        random.seed(shot)
        watched.batches.clear()
        watched.asked.clear()
        learner = reptile.Reptile(watched, transductive=mode == "transductive", pre_step_op=variables.weight_decay(1))
        model = watched.model
        arguments = (pool, model.input_ph, model.label_ph, model.minimize_op, model.predictions)
        correct = learner.evaluate(
            *arguments, num_classes=way, num_shots=shot, inner_batch_size=batch, inner_iters=steps, replacement=False
        )
        found[f"{name}|{mode}_correct"] = np.array(correct)
        if mode == "inductive":
            logits, answers = (np.stack([asked[part][-1] for asked in watched.asked]) for part in (1, 2))
            found[f"{name}|support"] = np.array(watched.asked[0][0][:-1], np.int16)
            found[f"{name}|query"] = np.array([asked[0][-1] for asked in watched.asked], np.int16)
            found |= batches(name, watched.batches, steps)
            found |= {f"{name}|adapted|{key}": kept(key, value) for key, value in named(watched.adapted)}
        else:
            ((_, logits, answers),) = watched.asked
        found |= {f"{name}|{mode}_logits": logits, f"{name}|{mode}_answers": answers.astype(np.int16)}
    return found


def named(values: dict[str, Array]) -> list[tuple[str, Array]]:
    """List variables without the biases of convolutions, which batch normalisation cancels."""
    left_out = {f"convolution{block}.bias" for block in range(1, BLOCKS + 1)}
    return [(name, value) for name, value in values.items() if name not in left_out]


def batches(moment: str, fed: Sequence[tuple[list[int], list[int]]], steps: int) -> dict[str, Array]:
    """Return the mini-batches that were fed: for each inner step, images and labels [tasks, batch]."""
    found = {}
    for step in range(steps):
        numbers, labels = zip(*fed[step::steps], strict=True)
        found[f"{moment}|images{step}"] = np.array(numbers, np.int16)
        found[f"{moment}|labels{step}"] = np.array(labels, np.int16)
    return found


def state(session: Any, moment: str) -> dict[str, Array]:
    """Return what is kept of the variables and of the optimiser's second moments."""
    found = {f"{moment}|parameters|{name}": kept(name, value) for name, value in named(trainables(session))}
    powers = [variable for variable in version_one.ONE.global_variables() if variable.name == "beta2_power:0"]
    if powers:
        moments = named(trainables(session, "/Adam_1"))
        found |= {f"{moment}|second_moments|{name}": kept(name, value) for name, value in moments}
        found[f"{moment}|beta2_power"] = np.array(session.run(powers[0]), np.float64)
    return found
