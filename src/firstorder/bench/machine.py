"""Measures the machine's limits: arithmetic, and on a GPU copies and kernel launches; counts the kernels of a step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from firstorder.bench.timing import nothing, timed
from firstorder.engines.native import engine

SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}
TRIES = 3
SECONDS = {"cpu": 0.3, "cuda": 0.1}
TINY_KERNELS = 1000
COPIED_BYTES = 2**30
PROFILED_STEPS = 3
REGISTERS = "registers"
PEAK_ROUNDS = 50_000_000


def synchronise(device: torch.device) -> None:
    """Wait until all work queued on the device is done."""
    (torch.cuda.synchronize if device.type == "cuda" else nothing)()


def arithmetic(device: torch.device, threads: int) -> dict[str, float]:
    """Measure float32 products of square matrices, in GFLOP/s by size, the best of TRIES; on a CPU add `registers`.

    A product of two n x n matrices counts as 2 n^3 operations. TensorFloat-32 is off, as in trainings.
    """
    torch.set_num_threads(threads)
    rates = {}
    for size in SIZES[device.type]:
        left, right = (torch.rand(size, size, device=device) for _ in range(2))
        multiply = partial(torch.mm, left, right, out=torch.empty_like(left))
        rates[str(size)] = round(2 * size**3 / _fastest(multiply, device) / 1e9, 1)
    return rates | (registers(threads) if device.type == "cpu" else {})


def registers(threads: int) -> dict[str, float]:
    """Measure float32 multiply-adds in registers on a CPU, in GFLOP/s, the best of TRIES; empty without native.c.

    A library's matrix products may be far below what the processor can do. No code can exceed this rate.
    """
    best = 0.0
    for _ in range(TRIES):
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            operations = list(pool.map(engine.peak, [PEAK_ROUNDS] * threads))
        taken = time.perf_counter() - start
        if None in operations:
            return {}
        best = max(best, sum(done or 0.0 for done in operations) / taken / 1e9)
    return {REGISTERS: round(best, 1)}


def copy_bandwidth(device: torch.device) -> float:
    """Measure copies on a GPU, in GB/s, counting bytes read and bytes written; the best of TRIES."""
    source = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return round(2 * COPIED_BYTES / _fastest(lambda: target.copy_(source), device, steps_per_wait=10) / 1e9, 1)


def launch_gap(device: torch.device) -> float:
    """Measure the seconds that an almost empty kernel takes in a CUDA graph, the best of TRIES.

    Replays a graph of TINY_KERNELS additions to one number, each of which depends on the previous one.
    """
    number = torch.zeros(1, device=device)
    side = torch.cuda.Stream(device)
    with torch.cuda.stream(side):  # a warm-up on a separate stream is required before capture
        number.add_(1)
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(TINY_KERNELS):
            number.add_(1)
    return _fastest(graph.replay, device) / TINY_KERNELS


def _fastest(step: Callable[[], object], device: torch.device, steps_per_wait: int = 1) -> float:
    """Return the seconds of a step, the best of TRIES."""
    wait = partial(synchronise, device)
    tries = [timed(step, SECONDS[device.type], wait, steps_per_wait) for _ in range(TRIES)]
    return min(found.seconds / found.steps for found in tries)


def kernels_of(step: Callable[[], object], device: torch.device) -> float:
    """Count the kernels of a step on a GPU with torch.profiler, including replayed graphs, without copies and memsets.

    Returns the median of PROFILED_STEPS steps, since a step occasionally also draws a new schedule.
    """
    counts = []
    for _ in range(PROFILED_STEPS):
        synchronise(device)
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            step()
            synchronise(device)
        names = [event.name.lower() for event in profiled.events() if event.device_type.name == "CUDA"]
        counts.append(sum(not name.startswith(("memcpy", "memset")) for name in names))
    return float(statistics.median(counts))
