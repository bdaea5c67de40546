"""Choose settings of MAML and of Reptile on sine waves with the same budget, for a comparison of the two.

Figure 1 does not compare them, because their settings were not tuned alike. Here both get the same: as many settings
tried, drawn at random from declared ranges, each trained on as many waves, and judged by the loss after all inner steps
on new waves. All of that uses a seed of its own, which no result has. It prints a line for each setting, and at the end
the best of each algorithm, as YAML for params.yaml.

    python tools/tune_sine.py --params params.yaml --settings 12
"""

from __future__ import annotations

import argparse
import dataclasses
import random
from pathlib import Path

import yaml

from firstorder.errors import UserError
from firstorder.settings import SineSettings, SineTrainingSettings, checks
from firstorder.studies import sine
from firstorder.studies.sine_training import train

SEED = 100  # of the draws of settings, trainings and waves; the study's seeds are others
WAVES = 30_000  # training waves of each setting, as many as Reptile has in the authors' demonstration
INNER_LEARNING_RATES = (0.005, 0.05)
INNER_STEPS = {"reptile": (2, 3, 5), "maml": (1, 2, 3, 5)}  # Reptile's mini-batches of 10 are the grid of 50 points
META_BATCH_SIZES = (1, 2, 5, 10)
OUTER_STEP_SIZES = {"reptile": (0.03, 1.0), "maml": (0.0003, 0.01)}  # epsilon; Adam's learning rate


def main() -> None:
    """Try the settings of both algorithms and print the best of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="whose section `sine` has the rest")
    parser.add_argument("--settings", type=int, default=12, help="settings tried of each algorithm")
    arguments = parser.parse_args()
    base = dataclasses.replace(checks.load(arguments.params).section("sine"), seed=SEED, further_seeds=None)
    chosen = {}
    for algorithm in ("reptile", "maml"):
        generator = random.Random(f"{SEED} {algorithm}")
        tried = [draw(algorithm, generator) for _ in range(arguments.settings)]
        losses = []
        for settings in tried:
            losses.append(loss_of(base, algorithm, settings))
            print(f"{algorithm}: loss {losses[-1]:.4f}: {dataclasses.asdict(settings)}", flush=True)
        chosen[algorithm] = dataclasses.asdict(tried[losses.index(min(losses))])
    print(yaml.safe_dump(chosen, sort_keys=False), end="")


def draw(algorithm: str, generator: random.Random) -> SineTrainingSettings:
    """Draw one setting of an algorithm; learning rates and step sizes uniformly in their logarithm, to two digits."""
    meta_batch_size = generator.choice(META_BATCH_SIZES)
    return SineTrainingSettings(
        inner_learning_rate=_log_uniform(generator, *INNER_LEARNING_RATES),
        inner_steps=generator.choice(INNER_STEPS[algorithm]),
        inner_batch_size=10,
        meta_batch_size=meta_batch_size,
        outer_steps=WAVES // meta_batch_size,
        outer_step_size=_log_uniform(generator, *OUTER_STEP_SIZES[algorithm]),
    )


def loss_of(base: SineSettings, algorithm: str, training: SineTrainingSettings) -> float:
    """Return the mean squared error on new waves after all inner steps; infinite if the training or a fit diverges."""
    settings = dataclasses.replace(base, **{algorithm: training})
    waves = sine.NewWaves.draw(settings)
    try:
        predicted = sine.evaluate(settings, train(settings, algorithm), waves)[settings.evaluation_steps[-1]]
    except UserError:
        return float("inf")
    loss = float(((predicted - waves.truth) ** 2).mean())
    return loss if loss == loss else float("inf")


def _log_uniform(generator: random.Random, low: float, high: float) -> float:
    return float(f"{low * (high / low) ** generator.random():.2g}")


if __name__ == "__main__":
    main()
