"""Small settings of Figure 1, for tests."""

from __future__ import annotations

from typing import Any

from firstorder.settings import SineSettings, SineTrainingSettings


def training(**changes: Any) -> SineTrainingSettings:
    values = {
        "inner_learning_rate": 0.02,
        "inner_steps": 2,
        "inner_batch_size": 4,
        "meta_batch_size": 1,
        "outer_steps": 3,
        "outer_step_size": 0.1,
    }
    return SineTrainingSettings(**{**values, **changes})


def small(**changes: Any) -> SineSettings:
    values = {
        "seed": 3,
        "hidden": 8,
        "activation": "relu",
        "grid": 12,
        "support": 5,
        "evaluation_steps": (0, 1, 4),
        "evaluation_tasks": 20,
        "evaluation_learning_rate": 0.01,
        "drawn_tasks": 2,
        "reptile": training(),
        "maml": training(meta_batch_size=3, outer_step_size=0.001),
    }
    return SineSettings(**{**values, **changes})
