"""Which Snakemake profile a command of make computes with: that of the GPUs where there are some, else the default."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firstorder.cli import output
from firstorder.cli.device import CARDS
from firstorder.errors import UserError

if TYPE_CHECKING:
    from firstorder.upkeep.gpus import Cards, Gpu

_PROFILE, _CONFIG = "--workflow-profile", "--config"


def with_gpus(command: Sequence[str], count: str | None) -> list[str]:
    """Return a command of Snakemake as it is or, if there are GPUs, with the profile `gpu` beside the default one.

    `count` is what GPUS was set to. Says in one line which cards are used, and sets which of them jobs may lease.
    Raises UserError for more cards than there are, or if torch cannot use any.
    """
    from firstorder.upkeep import gpus

    cards = gpus.wanted(count)
    torch = build_of_torch()
    if cards.gpus and torch is not None and not {"cuda", "hip"} & torch.keys():
        said = f"torch {torch.get('version')} here is a build for CPUs"
        if count:
            raise UserError(f"GPUS={count}: {said}; install one for CUDA in .venv, or use GPUS=0")
        output.say(f"{_listed(cards.gpus)} found, but {said}: the CPU computes")
        return list(command)
    if not cards.gpus:
        if gpus.has_driver() and not count:
            output.say(f"no GPU is used ({cards.problem}): the CPU computes")
        return list(command)
    chosen = _free(cards, count)
    os.environ[CARDS] = ",".join(gpu.uuid for gpu in chosen)
    at = list(command).index(_PROFILE) + 1
    profile = str(Path(command[at]).parent / "gpu")
    output.say(f"{_listed(chosen)}: one job on each ({Path(*Path(profile).parts[-2:])})")
    changed = [*command[:at], profile, f"--resources=gpu={len(chosen)}", *command[at + 1 :]]
    if _CONFIG in changed:
        place = changed.index(_CONFIG) + 1
        changed[place:place] = ["device=cuda", "seeds=together"]
    return changed


def build_of_torch() -> dict[str, str] | None:
    """Return the version of torch and, if it was built for it, of CUDA, without importing it; None if there is none."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        text = (Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    return dict(re.findall(r"^_*(version|cuda|hip)\w*\b.*= '([^']+)'", text, re.MULTILINE))


def _free(cards: Cards, count: str | None) -> list[Gpu]:
    """Return the cards that nobody computes on or, if there are none, all; with GPUS=n the n that were asked for."""
    from firstorder.upkeep import leases

    free = [gpu for gpu in cards.gpus if not (gpu.processes or leases.is_leased(gpu))]
    used = [gpu for gpu in cards.gpus if gpu not in free]
    passed = "passed over, " if free and not count else ""
    for gpu in used:
        output.say(f"{gpu}: {passed}{leases.holder(gpu)}")
    return [*free, *used] if count else free or used


def _listed(gpus: Sequence[Gpu]) -> str:
    names = sorted({gpu.name for gpu in gpus if gpu.name})
    which = f" ({', '.join(names)})" if names else ""
    return f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}{which}"
