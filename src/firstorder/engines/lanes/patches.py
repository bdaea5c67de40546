"""3x3 convolutions as matrix products: extract patches from maps (`gather`) and add them back (`fold`).

Maps of all lanes are rows [batch, height, width, lane] of channels, PyTorch's channels-last order with lanes as
additional channels. Patches are [lanes, batch * places, 9 * channels], the order that a batched matrix product needs
with kernels stored as [out, height, width, in]. A place is a position of the output map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = 9  # of a 3x3 kernel


@dataclass(frozen=True)
class Convolution:
    """The sizes of a 3x3 convolution of square maps with TensorFlow's "same" padding."""

    size: int  # side of the input map
    stride: int

    @property
    def out(self) -> int:
        """Side of the output map."""
        return -(-self.size // self.stride)

    @property
    def before(self) -> int:
        """Rows of padding before the map: none for stride 2 and an even side, else one."""
        return 0 if self.stride == 2 and self.size % 2 == 0 else 1

    def sources(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the index of the pixel that each tap of each place reads, and whether it exists: [places, 9] each."""
        place, tap = torch.arange(self.out, device=device), torch.arange(3, device=device)
        line = place[:, None] * self.stride + tap - self.before  # [out, 3]
        inside = (line >= 0) & (line < self.size)
        pixel = line[:, None, :, None] * self.size + line[None, :, None, :]  # [out, out, 3, 3]
        valid = inside[:, None, :, None] & inside[None, :, None, :]
        return pixel.reshape(-1, TAPS), valid.reshape(-1, TAPS)


@dataclass(frozen=True)
class Tables:
    """Index tables of `gather` and `fold` for one convolution, number of lanes and mini-batch size.

    `forward` [lanes * batch * places * 9] is the row of the maps that each entry of the patches copies; outside the map
    it is the number of rows, which is a row of zeros. `backward` [batch * pixels * lanes, taps] lists the entries that
    copy each row of the maps, filled up with the number of entries. `starts` is the offset of each line of `backward`.
    """

    forward: Tensor
    backward: Tensor
    starts: Tensor


def make_tables(convolution: Convolution, lanes: int, batch: int, device: torch.device) -> Tables:
    """Compute the tables. It takes a few seconds at most, once per shape."""
    pixel, valid = convolution.sources(device)
    places, pixels = len(pixel), convolution.size**2
    lane = torch.arange(lanes, device=device)[:, None, None, None]
    image = torch.arange(batch, device=device)[None, :, None, None]
    rows = torch.where(valid, (image * pixels + pixel) * lanes + lane, batch * pixels * lanes)
    # Which (place, tap) reads a pixel: at most 9 of them, with stride 2 at most 4.
    hits = torch.zeros(pixels, places * TAPS, dtype=torch.bool, device=device)
    chosen = valid.reshape(-1).nonzero()[:, 0]
    hits[pixel.reshape(-1)[chosen], chosen] = True
    taps = int(hits.sum(dim=1).max())
    count, entry = hits.to(torch.uint8).topk(taps, dim=1)
    # In ascending order, so that sums are taken in one order everywhere.
    entry, order = torch.where(count > 0, entry, places * TAPS).sort(dim=1)
    present = count.gather(1, order) > 0
    image = torch.arange(batch, device=device)[:, None, None, None]
    lane = torch.arange(lanes, device=device)[None, None, :, None]
    entries = (lane * batch + image) * places * TAPS + entry[None, :, None, :]  # [batch, pixels, lanes, taps]
    entries = torch.where(present[None, :, None, :], entries, lanes * batch * places * TAPS)
    starts = torch.arange(batch * pixels * lanes, device=device) * taps
    return Tables(rows.reshape(-1).int(), entries.reshape(-1, taps).int(), starts.int())


def gather(rows: Tensor, tables: Tables, lanes: int) -> Tensor:
    """Return patches [lanes, batch * places, 9 * channels] of rows [batch * pixels * lanes + 1, channels].

    The last row must be zero: it is the padding.
    """
    return rows.index_select(0, tables.forward).view(lanes, -1, TAPS * rows.shape[1])


def fold(entries: Tensor, tables: Tables) -> Tensor:
    """Sum the entries that come from the same row, the transpose of `gather`: [batch * pixels * lanes, channels].

    `entries` [lanes * batch * places * 9 + 1, channels]; the last one is ignored. One kernel does it, always summing in
    the same order.
    """
    ignored = len(entries) - 1
    flat = tables.backward.view(-1)
    # weight, indices, offsets, scale_grad_by_freq, mode 0 (sum), sparse, weights, last offset, padding index
    summed: Tensor = torch._embedding_bag_forward_only(
        entries, flat, tables.starts, False, 0, False, None, False, ignored
    )[0]
    return summed


def gather_plainly(rows: Tensor, tables: Tables, lanes: int) -> Tensor:
    """Do the same as `gather`, for rows without the zero at the end, in operations that torch.compile can fuse."""
    return gather(F.pad(rows, (0, 0, 0, 1)), tables, lanes)


def fold_plainly(entries: Tensor, tables: Tables) -> Tensor:
    """Do the same as `fold`, for entries without the ignored one, in operations that torch.compile can fuse."""
    padded = F.pad(entries, (0, 0, 0, 1))
    return padded.index_select(0, tables.backward.view(-1)).view(*tables.backward.shape, -1).sum(dim=1)


class GatherOrFold(torch.autograd.Function):
    """`gather` or, if it folds, `fold`, as an autograd function of any order: each is the derivative of the other."""

    @staticmethod
    def forward(context: Any, rows: Tensor, tables: Tables, lanes: int, folds: bool) -> Tensor:
        """Return the result of `gather_plainly`, or of `fold` for entries without the ignored one."""
        context.tables, context.lanes, context.folds, context.shape = tables, lanes, folds, rows.shape
        return fold(F.pad(rows, (0, 0, 0, 1)), tables) if folds else gather_plainly(rows, tables, lanes)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        """Return the gradient of the rows."""
        rows = gradients[0].reshape(-1, context.shape[1])
        gradient = GatherOrFold.apply(rows, context.tables, context.lanes, not context.folds)  # type: ignore[no-untyped-call]
        return gradient.reshape(context.shape), None, None, None


def image_table(convolution: Convolution, channels: int, device: torch.device) -> Tensor:
    """Return the index in an image [channels, height, width] of each entry of its patches; outside it, its size."""
    pixel, valid = convolution.sources(device)
    pixels = convolution.size**2
    offset = torch.arange(channels, device=device) * pixels
    return torch.where(valid[..., None], pixel[..., None] + offset, channels * pixels).reshape(-1)


def image_patches(images: Tensor, table: Tensor) -> Tensor:
    """Return patches [..., batch * places, 9 * channels] of images [..., batch, channels, height, width]."""
    *outer, _, channels, height, width = images.shape
    flat = F.pad(images.reshape(-1, channels * height * width), (0, 1))
    return flat.index_select(1, table).view(*outer, -1, TAPS * channels)
