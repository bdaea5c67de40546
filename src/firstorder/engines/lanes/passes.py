"""The networks' forward and backward pass by hand, all lanes at once, convolutions as matrix products over patches.

A newcomer would get wrong: nothing here is a shortcut in the mathematics. Every function computes what autograd
computes for models.py, in an order that takes few kernels: the maps of a block are rows
[batch * height * width, lanes * filters], on which normalisation and pooling work with lanes as more channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from firstorder.engines.lanes import patches
from firstorder.engines.lanes.patches import Convolution, Tables
from firstorder.method.architectures import ARCHITECTURES, BLOCKS, Architecture
from firstorder.method.networks import BATCH_NORMALISATION_EPSILON, make_network

aten = torch.ops.aten


@dataclass
class Saved:
    """What one block's forward pass leaves for its backward pass; `statistics` are mean and inverse deviation."""

    patches: Tensor  # [lanes, batch * places, 9 * channels]
    convolved: Tensor  # rows
    normalised: Tensor  # rows
    statistics: tuple[Tensor, Tensor]
    pooled: Tensor  # what the rectifier takes, rows; `normalised` where nothing is pooled
    where: Tensor | None = None  # the places of the maxima


@dataclass
class Workspace:
    """What the passes of one number of lanes and size of mini-batch use again and again.

    For each block from the second on: tables, and rows whose last one is, and stays, zero.
    """

    tables: dict[int, Tables] = field(default_factory=dict)
    rows: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Passes:
    """Forward and backward pass of one of models.ARCHITECTURES. `joinable`: in operations that a compiler can join."""

    network: str
    way: int
    joinable: bool = False

    @property
    def architecture(self) -> Architecture:
        """Sizes and kind of the network."""
        return ARCHITECTURES[self.network]

    @cached_property
    def pieces(self) -> dict[str, tuple[int, int]]:
        """Begin and end of each parameter in one lane's vector *of pieces*: scales and shifts come last."""
        shapes = make_network(self.network, self.way).shapes
        last = [name for name in shapes if name.startswith("normalisation")]
        ends, end = {}, 0
        for name in [*(name for name in shapes if name not in last), *last]:
            ends[name] = (end, end := end + math.prod(shapes[name]))
        return ends

    @cached_property
    def convolutions(self) -> dict[int, Convolution]:
        """The convolution of each block, from 1."""
        stride = 2 if self.architecture.pool == "stride" else 1
        sizes = self.architecture.map_sizes()
        return {block: Convolution(sizes[block - 1], stride) for block in range(1, BLOCKS + 1)}

    def views(self, vector: Tensor, lanes: int) -> dict[str, Tensor]:
        """View a vector of pieces [lanes * parameters] by name: kernels [lanes, out, in], the others [lanes, size]."""
        named = {
            name: vector[lanes * begin : lanes * end].view(lanes, -1) for name, (begin, end) in self.pieces.items()
        }
        for name, view in named.items():
            if name.endswith("kernel"):
                named[name] = view.view(lanes, self.way if name.startswith("dense") else self.architecture.filters, -1)
        return named

    def workspace(self, like: Tensor, lanes: int, batch: int) -> Workspace:
        """Make what passes over `lanes` mini-batches of `batch` images need, for maps of the type of `like`."""
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
        """Return logits [lanes, batch, way] and the features before them; note in `saved` what `backward` needs."""
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
        """Return the loss's gradient, a vector of pieces, from its `slope` [lanes, batch, way] at the logits.

        Takes the blocks from `saved`, so that their memory is free as soon as they are done with.
        """
        lanes, like = len(slope), features
        total = max(end for _, end in self.pieces.values())
        gradient = like.new_empty(lanes * total)
        found = self.views(gradient, lanes)
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
        begin = self.pieces["normalisation1.scale" if self.architecture.scale else "normalisation1.shift"][0]
        torch.cat([part.to(like.dtype) for part in normalisations], out=gradient[lanes * begin :])
        return gradient

    def differentiable(self, weights: dict[str, Tensor], first: Tensor, space: Workspace) -> Tensor:
        """Return logits [lanes, batch, way] that autograd can differentiate twice."""
        lanes, filters = len(first), self.architecture.filters
        taken = rows = first
        for block in range(1, BLOCKS + 1):
            if block > 1:
                rows = F.relu(rows).view(-1, filters)
                taken = patches.Gather.apply(rows, space.tables[block], lanes)  # type: ignore[no-untyped-call]
            products = torch.bmm(taken, weights[f"convolution{block}.kernel"].transpose(1, 2))
            convolved = products.transpose(0, 1).reshape(-1, lanes * filters)
            scale, shift = self._scale(weights, block), weights[f"normalisation{block}.shift"].view(-1)
            rows = torch.native_batch_norm(convolved, scale, shift, None, None, True, 0.0, BATCH_NORMALISATION_EPSILON)[
                0
            ]
            rows, _ = self._pool(rows, block)
        side = self.architecture.map_sizes()[-1]
        maps = F.relu(rows).view(-1, side * side, lanes, filters)
        features = (maps.mean(dim=1) if self.architecture.mean else maps.permute(0, 2, 3, 1)).transpose(0, 1)
        features = features.reshape(lanes, len(maps), -1)
        return torch.baddbmm(weights["dense.bias"].unsqueeze(1), features, weights["dense.kernel"].transpose(1, 2))

    def _scale(self, weights: dict[str, Tensor], block: int) -> Tensor:
        """Return the scale of a block's normalisation [lanes * filters]; ones where the network has none."""
        if self.architecture.scale:
            return weights[f"normalisation{block}.scale"].view(-1)
        return weights["ones"]

    def _taken(self, rows: Tensor, block: int, lanes: int, space: Workspace) -> Tensor:
        """Rectify the maps and take their patches."""
        channels = self.architecture.filters
        if self.joinable:
            return patches.gather_plainly(F.relu(rows).view(-1, channels), space.tables[block], lanes)
        kept = space.rows[block]
        torch.clamp_min(rows.view(-1, channels), 0, out=kept[:-1])
        return patches.gather(kept, space.tables[block], lanes)

    def _convolve(self, taken: Tensor, kernel: Tensor) -> Tensor:
        """Return rows of patches times kernels."""
        (lanes, filters, _), places = kernel.shape, taken.shape[1]
        if self.joinable:
            return torch.bmm(taken, kernel.transpose(1, 2)).transpose(0, 1).reshape(places, lanes * filters)
        rows = taken.new_empty(places, lanes, filters)
        torch.bmm(taken, kernel.transpose(1, 2), out=rows.transpose(0, 1))
        return rows.view(places, lanes * filters)

    def _maps(self, rows: Tensor, size: int) -> Tensor:
        """View rows as maps [batch, lanes * filters, size, size], in the order that PyTorch calls channels last."""
        return rows.view(-1, size, size, rows.shape[-1]).permute(0, 3, 1, 2)

    def _pool(self, rows: Tensor, block: int) -> tuple[Tensor, Tensor | None]:
        """Return the maxima of 2x2 places, or the rows themselves where the convolutions have stride 2."""
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
        """Rectify the last maps and return them as [lanes, batch, filters * places] or their means [..., filters]."""
        places, filters = self.architecture.map_sizes()[-1] ** 2, self.architecture.filters
        maps = rows.view(-1, places, lanes, filters)
        if self.architecture.mean:
            return maps.clamp_min(0).mean(dim=1).transpose(0, 1)
        if self.joinable:
            return F.relu(maps).permute(2, 0, 3, 1).reshape(lanes, len(maps), -1)
        features = maps.new_empty(lanes, len(maps), filters, places)
        torch.clamp_min(maps.permute(2, 0, 3, 1), 0, out=features)
        return features.view(lanes, len(maps), -1)

    def _features_backward(self, slopes: Tensor, pooled: Tensor, lanes: int) -> Tensor:
        """Return the gradient at what the last rectifier takes, rows, from that at the features."""
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
        """Return the gradient at the rectified maps, rows, from `slopes` [lanes, batch * places, filters]."""
        (lanes, places), wide = slopes.shape[:2], kernel.shape[2]
        channels = self.architecture.filters
        if self.joinable:
            return patches.fold_plainly(torch.bmm(slopes, kernel).view(-1, channels), tables)
        entries = slopes.new_empty(lanes * places * patches.TAPS + 1, channels)
        torch.bmm(slopes, kernel, out=entries[:-1].view(lanes, places, wide))
        return patches.fold(entries, tables)
