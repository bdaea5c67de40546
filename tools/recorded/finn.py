"""Records meta-steps of cbfinn/maml, whose modules it imports and does not change."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from recorded import version_one
from recorded.made_up import BLOCKS, POOL_SEED, SIZES, START_SEED, Array, images, kept, start


def tasks(about: dict[str, Any], way: int, step: int) -> tuple[Array, Array]:
    """Draw tasks: numbers of the support images [tasks, way * K] and of the query images [tasks, way * queries]."""
    draw = np.random.Generator(np.random.Philox(about["seed"] + step))
    shot, queries = about["shot"], about["queries"]
    support, query = [], []
    for _ in range(about["tasks"]):
        classes = draw.permutation(about["classes"])[:way]
        chosen = np.stack([draw.permutation(about["class_images"])[: shot + queries] for _ in classes])
        chosen = chosen + about["class_images"] * classes[:, None]
        support.append(chosen[:, :shot].reshape(-1))
        query.append(chosen[:, shot:].reshape(-1))
    return np.array(support, np.int16), np.array(query, np.int16)


def weights(model: Any) -> dict[str, Any]:
    """Return their variables under our names."""
    found = {f"convolution{block}.kernel": model.weights[f"conv{block}"] for block in range(1, BLOCKS + 1)}
    found |= {f"convolution{block}.bias": model.weights[f"b{block}"] for block in range(1, BLOCKS + 1)}
    shifts = [variable for variable in version_one.ONE.trainable_variables() if variable.name.endswith("/beta:0")]
    found |= {f"normalisation{int(shift.name.split('/')[-2]) + 1}.shift": shift for shift in shifts}
    return found | {"dense.kernel": model.weights["w5"], "dense.bias": model.weights["b5"]}


def record(stand_in: Any, about: dict[str, Any], double: bool) -> dict[str, Array]:
    """Run their code in one precision; return what happened, with keys of the form outer0|support."""
    main, maml = (importlib.import_module(name) for name in ("main", "maml"))
    flags, kind = main.FLAGS, np.float64 if double else np.float32
    for name in flags:
        flags[name].unparse()
    flags(["main.py", *about["flags"]])
    version_one.set_precision(stand_in, double)
    sizes, way, found = SIZES[about["network"]], flags.num_classes, {}
    drawn = images(about["network"], about["classes"], about["class_images"], POOL_SEED)
    pixels = drawn.astype(kind) / kind(255 if drawn.ndim == 4 else 1)
    pixels = (1 - pixels if drawn.ndim == 3 else pixels).reshape(len(drawn), -1)
    with version_one.ONE.Graph().as_default(), version_one.ONE.Session() as session:
        model = maml.MAML(sizes.channels * sizes.side**2, way, test_num_updates=about["test_updates"])
        model.meta_lr = version_one.ONE.placeholder_with_default(kind(flags.meta_lr), ())
        model.construct_model()
        session.run(version_one.ONE.global_variables_initializer())
        variables, values = weights(model), start(about["network"], way, START_SEED)
        assert len(variables) == len(version_one.ONE.trainable_variables())
        for name, variable in variables.items():
            variable.load((about["start_factor"].get(name, 1) * values[name]).astype(kind), session)
        gradients = {id(variable): gradient for gradient, variable in model.gvs}
        for step in range(about["outer_steps"]):
            support, query = tasks(about, way, step)
            labels = [np.eye(way)[np.arange(way).repeat(count)] for count in (about["shot"], about["queries"])]
            feed = dict(zip((model.inputa, model.inputb), (pixels[support], pixels[query]), strict=True))
            for given, label in zip((model.labela, model.labelb), labels, strict=True):
                feed[given] = np.stack([label] * about["tasks"])
            slopes = session.run({name: gradients[id(variables[name])] for name in variables}, feed)
            logits = session.run(model.outputbs, feed)
            session.run(model.metatrain_op, feed)
            after, moment = session.run(variables), f"outer{step}"
            found |= {f"{moment}|support": support, f"{moment}|query": query, f"{moment}|logits": np.stack(logits)}
            clipped = {name: np.clip(slope, -10, 10) for name, slope in slopes.items()}
            found[f"{moment}|clipped"] = np.array(sum((clipped[name] != slopes[name]).sum() for name in slopes))
            for what, arrays in (("meta_gradient", slopes), ("parameters", after)):
                kept_here = {name: value for name, value in arrays.items() if not _cancelled(name)}
                found |= {f"{moment}|{what}|{name}": kept(name, value) for name, value in kept_here.items()}
        assert all(math.isfinite(float(value.sum())) for value in found.values())
    return found


def _cancelled(name: str) -> bool:
    return name.startswith("convolution") and name.endswith("bias")
