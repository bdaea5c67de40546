"""Hand-written forward and backward passes of the networks, for all lanes at once.

They compute exactly what autograd computes for method/networks.py, ordered such that few kernels are launched.
Convolutions are matrix products over patches. The maps of a block are rows [batch * height * width, lanes * filters],
so normalisation and pooling treat lanes as additional channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from firstorder.engines.lanes import patches
from firstorder.engines.lanes.patches import Convolution, Tables
from firstorder.engines.lanes.pieces import Pieces
from firstorder.method.architectures import BLOCKS, Architecture, architecture_of
from firstorder.method.networks import BATCH_NORMALISATION_EPSILON

aten = torch.ops.aten


@dataclass
class Saved:
    """What a block's backward pass needs from its forward pass."""

    patches: Tensor  # [lanes, batch * places, 9 * channels]
    convolved: Tensor  # rows
    normalised: Tensor  # rows
    statistics: tuple[Tensor, Tensor]  # mean and inverse standard deviation
    pooled: Tensor  # input of the ReLU, rows; `normalised` if there is no pooling
    where: Tensor | None = None  # indices of the maxima


@dataclass
class Workspace:
    """Tables and buffers that passes with the same number of lanes and mini-batch size reuse.

    Both are per block, from the second. The last of `rows` is always zero.
    """

    tables: dict[int, Tables] = field(default_factory=dict)
    rows: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Passes:
    """Forward and backward pass of an architecture, or of one of ARCHITECTURES by its name.

    If `joinable`, in operations that torch.compile can fuse, and whose logits autograd can differentiate twice.
    """

    network: str | Architecture
    way: int
    joinable: bool = False

    @property
    def architecture(self) -> Architecture:
        """The architecture of the network."""
        return architecture_of(self.network)

    @cached_property
    def pieces(self) -> Pieces:
        """The order of the network's parameters."""
        return Pieces(self.network, self.way)

    @cached_property
    def convolutions(self) -> dict[int, Convolution]:
        """The convolution of each block, from 1."""
        stride = 2 if self.architecture.pool == "stride" else 1
        sizes = self.architecture.map_sizes()
        return {block: Convolution(sizes[block - 1], stride) for block in range(1, BLOCKS + 1)}

    def workspace(self, like: Tensor, lanes: int, batch: int) -> Workspace:
        """Make the workspace for `lanes` mini-batches of `batch` images, with the dtype and device of `like`."""
        made = Workspace()
        for block in range(2, BLOCKS + 1):
            convolution = self.convolutions[block]
            made.tables[block] = patches.make_tables(convolution, lanes, batch, like.device)
            rows = batch * convolution.size**2 * lanes + (not self.joinable)
            made.rows[block] = like.new_zeros(0 if self.joinable else rows, self.architecture.filters)
        return made

    def forward(
        self, weights: dict[str, Tensor], first: Tensor, space: Workspace, saved: list[Saved] | None
    ) -> tuple[Tensor, Tensor]:
        """Return logits [lanes, batch, way] and the features before them; append to `saved` what `backward` needs."""
        lanes = len(first)
        taken, rows = first, first
        for block in range(1, BLOCKS + 1):
            if block > 1:
                taken = self._taken(rows, block, lanes, space)
            convolved = self._convolve(taken, weights[f"convolution{block}.kernel"])
            scale, shift = self._scale(weights, block), weights[f"normalisation{block}.shift"].view(-1)
            normalised, *statistics = torch.native_batch_norm(
                convolved, scale, shift, None, None, True, 0.0, BATCH_NORMALISATION_EPSILON
            )
            rows, where = self._pool(normalised, block)
            if saved is not None:
                saved.append(Saved(taken, convolved, normalised, (statistics[0], statistics[1]), rows, where))
        features = self._features(rows, lanes)
        weight, bias = weights["dense.kernel"], weights["dense.bias"].unsqueeze(1)
        return torch.baddbmm(bias.to(features.dtype), features, weight.transpose(1, 2)), features

    def backward(
        self, weights: dict[str, Tensor], slope: Tensor, features: Tensor, space: Workspace, saved: list[Saved]
    ) -> Tensor:
        """Return the gradient of the loss, a vector of pieces, from its derivative by the logits, `slope`.

        Removes each block from `saved` after use, to free its memory.
        """
        lanes, like = len(slope), features
        total = max(end for _, end in self.pieces.ranges.values())
        gradient = like.new_empty(lanes * total)
        found = self.pieces.views(gradient, lanes)
        torch.bmm(slope.transpose(1, 2), features, out=found["dense.kernel"])
        torch.sum(slope, dim=1, out=found["dense.bias"])
        rows = self._features_backward(torch.bmm(slope, weights["dense.kernel"]), saved[-1].pooled, lanes)
        normalisations: list[Tensor] = []
        for block in range(BLOCKS, 0, -1):
            done = saved.pop()
            if block < BLOCKS:
                rows = aten.threshold_backward(rows.view_as(done.pooled), done.pooled, 0)
            if done.where is not None:
                rows = self._pool_backward(rows, done, block)
            rows, of_scale, of_shift = aten.native_batch_norm_backward(
                rows, done.convolved, self._scale(weights, block), None, None, *done.statistics, True,
                BATCH_NORMALISATION_EPSILON, [True, True, True],
            )  # fmt: skip
            normalisations[:0] = [of_scale, of_shift] if self.architecture.scale else [of_shift]
            slopes = rows.view(-1, lanes, self.architecture.filters)  # [batch * places, lanes, filters]
            kernel = f"convolution{block}.kernel"
            torch.bmm(slopes.permute(1, 2, 0), done.patches, out=found[kernel])
            if block > 1:
                rows = self._patches_backward(slopes.transpose(0, 1), weights[kernel], space.tables[block])
        begin = self.pieces.ranges["normalisation1.scale" if self.architecture.scale else "normalisation1.shift"][0]
        torch.cat([part.to(like.dtype) for part in normalisations], out=gradient[lanes * begin :])
        return gradient

    def _scale(self, weights: dict[str, Tensor], block: int) -> Tensor:
        """Return the scale of a block's normalisation [lanes * filters]; ones if the network has none."""
        if self.architecture.scale:
            return weights[f"normalisation{block}.scale"].view(-1)
        return weights["ones"]

    def _taken(self, rows: Tensor, block: int, lanes: int, space: Workspace) -> Tensor:
        """Apply ReLU to the maps and return their patches."""
        channels = self.architecture.filters
        if torch.is_grad_enabled():
            return patches.GatherOrFold.apply(  # type: ignore[no-any-return, no-untyped-call]
                F.relu(rows).view(-1, channels), space.tables[block], lanes, False
            )
        if self.joinable:
            return patches.gather_plainly(F.relu(rows).view(-1, channels), space.tables[block], lanes)
        padded = space.rows[block]
        torch.clamp_min(rows.view(-1, channels), 0, out=padded[:-1])
        return patches.gather(padded, space.tables[block], lanes)

    def _convolve(self, taken: Tensor, kernel: Tensor) -> Tensor:
        """Multiply patches by kernels; return rows."""
        (lanes, filters, _), places = kernel.shape, taken.shape[1]
        if self.joinable:
            return torch.bmm(taken, kernel.transpose(1, 2)).transpose(0, 1).reshape(places, lanes * filters)
        rows = taken.new_empty(places, lanes, filters)
        torch.bmm(taken, kernel.transpose(1, 2), out=rows.transpose(0, 1))
        return rows.view(places, lanes * filters)

    def _maps(self, rows: Tensor, size: int) -> Tensor:
        """View rows as maps [batch, lanes * filters, size, size] in channels-last order."""
        return rows.view(-1, size, size, rows.shape[-1]).permute(0, 3, 1, 2)

    def _pool(self, rows: Tensor, block: int) -> tuple[Tensor, Tensor | None]:
        """Max-pool the rows 2x2 and return the indices of the maxima; no-op if the convolutions have stride 2."""
        if self.architecture.pool == "stride":
            return rows, None
        maps = self._maps(rows, self.convolutions[block].out)
        ceil = self.architecture.pool == "same"
        pooled, where = aten.max_pool2d_with_indices(maps, [2, 2], [2, 2], [0, 0], [1, 1], ceil)
        return pooled.permute(0, 2, 3, 1).reshape(-1, rows.shape[-1]), where

    def _pool_backward(self, rows: Tensor, done: Saved, block: int) -> Tensor:
        before, after = self.convolutions[block].out, self.architecture.map_sizes()[block]
        ceil = self.architecture.pool == "same"
        maps = aten.max_pool2d_with_indices_backward(
            self._maps(rows, after),
            self._maps(done.normalised, before),
            [2, 2],
            [2, 2],
            [0, 0],
            [1, 1],
            ceil,
            done.where,
        )
        return maps.permute(0, 2, 3, 1).reshape(done.normalised.shape)  # type: ignore[no-any-return]

    def _features(self, rows: Tensor, lanes: int) -> Tensor:
        """Apply ReLU to the last maps; return them as [lanes, batch, filters * places], or their means over places."""
        places, filters = self.architecture.map_sizes()[-1] ** 2, self.architecture.filters
        maps = rows.view(-1, places, lanes, filters)
        if self.architecture.mean:
            return F.relu(maps).mean(dim=1).transpose(0, 1)
        if self.joinable:
            return F.relu(maps).permute(2, 0, 3, 1).reshape(lanes, len(maps), -1)
        features = maps.new_empty(lanes, len(maps), filters, places)
        torch.clamp_min(maps.permute(2, 0, 3, 1), 0, out=features)
        return features.view(lanes, len(maps), -1)

    def _features_backward(self, slopes: Tensor, pooled: Tensor, lanes: int) -> Tensor:
        """Return the gradient at the input of the last ReLU, rows, from that at the features."""
        places, filters = self.architecture.map_sizes()[-1] ** 2, self.architecture.filters
        batch = slopes.shape[1]
        if self.architecture.mean:
            spread = slopes.div_(places).transpose(0, 1).unsqueeze(1).expand(batch, places, lanes, filters)
        else:
            spread = slopes.view(lanes, batch, filters, places).permute(1, 3, 0, 2)
        maps = pooled.view(batch, places, lanes, filters)
        if self.joinable:
            return aten.threshold_backward(spread, maps, 0).reshape(pooled.shape)  # type: ignore[no-any-return]
        found = torch.empty_like(maps)
        aten.threshold_backward.grad_input(spread, maps, 0, grad_input=found)
        return found.view(pooled.shape)

    def _patches_backward(self, slopes: Tensor, kernel: Tensor, tables: Tables) -> Tensor:
        """Return the gradient at the maps after ReLU, rows, from `slopes` [lanes, batch * places, filters]."""
        (lanes, places), wide = slopes.shape[:2], kernel.shape[2]
        channels = self.architecture.filters
        if self.joinable:
            return patches.fold_plainly(torch.bmm(slopes, kernel).view(-1, channels), tables)
        entries = slopes.new_empty(lanes * places * patches.TAPS + 1, channels)
        torch.bmm(slopes, kernel, out=entries[:-1].view(lanes, places, wide))
        return patches.fold(entries, tables)
