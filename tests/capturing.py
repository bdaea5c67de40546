"""What a CUDA graph may not do, found on a CPU: a mode under which an outer step fails if it could not be captured.

A CUDA graph replays the kernels that were launched while it was captured, with the same sizes, addresses and numbers.
So what is captured may not wait for the device, read a number from it, copy between it and the host, or make tensors
whose size depends on values; and every further step must launch the same operations with the same sizes and numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# Operations that wait for the device: they return a number, or a tensor whose size depends on values.
WAITING = {
    *("_local_scalar_dense", "item", "equal", "is_nonzero", "allclose"),
    *("nonzero", "nonzero_static", "argwhere", "masked_select", "bincount", "histc"),
    *("unique_consecutive", "unique_dim", "_unique", "_unique2", "_linalg_check_errors"),
}
# Operations that copy from the host, as torch.tensor([...]) on a device does, or that draw from a global generator.
HOST = {"lift_fresh", "lift_fresh_copy", "scalar_tensor", "from_file", "pin_memory", "_pin_memory"}
RANDOM = {"rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal", "uniform", "exponential"}
_SIZED_BY_VALUES = {"repeat_interleave": "Tensor", "tensor_split": "tensor_indices_or_sections"}  # in this overload
_INDEXED = {"index", "index_put", "_index_put_impl"}


class UncapturableError(AssertionError):
    """An operation that a CUDA graph may not contain."""


class Capturing(TorchDispatchMode):
    """Fails on what a CUDA graph may not do, and notes what it does: operation, sizes and numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        base = name.rstrip("_") if name.strip("_") else name
        if base in WAITING or _SIZED_BY_VALUES.get(base) == function._overloadname:
            raise UncapturableError(f"{function} waits for the device")
        if base in HOST or _moves(args, kwargs or {}):
            raise UncapturableError(f"{function} copies from or to the host")
        if base in RANDOM:
            raise UncapturableError(f"{function} draws from a global generator")
        if base in _INDEXED and any(one.dtype in (torch.bool, torch.uint8) for one in _indices(args)):
            raise UncapturableError(f"{function} with a mask has a size that depends on values")
        result = function(*args, **(kwargs or {}))
        self.done.append((str(function), _described(args), _described(kwargs or {}), _described(result)))
        return result


def _moves(args: Any, kwargs: dict[str, Any]) -> bool:
    """Say whether an operation names a device other than that of its tensors."""
    devices = {leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
    named = kwargs.get("device")
    return len(devices) > 1 or (named is not None and bool(devices) and torch.device(named) not in devices)


def _indices(args: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(args[1:2]) if isinstance(leaf, Tensor)]


def _described(value: Any) -> Any:
    """Return a value with each tensor replaced by its sizes, strides and type."""

    def described(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return ("tensor", tuple(leaf.shape), leaf.stride() if leaf.layout == torch.strided else None, leaf.dtype)
        return leaf

    return str(tree_map(described, value))
