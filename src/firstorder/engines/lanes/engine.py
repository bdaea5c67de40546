"""An engine for many lanes at once: hand-written forward and backward passes with batched matrix products over lanes.

It computes what method/inner_loop.py and method/networks.py define, on any device, and is tested against them. It never
waits for the device or reads a value from it, so it can be captured in a CUDA graph. Inside, the parameters of all
lanes are a vector of pieces (pieces.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from firstorder.engines.by_hand import ByHand, check_momentum
from firstorder.engines.lanes import patches
from firstorder.engines.lanes.draws import draw
from firstorder.engines.lanes.passes import Passes, Saved, Workspace
from firstorder.engines.lanes.pieces import Pieces
from firstorder.method.architectures import Architecture
from firstorder.method.images import ImagePool, TaskImages, query_labels
from firstorder.method.inner_loop import ADAM_BETA2, ADAM_EPSILON, InnerLoop, OptimiserState, adam_rate
from firstorder.method.tasks import Draws, TaskShape

# An evaluation on a GPU has as many lanes as fit into this memory, the same on every GPU: rounding depends on it.
LANES_BYTES = 16 * 2**30
MOST_LANES = 4096


@dataclass(frozen=True)
class Prepared:
    """A mini-batch of every lane, as patches for the first convolution.

    `patches` [lanes, batch * places, 9 * channels]; `targets` [lanes, batch, way], 1 at the label and 0 elsewhere.
    """

    patches: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """Return the number of lanes."""
        return len(self.patches)


# (images [lanes, batch, channels, height, width], labels [lanes, batch]), the same prepared, or a function of either.
Batch = tuple[Tensor, Tensor] | Prepared | Callable[[], Any]


@dataclass(frozen=True)
class LanesEngine(ByHand):
    """The engine for one architecture and way; see inner_loop.Engine.

    `rates` [inner steps], on the device, are the rates of Adam's steps with bias correction, indexed by the optimiser's
    step count; None computes them from the step count. `precision` ("float32", "tf32" or "bfloat16") is that of the
    matrix products and, with "bfloat16", of the maps between them; everything else keeps the precision of the
    parameters. With `compiled`, torch.compile fuses the operations between the matrix products.
    """

    network: str | Architecture
    way: int
    rates: Tensor | None = None
    precision: str = "float32"
    compiled: bool = False
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the engine in records."""
        return "lanes, compiled" if self.compiled else "lanes"

    def prepare(self, images: Tensor, labels: Tensor) -> Prepared:
        """Prepare mini-batches: images [lanes, batch, channels, height, width], or [lanes, steps, batch, ...]."""
        classes = self._keep("classes", lambda: torch.arange(self.way, device=labels.device))
        targets = labels[..., None] == classes
        return Prepared(self._first(images), targets.to(images.dtype))

    @torch.no_grad()
    def adapt(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Batch]
    ) -> tuple[Tensor, OptimiserState]:
        """Take the inner steps, in place on a vector of pieces. Raises UserError with beta1 > 0."""
        check_momentum(inner)
        lanes, steps = len(parameters), state.steps
        vector, mask = self._pieces.join(parameters), self._mask(inner, parameters)
        adam = inner.optimiser == "adam"
        moments = self._pieces.join(state.second_moments) if adam else vector
        with self._products():
            for batch in batches:
                gradient = self._gradient(vector, lanes, self._ready(batch))
                if mask is not None:
                    gradient.mul_(mask)
                if adam:
                    steps += 1
                    self._keep("adam", lambda: _compiled(_adam_step) if self.compiled else _adam_step)(
                        vector, gradient, moments, self._rate(inner, steps, vector)
                    )
                else:
                    vector.add_(gradient, alpha=-inner.learning_rate)
        second_moments = self._pieces.split(moments, lanes) if adam else state.second_moments
        return self._pieces.split(vector, lanes), OptimiserState(second_moments, steps)

    @torch.no_grad()
    def gradient(self, inner: InnerLoop, parameters: Tensor, batch: Batch) -> Tensor:
        """Take the forward and the backward pass."""
        lanes = len(parameters)
        with self._products():
            found = self._gradient(self._pieces.join(parameters), lanes, self._ready(batch))
        return self._pieces.split(found, lanes)

    def hessian_product(self, inner: InnerLoop, parameters: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        """Differentiate the forward pass twice, by autograd."""
        lanes, ready = len(parameters), self._ready(batch)
        with torch.no_grad():
            point, along, mask = self._pieces.join(parameters), self._pieces.join(vector), self._mask(inner, parameters)
            along = along if mask is None else along * mask
        point.requires_grad_()
        with self._products():
            passes = self._keep("differentiable", lambda: replace(self._passes, joinable=True))
            logits, _ = passes.forward(self._weights(point, lanes), ready.patches, self._space(ready.patches), None)
            loss = -(logits.to(point.dtype).log_softmax(dim=-1) * ready.targets).sum()
            (slope,) = torch.autograd.grad(loss, point, create_graph=True)
            (product,) = torch.autograd.grad((slope * along).sum(), point)
        return self._pieces.split(product, lanes)

    @torch.no_grad()
    def logits(self, inner: InnerLoop, parameters: Tensor, images: Tensor) -> Tensor:
        """Take the forward pass."""
        first = self._first(images)
        with self._products():
            weights = self._weights(self._pieces.join(parameters), len(parameters))
            return self._passes.forward(weights, first, self._space(first), None)[0].to(parameters.dtype)

    def inductive_logits(self, inner: InnerLoop, parameters: Tensor, support: Tensor, query: Tensor) -> Tensor:
        """Make each query image, with its support set, a lane of its own."""
        lanes, queries = query.shape[:2]
        lane = torch.arange(lanes, device=query.device).repeat_interleave(queries)
        single = query.flatten(0, 1).unsqueeze(1)  # [lanes * queries, 1, ...]
        size = (support.shape[1] + 1) * self.image_bytes(support.element_size())
        chunk = max(1, LANES_BYTES // (size + _state_bytes(parameters)))
        rows = [
            self.logits(inner, parameters[some], torch.cat([support[some], images], dim=1))[:, -1]
            for some, images in zip(lane.split(chunk), single.split(chunk), strict=True)
        ]
        return torch.cat(rows).view(lanes, queries, -1)

    def task_images(self, pool: ImagePool, draws: Draws, tasks: range, dtype: torch.dtype) -> TaskImages:
        """Draw on the device, which would otherwise wait for the host. A mini-batch is gathered when it is used."""
        numbers = torch.arange(tasks.start, tasks.stop, device=pool.images.device)
        steps = torch.full_like(numbers, draws.step)
        drawn = draw(draws.shape, draws.seed, draws.purpose, steps, numbers)
        positions, labels = drawn.batches, drawn.batch_labels

        def gathered(step: int) -> tuple[Tensor, Tensor]:
            return pool.take(positions[:, step], dtype), labels[:, step]

        batches = [partial(gathered, step) for step in range(positions.shape[1])]
        query = pool.take(drawn.query, dtype)
        return TaskImages(batches, pool.take(drawn.support, dtype), query, query_labels(query, drawn.way))

    def lanes_at_once(self, pool: ImagePool, shape: TaskShape, parameters: Tensor) -> int:
        """Return as many tasks as fit into LANES_BYTES; on a CPU, a constant."""
        if pool.images.device.type == "cpu":
            return super().lanes_at_once(pool, shape, parameters)
        size = shape.inner_batch_size * self.image_bytes(parameters.element_size())
        return min(max(1, LANES_BYTES // (size + _state_bytes(parameters))), MOST_LANES)

    def image_bytes(self, itemsize: int = 4) -> int:
        """Return roughly the bytes that one image needs during an inner step: patches twice, and five maps."""
        total = 0
        for block, convolution in self._passes.convolutions.items():
            channels = self._passes.architecture.channels if block == 1 else self._passes.architecture.filters
            patch = patches.TAPS * channels * (1 if block == 1 else 2)
            total += convolution.out**2 * (patch + 5 * self._passes.architecture.filters)
        return total * (2 if self.precision == "bfloat16" else itemsize)

    @property
    def _passes(self) -> Passes:
        made: Passes = self._keep("passes", lambda: Passes(self.network, self.way, joinable=self.compiled))
        return made

    @property
    def _pieces(self) -> Pieces:
        return self._passes.pieces

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return the value of `key`, made at first use. It is never dropped, because a CUDA graph may read it."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    @contextlib.contextmanager
    def _products(self) -> Iterator[None]:
        """Set the precision of float32 matrix products on a GPU; no effect elsewhere."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def _first(self, images: Tensor) -> Tensor:
        maps = images.to(torch.bfloat16) if self.precision == "bfloat16" else images
        first = self._passes.convolutions[1]
        table = self._keep("images", lambda: patches.image_table(first, images.shape[-3], images.device))
        return patches.image_patches(maps, table)

    def _ready(self, batch: Batch) -> Prepared:
        batch = batch() if callable(batch) else batch
        return batch if isinstance(batch, Prepared) else self.prepare(*batch)

    def _space(self, first: Tensor) -> Workspace:
        lanes, batch = len(first), first.shape[1] // self._passes.convolutions[1].out ** 2
        key = ("workspace", lanes, batch, first.dtype)
        made: Workspace = self._keep(key, lambda: self._passes.workspace(first, lanes, batch))
        return made

    def _weights(self, vector: Tensor, lanes: int) -> dict[str, Tensor]:
        """View the vector of pieces by name; with bfloat16, kernels and head are converted."""
        weights = self._pieces.views(vector, lanes)
        if self.precision == "bfloat16":
            low = self._pieces.views(vector.to(torch.bfloat16), lanes)
            weights = {name: view if "normalisation" in name else low[name] for name, view in weights.items()}
        if not self._passes.architecture.scale:
            size = lanes * self._passes.architecture.filters
            weights["ones"] = self._keep(("ones", size, vector.dtype), lambda: vector.new_ones(size).detach())
        return weights

    def _gradient(self, vector: Tensor, lanes: int, batch: Prepared) -> Tensor:
        weights, space = self._weights(vector, lanes), self._space(batch.patches)
        compute = self._keep("gradient", lambda: _compiled(_loss_gradient) if self.compiled else _loss_gradient)
        found: Tensor = compute(self._passes, weights, batch.patches, batch.targets, space)
        return found.to(vector.dtype)

    def _rate(self, inner: InnerLoop, steps: int, like: Tensor) -> float | Tensor:
        """Return Adam's rate at a step counted from 1, see inner_loop.adam_rate."""
        if self.rates is not None:
            return self.rates[steps - 1]
        rate: float = adam_rate(inner.learning_rate, steps)
        # torch.compile treats a Python number as a constant and would recompile for each new one.
        return torch.full((), rate, dtype=like.dtype, device=like.device) if self.compiled else rate

    def _mask(self, inner: InnerLoop, parameters: Tensor) -> Tensor | None:
        if inner.adapted is None:
            return None
        return self._pieces.join(inner.adapted.to(parameters.dtype).expand_as(parameters))


def _state_bytes(parameters: Tensor) -> int:
    """Return the bytes of a lane's parameters, second moments, gradient and temporaries."""
    return 8 * parameters.shape[1] * parameters.element_size()


def _loss_gradient(
    passes: Passes, weights: dict[str, Tensor], first: Tensor, targets: Tensor, space: Workspace
) -> Tensor:
    """Return the gradient of the summed cross entropy as a vector of pieces."""
    saved: list[Saved] = []
    logits, features = passes.forward(weights, first, space, saved)
    # The derivative of the cross entropy by the logits: probabilities, less 1 at the label.
    slope = logits.to(targets.dtype).softmax(dim=-1).sub_(targets).to(features.dtype)
    return passes.backward(weights, slope, features, space, saved)


def _adam_step(vector: Tensor, gradient: Tensor, moments: Tensor, rate: float | Tensor) -> None:
    """Do inner_loop.adam_step in place."""
    moments.mul_(ADAM_BETA2).addcmul_(gradient, gradient, value=1 - ADAM_BETA2)
    size = moments.sqrt().add_(ADAM_EPSILON)
    if isinstance(rate, Tensor):
        vector.addcdiv_(gradient.mul_(rate), size, value=-1)
    else:
        vector.addcdiv_(gradient, size, value=-rate)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False)
    return compiled
