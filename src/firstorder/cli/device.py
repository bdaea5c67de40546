"""The device that a command computes on, with torch configured for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from firstorder.errors import UserError

if TYPE_CHECKING:
    import torch


def ready_device(name: str) -> torch.device:
    """Return the device for `name` (cpu, cuda or auto) and configure torch for it.

    Raises UserError if there is no such device.
    """
    import torch

    from firstorder.bench import allocator

    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        # One thread a process: two trainings in parallel get more done than one training on two threads.
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)
        allocator.keep_freed_memory()
    else:
        # By default PyTorch lets cuDNN round the factors of a convolution to 10 bits (TF32), which changes this
        # network's gradients by 2 to 12 %. A precision below float32 is a setting of a training, never a default.
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)
