"""Translates the flags of the authors' programs into the settings of this package."""

from __future__ import annotations

from typing import Any

from firstorder.settings import CurveSettings, TrainingSettings

CURVE = CurveSettings(every=1, tasks=1, shot=1, inner_steps=1, inner_batch_size=1)  # nothing of it is recorded


def values(flags: list[str]) -> dict[str, str]:
    """Return the values of flags such as --shots 5, --num_updates=5 and --sgd; the last of equal ones counts."""
    found, name = {}, ""
    for word in flags:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            found[name] = value or "True"
        else:
            found[name] = word
    return found


def settings(about: dict[str, Any]) -> TrainingSettings:
    """Return the settings of a recording."""
    given = values(about["flags"])
    if about["recorder"] == "nichol":
        return _nichol(about["network"], given)
    return _finn(about["network"], about["queries"], given)


def _nichol(network: str, given: dict[str, str]) -> TrainingSettings:
    """Translate the flags of run_omniglot.py and run_miniimagenet.py; their loss is the sum, as ours."""
    tail, shots = given.get("foml-tail"), int(given["train-shots"])
    return TrainingSettings(
        algorithm="last_step" if "foml" in given else "reptile",
        dataset="made-up",
        network=network,
        way=int(given.get("classes", "5")),
        train_shot=shots - int(tail or 0),
        query_shot=None if tail is None else int(tail),
        sampling="replacement" if "replacement" in given else "cycle",
        inner_optimiser="sgd" if "sgd" in given else "adam",
        inner_learning_rate=float(given["learning-rate"]),
        inner_steps=int(given["inner-iters"]),
        inner_batch_size=int(given["inner-batch"]),
        second_moments="carried",
        outer_steps=int(given["meta-iters"]),
        outer_step_size=float(given["meta-step"]),
        outer_step_size_final=float(given["meta-step-final"]),
        meta_batch_size=int(given["meta-batch"]),
        curve=CURVE,
    )


def _finn(network: str, queries: int, given: dict[str, str]) -> TrainingSettings:
    """Translate the flags of main.py. Their losses are the sum divided by K; ours are the sum."""
    shot, way = int(given["update_batch_size"]), int(given["num_classes"])
    return TrainingSettings(
        algorithm="fomaml" if given.get("stop_grad") == "True" else "maml",
        dataset="made-up",
        network=network,
        way=way,
        train_shot=shot,
        query_shot=queries,
        sampling="cycle",
        inner_optimiser="sgd",
        inner_learning_rate=float(given["update_lr"]) / shot,
        inner_steps=int(given["num_updates"]),
        inner_batch_size=way * shot,
        second_moments="per_lane",
        outer_steps=60_000,
        outer_optimiser="adam",
        outer_step_size=float(given["meta_lr"]),
        outer_step_size_final=float(given["meta_lr"]),
        meta_batch_size=int(given["meta_batch_size"]),
        meta_loss_divisor=float(shot),
        meta_gradient_clip=10.0 if given["datasource"] == "miniimagenet" else None,
        curve=CURVE,
    )
