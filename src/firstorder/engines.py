"""Which engine computes a training or an evaluation: names for the command line and for `.run.json`.

- plain: autograd, inner_loop.py as it is written; the oracle of the others.
- native: native.c, for a CPU with a C compiler.
- lanes: lanes.py, many lanes in batched matrix products, on any device.
- graph: lanes, and in training whole outer steps of all seeds side by side on the device (graphs.py); on a GPU each is
  recorded as a CUDA graph.
- auto: graph on a GPU; on a CPU native where it can be had, else plain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from firstorder import native
from firstorder.errors import UserError
from firstorder.inner_loop import Engine
from firstorder.lanes import LanesEngine
from firstorder.settings import TrainingSettings


@dataclass(frozen=True)
class Choice:
    """An engine by name, for records, and what computes with it; None: the plain way."""

    name: str
    engine: Engine | None


def choose(name: str, device: torch.device, settings: TrainingSettings, compiled: bool = False) -> Choice:
    """Choose the engine called `name` for a training's network on a device.

    Raises UserError where that engine cannot be had here, or does not know the training's precision.
    """
    precision = settings.precision or "float32"
    reason = native.reason(settings.network) if device.type == "cpu" else "it is for the CPU"
    if name == "auto":
        faster = "graph" if device.type == "cuda" else "native" if reason is None else "plain"
        name = faster if precision == "float32" or device.type == "cuda" else "lanes"
    if name in ("lanes", "graph"):
        engine = LanesEngine(settings.network, settings.way, precision=precision, compiled=compiled)
        return Choice(f"{name}, compiled" if compiled else name, engine)
    if precision != "float32":
        raise UserError(
            f"--engine {name} computes in float32 only, precision is {precision}; use --engine lanes or graph"
        )
    if compiled:
        raise UserError(f"--compile joins operations of engines lanes and graph, not of {name}; leave it out")
    if name == "plain":
        return Choice(name, None)
    if reason is not None:
        raise UserError(f"--engine native: {reason}; use --engine auto")
    return Choice(name, native.engine(settings.network, settings.way))
