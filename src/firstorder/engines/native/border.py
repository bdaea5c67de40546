"""What crosses from Python to native.c: memory, shapes and addresses. All that C would not notice is checked here."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from firstorder.method.architectures import Architecture
from firstorder.method.images import Pixels
from firstorder.method.inner_loop import ADAM_BETA2, ADAM_EPSILON
from firstorder.method.networks import BATCH_NORMALISATION_EPSILON

POOLS = {"stride": 0, "same": 1, "valid": 2}
MOST_THREADS = 64  # of one lane


class Workspace:
    """The C code's memory for the maps of one network and mini-batches of up to `images` images."""

    def __init__(
        self,
        code: ctypes.CDLL,
        architecture: Architecture,
        way: int,
        images: int,
        threads: int = 1,
        tiles: bool = True,
    ) -> None:
        """Allocate it in the library `code` for up to `threads` threads, with matrix tiles if there are any.

        Raises MemoryError.
        """
        self.code, self.images, self.threads = code, images, threads
        pool = POOLS[architecture.pool]
        sizes = (architecture.size, architecture.channels, architecture.filters, pool)
        shape = (ctypes.c_int * 7)(*sizes, architecture.scale, architecture.mean, way)
        self.net = ctypes.c_void_p(code.net_new(shape, images, threads, tiles))
        if not self.net:
            raise MemoryError(f"engine native: too little memory for the maps of {images} images")
        code.net_set(self.net, *map(ctypes.c_double, (BATCH_NORMALISATION_EPSILON, ADAM_BETA2, ADAM_EPSILON)))
        self.parameters: int = code.net_parameters(self.net)

    def __del__(self) -> None:
        """Free the memory."""
        if getattr(self, "net", None):
            self.code.net_free(self.net)


def readable(batches: Sequence[Tensor | Pixels], dtype: torch.dtype) -> tuple[Tensor, ctypes.c_int]:
    """Return the images of mini-batches side by side, [lanes, steps, batch, ...], and the scale that native.c takes.

    They are of `dtype`, scale 0, or as they are stored.
    """
    if all(isinstance(one, Pixels) for one in batches):
        stored = [one for one in batches if isinstance(one, Pixels)]
        return torch.stack([one.values for one in stored], dim=1), ctypes.c_int(stored[0].scale)
    images = [one.to(dtype) for one in batches]
    return torch.stack(images, dim=1), ctypes.c_int(0)


def check_batch(
    architecture: Architecture, way: int, images: Tensor, labels: Tensor | None, outer: tuple[int, ...]
) -> None:
    """Raise ValueError where C would read beyond images [*outer, channels, size, size] or labels [*outer]."""
    size, channels = architecture.size, architecture.channels
    if tuple(images.shape) != (*outer, channels, size, size) or not _is_readable(images):
        raise ValueError(
            f"engine native: images have shape {tuple(images.shape)} on {images.device}, expected "
            f"{(*outer, channels, size, size)} on the CPU"
        )
    if labels is None:
        return
    if tuple(labels.shape) != outer or labels.dtype != torch.int64 or not _is_readable(labels):
        raise ValueError(
            f"engine native: labels have shape {tuple(labels.shape)} and type {labels.dtype}, expected {outer} and "
            "torch.int64"
        )
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < way:
        raise ValueError(f"engine native: labels go from {int(labels.min())} to {int(labels.max())} of {way}")


def check_vectors(parameters: int, dtype: torch.dtype, *vectors: Tensor | None) -> None:
    """Raise ValueError where C would read or write beyond vectors [..., parameters], or as another type."""
    for vector in vectors:
        if vector is not None and not (
            vector.shape[-1] == parameters and vector.dtype == dtype and _is_readable(vector)
        ):
            raise ValueError(
                f"engine native: a vector has shape {tuple(vector.shape)}, type {vector.dtype} on {vector.device}; "
                f"expected {parameters} numbers of type {dtype}, contiguous, on the CPU"
            )


def _is_readable(tensor: Tensor) -> bool:
    """Say whether C can read a tensor through its address."""
    return tensor.device.type == "cpu" and tensor.is_contiguous()


def at(tensor: Tensor) -> ctypes.c_void_p:
    """Return a tensor's address."""
    return ctypes.c_void_p(tensor.data_ptr())
