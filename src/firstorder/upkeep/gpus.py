"""The GPUs of this machine, as the driver lists them (`nvidia-smi`), and who computes on each. No torch."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firstorder.errors import UserError, one_line

VISIBLE = "CUDA_VISIBLE_DEVICES"
_PROGRAM = "nvidia-smi"
_SECONDS = 60  # that the driver may take to answer; it starts on the first question
_CARDS = ("index", "uuid", "name")


@dataclass(frozen=True)
class Gpu:
    """One card: its number, its identifier, which no other card has, its name, and who computes on it."""

    index: str
    uuid: str
    name: str
    processes: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return its number and name for print."""
        return f"GPU {self.index} ({self.name})" if self.name else f"GPU {self.index}"


@dataclass(frozen=True)
class Cards:
    """The cards that may be used, or why there are none."""

    gpus: tuple[Gpu, ...]
    problem: str | None = None


def listed(environment: Mapping[str, str] = os.environ) -> Cards:
    """List the cards that the driver finds; of these, only what CUDA_VISIBLE_DEVICES names if it is set."""
    if not has_driver(environment):
        return Cards((), f"no {_PROGRAM} on the path")
    try:
        cards = _ask("--query-gpu", _CARDS, environment)
        users = _ask("--query-compute-apps", ("gpu_uuid", "pid"), environment)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Cards((), f"{_PROGRAM}: {one_line(_said(error))[:200]}")
    gpus = [
        Gpu(index, uuid, name, tuple(int(pid) for card, pid in users if card == uuid and pid.isdecimal()))
        for index, uuid, name in cards
    ]
    return Cards(_visible(gpus, environment.get(VISIBLE)), None if gpus else f"{_PROGRAM} lists no GPU")


def wanted(count: str | None, environment: Mapping[str, str] = os.environ) -> Cards:
    """Return the cards for GPUS=`count`: those that the driver finds without it.

    With a number these are cards on which nobody computes, as far as there are any. Where no driver can be asked, it is
    believed. Raises UserError for fewer cards than asked for.
    """
    cards = listed(environment)
    if count is None or not count.strip():
        return cards
    if not count.isdecimal():
        raise UserError(f"GPUS={count}: expected a whole number from 0")
    number = int(count)
    if number == 0:
        return Cards((), "GPUS=0")
    if not has_driver(environment):
        return Cards(_visible([Gpu(str(index), str(index), "") for index in range(number)], environment.get(VISIBLE)))
    if len(cards.gpus) < number:
        found = ", ".join(map(str, cards.gpus)) or cards.problem or "none"
        raise UserError(f"GPUS={number}: the driver finds {len(cards.gpus)} ({found}); use GPUS={len(cards.gpus)}")
    return Cards(tuple(sorted(cards.gpus, key=lambda gpu: bool(gpu.processes))[:number]))


def named(names: Sequence[str], environment: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """Return the cards with these identifiers that the driver still lists; all of them where no driver can be asked."""
    if not has_driver(environment):
        return tuple(Gpu(name, name, "") for name in names)
    return tuple(gpu for gpu in listed(environment).gpus if gpu.uuid in names)


def has_driver(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether there is a driver that can be asked."""
    return shutil.which(_PROGRAM, path=environment.get("PATH")) is not None


def _ask(query: str, fields: tuple[str, ...], environment: Mapping[str, str]) -> list[list[str]]:
    """Return the driver's answer: a row for each card or process. Raises ValueError for a row of another length."""
    command = [_PROGRAM, f"{query}={','.join(fields)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=True, timeout=_SECONDS, env=dict(environment)
    )
    rows = [[value.strip() for value in row] for row in csv.reader(done.stdout.splitlines()) if row]
    if wrong := next((row for row in rows if len(row) != len(fields)), None):
        raise ValueError(f"unexpected answer {wrong}")
    return rows


def _said(error: Exception) -> str:
    """Return what a failing program said, or the error."""
    if isinstance(error, subprocess.CalledProcessError):
        return (error.stderr or error.stdout or "").strip() or f"exit code {error.returncode}"
    return str(error)


def _visible(gpus: list[Gpu], names: str | None) -> tuple[Gpu, ...]:
    """Return the cards that CUDA_VISIBLE_DEVICES names, by number or by the start of their identifier, in its order."""
    if names is None:
        return tuple(gpus)
    chosen: list[Gpu] = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        found = [gpu for gpu in gpus if name == gpu.index or (not name.isdecimal() and gpu.uuid.startswith(name))]
        if len(found) != 1:
            break  # as CUDA does: what follows an unknown name does not count
        chosen += found
    return tuple(dict.fromkeys(chosen))
