"""Watch where a network's gradient is discontinuous: where a ReLU's input is 0 or two values of a 2x2 window are equal.

Close to such a kink, rounding decides which side is taken, and the other side changes the gradient by far more than
rounding does.
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
    """Signs chosen by a ReLU, or indices of maxima chosen by a pooling, and their distances from the other choice.

    The distance is infinite for a maximum that ReLU sets to zero anyway.
    """

    taken: Tensor
    distance: Tensor


@contextmanager
def watched(forced: Sequence[Tensor] | None = None) -> Iterator[list[Decisions]]:
    """Collect the decisions of networks.py's ReLUs and poolings within the context; `forced` prescribes them."""
    seen: list[Decisions] = []

    def rectify(maps: Tensor) -> Tensor:
        taken = maps.detach() > 0 if forced is None else forced[len(seen)]
        seen.append(Decisions(taken, maps.detach().abs()))
        return maps * taken

    def pool(maps: Tensor, size: int, ceil_mode: bool) -> Tensor:
        assert size == 2
        # A line left over at the edge of an odd size is padded with -inf, or dropped.
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
