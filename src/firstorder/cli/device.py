"""The device that a command computes on, with torch configured for it, and on a GPU a card of its own."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from firstorder.cli import output
from firstorder.errors import UserError

if TYPE_CHECKING:
    import torch

    from firstorder.upkeep.gpus import Gpu
    from firstorder.upkeep.leases import Lease

CARDS = "FIRSTORDER_GPUS"  # environment variable: the cards that jobs of this command may use, by identifier
SETTLING = 10.0  # seconds in which the process that had a card before may still be listed on it
_leases: list[Lease] = []  # of this process: one at most


def ready_device(name: str) -> torch.device:
    """Return the device for `name` (cpu, cuda or auto) and configure torch for it; lease a card if it is a GPU.

    Raises UserError if there is no such device.
    """
    if name != "cpu" and not _leases:
        _lease_a_card()
    import torch

    from firstorder.bench import allocator

    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        # One thread a process: two trainings in parallel get more done than one training on two threads.
        if not is_count(os.environ.get("OMP_NUM_THREADS", "")):
            torch.set_num_threads(1)
        allocator.keep_freed_memory()
    else:
        # By default PyTorch lets cuDNN round the factors of a convolution to 10 bits (TF32), which changes this
        # network's gradients by 2 to 12 %. A precision below float32 is a setting of a training, never a default.
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def is_count(text: str) -> bool:
    """Say whether OMP_NUM_THREADS names a number of threads; torch takes all cores for anything else."""
    return text.isascii() and text.isdecimal() and 1 <= int(text) <= (os.cpu_count() or 1)


def leased() -> str | None:
    """Name the card that this process computes on; None if it has leased none."""
    return str(_leases[0].gpu) if _leases else None


def lost(why: str) -> str:
    """Note that the card of this process failed, and return its name."""
    for lease in _leases:
        lease.lost(why)
    return leased() or "the GPU"


def _lease_a_card() -> None:
    """Lease a card and let torch see no other.

    A job of a rule waits for one. Another command shares one if all are leased: who starts it knows why.
    """
    from firstorder.upkeep import leases

    told = " ".join(["firstorder", *sys.argv[1:4]])
    if CARDS in os.environ:
        lease = leases.wait(_settled, told, output.say)
    else:
        gpus = _settled()
        if not gpus:
            return
        found = leases.take(gpus, told, output.say)
        if found is None:
            output.say(
                "every GPU is leased by another command; this one shares a card with it, and both are slower for it"
            )
            return
        lease = found
    leases.show(lease)
    _leases.append(lease)


def _settled() -> tuple[Gpu, ...]:
    """List the cards that this command may use; let a process that is about to end leave its card first."""
    from firstorder.upkeep import gpus

    names = os.environ.get(CARDS)
    until = time.monotonic() + SETTLING
    while True:
        found = gpus.listed().gpus if names is None else gpus.named(names.split(","))
        if any(not gpu.processes for gpu in found) or not found or time.monotonic() > until:
            return found
        time.sleep(1.0)
