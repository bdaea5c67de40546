"""The order of parameters inside the lanes engine: a vector of pieces instead of one row per lane.

A vector of pieces holds the first kernels of all lanes, then their second kernels, and so on. Each piece is contiguous,
[lanes, size], so matrix products, normalisation and the optimiser's step use it without a copy. Scales and shifts come
last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from firstorder.method.architectures import Architecture
from firstorder.method.networks import make_network

# Up to this many lanes, parameters are reordered by an index table in one kernel. For more the table is too large.
LANES_BY_TABLE = 64


@dataclass(frozen=True)
class Pieces:
    """Converts the parameters of one architecture and way between rows per lane and a vector of pieces."""

    network: str | Architecture
    way: int
    _tables: dict[tuple[str, int], Tensor] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one lane's parameters, in the network's order."""
        return make_network(self.network, self.way).shapes

    @cached_property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Begin and end of each parameter in one lane's vector of pieces."""
        last = [name for name in self.shapes if name.startswith("normalisation")]
        ranges, end = {}, 0
        for name in [*(name for name in self.shapes if name not in last), *last]:
            ranges[name] = (end, end := end + math.prod(self.shapes[name]))
        return ranges

    def views(self, vector: Tensor, lanes: int) -> dict[str, Tensor]:
        """View a vector of pieces [lanes * parameters] by name: kernels [lanes, out, in], the others [lanes, size]."""
        named = {
            name: vector[lanes * begin : lanes * end].view(lanes, -1) for name, (begin, end) in self.ranges.items()
        }
        for name, view in named.items():
            if name.endswith("kernel"):
                named[name] = view.view(lanes, self.shapes[name][0], -1)
        return named

    def join(self, flat: Tensor) -> Tensor:
        """Return parameters [lanes, parameters] as a new vector of pieces [lanes * parameters]."""
        lanes = len(flat)
        if lanes == 1 or lanes > LANES_BY_TABLE:
            return torch.cat([part.reshape(-1) for part in self._parts(flat)])
        order = self._table("join", lanes, lambda: self._order(flat))
        return flat.reshape(-1).index_select(0, order)

    def split(self, vector: Tensor, lanes: int) -> Tensor:
        """Return a vector of pieces as parameters [lanes, parameters], the inverse of `join`."""
        if lanes == 1 or lanes > LANES_BY_TABLE:
            views = self.views(vector, lanes)
            return torch.cat([views[name].reshape(lanes, -1) for name in self.shapes], dim=1)
        order = self._table("split", lanes, lambda: self._order(vector.view(lanes, -1)).argsort().int())
        return vector.index_select(0, order).view(lanes, -1)

    def _table(self, name: str, lanes: int, make: Callable[[], Tensor]) -> Tensor:
        """Return the index table, made at first use. It is never dropped, because a CUDA graph may read it."""
        if (name, lanes) not in self._tables:
            self._tables[name, lanes] = make()
        return self._tables[name, lanes]

    def _order(self, like: Tensor) -> Tensor:
        """Return the position in [lanes, parameters] of each entry of the vector of pieces."""
        lanes, parameters = like.shape
        positions = torch.arange(lanes * parameters, device=like.device).view(lanes, parameters)
        return torch.cat([part.reshape(-1) for part in self._parts(positions)]).int()

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """View [lanes, parameters] as parts in the order of the pieces."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        named = dict(zip(self.shapes, flat.split(sizes, dim=1), strict=True))
        return [named[name] for name in self.ranges]
