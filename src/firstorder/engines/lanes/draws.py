"""Draw many tasks at once on the device: the same indices as method/tasks.py, bit for bit.

torch has next to no unsigned 64-bit arithmetic, so int64 tensors hold the bit patterns. Products wrap around as needed,
the upper half of a product is assembled from 32-bit parts, and unsigned order is signed order with the top bit flipped.
NumPy's Philox increments its counter before the first output. If two keys of a task are equal (one task in
10^12), their order may differ from that of tasks.py.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from firstorder.method.tasks import TaskShape

LOW = 0xFFFFFFFF
TOP = -(2**63)
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)  # Philox4x64 (Salmon et al. 2011)
BUMPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10


@dataclass(frozen=True)
class DeviceTasks:
    """Several tasks as tensors on the device; the fields are those of tasks.Tasks."""

    support: Tensor  # [lanes, way * support]
    query: Tensor  # [lanes, way * query]
    order: Tensor  # [lanes, steps, batch]
    way: int

    @property
    def batches(self) -> Tensor:
        """Positions of the images of every mini-batch, [lanes, steps, batch]."""
        lanes = len(self.order)
        return self.support.gather(1, self.order.reshape(lanes, -1)).view_as(self.order)

    @property
    def batch_labels(self) -> Tensor:
        """Labels 0 to way - 1 of every mini-batch, [lanes, steps, batch]."""
        return self.order // (self.support.shape[1] // self.way)


def _signed(value: int) -> int:
    """Return the int64 with the same bits as an unsigned 64-bit number."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _upper(value: Tensor, factor: int) -> Tensor:
    """Return the upper 64 bits of the unsigned product of `value` and `factor`."""
    low, high = factor & LOW, factor >> 32
    value_low, value_high = value & LOW, (value >> 32) & LOW
    middle = value_high * low + ((value_low * low >> 32) & LOW)
    other = value_low * high + (middle & LOW)
    return value_high * high + ((middle >> 32) & LOW) + ((other >> 32) & LOW)


def raw(count: int, seed: int, purpose: str, steps: Tensor, tasks: Tensor) -> Tensor:
    """Return the numbers of tasks.raw for each pair of `steps` and `tasks` (int64 [rows]): int64 [rows, count]."""
    counters = -(-count // 4)  # each value of the counter yields four numbers
    first = torch.arange(1, counters + 1, device=steps.device).expand(len(steps), -1)
    counter = [first, torch.zeros_like(first), tasks[:, None].expand_as(first), steps[:, None].expand_as(first)]
    for number in range(ROUNDS):
        keys = [
            _signed(key + number * bump) for key, bump in zip((seed, zlib.crc32(purpose.encode())), BUMPS, strict=True)
        ]
        products = [
            (_upper(counter[place], factor), counter[place] * _signed(factor))
            for place, factor in zip((0, 2), MULTIPLIERS, strict=True)
        ]
        (upper0, lower0), (upper1, lower1) = products
        counter = [upper1 ^ counter[1] ^ keys[0], lower1, upper0 ^ counter[3] ^ keys[1], lower0]
    return torch.stack(counter, dim=-1).view(len(steps), -1)[:, :count]


def _smallest(keys: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` smallest unsigned `keys` along the last axis, smallest first."""
    return (keys ^ TOP).topk(count, dim=-1, largest=False, sorted=True).indices


def _remainder(keys: Tensor, divisor: int) -> Tensor:
    """Return unsigned `keys` modulo a small divisor."""
    half = (keys >> 1) & (2**63 - 1)
    return (half % divisor * 2 + (keys & 1)) % divisor


def draw(shape: TaskShape, seed: int, purpose: str, steps: Tensor, tasks: Tensor) -> DeviceTasks:
    """Draw a task per lane: number `tasks[lane]` of step `steps[lane]` (int64, on the device); see tasks.draw_task."""
    lanes, images, in_support = len(steps), shape.support + shape.query, shape.way * shape.support
    drawn = shape.inner_steps * shape.inner_batch_size
    rounds = -(-drawn // in_support) if shape.sampling == "cycle" else shape.inner_steps
    sizes = [shape.pool_classes, shape.way * shape.stride, rounds * in_support, shape.way]
    keys = raw(sum(sizes), seed, purpose, steps, tasks).split(sizes, dim=1)
    classes = _smallest(keys[0], shape.way)  # [lanes, way]
    image_keys = keys[1].view(lanes, shape.way, -1)
    if not isinstance(shape.class_images, int):
        # Positions beyond the end of a smaller class get the largest key, so they sort last and are never drawn.
        counts = torch.tensor(shape.class_images, device=steps.device)[classes]
        absent = torch.arange(shape.stride, device=steps.device) >= counts[..., None]
        image_keys = image_keys.masked_fill(absent, -1)
    if shape.turns > 1:
        classes = classes + shape.pool_classes * _remainder(keys[3], shape.turns)
    positions = classes[..., None] * shape.stride + _smallest(image_keys, images)  # [lanes, way, images]
    order = (keys[2].reshape(lanes, rounds, in_support) ^ TOP).argsort(dim=-1, stable=True)
    if shape.sampling == "cycle":
        order = order.view(lanes, -1)[:, :drawn].reshape(lanes, shape.inner_steps, -1)
    else:
        order = order[:, :, : shape.inner_batch_size]
    support, query = positions.split([shape.support, shape.query], dim=2)
    return DeviceTasks(support.reshape(lanes, -1), query.reshape(lanes, -1), order.contiguous(), shape.way)
