"""Where a network's gradient jumps: at a rectifier's zero, and where two numbers of a 2x2 window are equal.

Rounding decides these where the numbers lie close enough to a kink, and one decision taken otherwise moves the gradient
by far more than rounding does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Decisions:
    """What one rectifier or pooling decided: signs, or places of maxima; and how far each was from deciding otherwise.

    The distance of a maximum that a rectifier sets to zero anyway is infinite.
    """

    taken: Tensor
    distance: Tensor


@contextmanager
def watched(forced: Sequence[Tensor] | None = None) -> Iterator[list[Decisions]]:
    """Note what rectifiers and poolings of models.py decide inside this block; with `forced`, have them decide that."""
    seen: list[Decisions] = []

    def rectify(maps: Tensor) -> Tensor:
        taken = maps.detach() > 0 if forced is None else forced[len(seen)]
        seen.append(Decisions(taken, maps.detach().abs()))
        return maps * taken

    def pool(maps: Tensor, size: int, ceil_mode: bool) -> Tensor:
        assert size == 2
        # A line left over at the edge is a window with nothing beside it, or left out.
        whole = F.pad(maps, (0, maps.shape[-1] % 2) * 2, value=-torch.inf) if ceil_mode else maps
        end = whole.shape[-1] // 2 * 2
        corners = [whole[..., row:end:2, column:end:2] for row in (0, 1) for column in (0, 1)]
        windows = torch.stack(corners, dim=-1)
        first, taken = windows.detach().max(dim=-1)
        second = windows.detach().scatter(-1, taken[..., None], -torch.inf).amax(dim=-1)
        taken = taken if forced is None else forced[len(seen)]
        seen.append(Decisions(taken, (first - second).masked_fill(first <= 0, torch.inf)))
        return windows.gather(-1, taken[..., None])[..., 0]

    with mock.patch.object(F, "relu", rectify), mock.patch.object(F, "max_pool2d", pool):
        yield seen
