"""Processes that are timed: each takes the first step of one workload with one engine, then answers requests.

A newcomer would get wrong: they are spawned, not forked, so that each imports what it needs and nothing else, and its
peak memory and the time to its first step are those of a training that starts.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Literal

import torch

from firstorder.bench import allocator, machine, timing
from firstorder.bench.contenders import JAX, Case, UnsuitedError, make_case
from firstorder.bench.workloads import Workload
from firstorder.errors import UserError

INPUT_SECONDS = 0.2
BLOCK_SECONDS = 0.05  # on a GPU, between two waits for it
SCALING_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process is for."""

    workload: Workload
    engine: str
    device: str
    threads: int


class Worker:
    """A process that has taken the first step of its job and answers requests; `absent` says why it cannot."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = f"{job.workload.title} with {job.engine}"
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, job, time.monotonic()), daemon=True)
        self.process.start()
        theirs.close()
        self.absent: str | None = None
        self.first_step_seconds = 0.0

    def wait_until_ready(self) -> None:
        """Wait for the first step, or for the reason that there is none."""
        self.absent, self.first_step_seconds = self.answer()

    def ask(self, request: str, *values: Any) -> None:
        """Send a request: the name of a method of Server, and what it takes."""
        self.connection.send((request, values))

    def answer(self) -> Any:
        """Return the answer to the oldest request without one."""
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            raise UserError(
                f"benchmark of {self.name}: its process ended with exit code {self.process.exitcode}, its own words "
                "are above if it had any; -9 is a lack of memory; leave the engine out with --engines"
            ) from None

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join()


class Server:
    """The inside of a worker: answers its requests."""

    def __init__(self, job: Job) -> None:
        self.job, self.device = job, torch.device(job.device)
        self.wait = partial(machine.synchronise, self.device)
        self.case: Case = make_case(job.workload, job.engine, self.device)
        self.case.step()
        self.wait()
        self.block = 1
        if job.device == "cuda":
            done, taken = timing.timed(self.case.step, BLOCK_SECONDS, self.wait)
            self.block = max(1, int(BLOCK_SECONDS * done / taken))

    def measure(self, seconds: float) -> float:
        """Run for at least `seconds`; return outer steps (of all runs) or tasks a second."""
        done, taken = timing.timed(self.case.step, seconds, self.wait, self.block)
        return self.case.units * done / taken

    def inputs(self) -> dict[str, float]:
        """Time the two parts of a step that are not arithmetic, in seconds a step."""
        parts = {"sampling_seconds": self.case.draw, "gather_seconds": self.case.gather}
        timed = {name: timing.timed(part, INPUT_SECONDS, self.wait) for name, part in parts.items()}
        return {name: float(f"{taken / done:.3g}") for name, (done, taken) in timed.items()}

    def memory(self) -> dict[str, float]:
        """Return the most memory this process ever had, in MiB; on a GPU also that of torch's tensors there."""
        unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss
        found: dict[str, float] = {
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)
        }
        if self.job.device == "cuda":
            found["peak_device_memory_mib"] = round(torch.cuda.max_memory_allocated(self.device) / 2**20)
        return found

    def kernels(self) -> float:
        """Count the kernels of a step on a GPU, all that it makes at once together."""
        return machine.kernels_of(self.case.step, self.device)

    def units(self) -> int:
        """Return how many outer steps or tasks one step makes."""
        return self.case.units

    def scaling(self, counts: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
        """Time this workload with more outer steps, tasks in sequence, and lanes: the least of SCALING_TRIES."""
        points = []
        for axis, numbers in counts.items():
            for number in numbers:
                repeats, workload = _scaled(self.job.workload, axis, number)
                case = make_case(workload, self.job.engine, self.device)
                # With no least time, one block is all that is run; the first, which warms up, does not count.
                runs = [timing.timed(case.step, 0.0, self.wait, repeats)[1] for _ in range(SCALING_TRIES + 1)]
                points.append({"axis": axis, "count": number, "seconds": float(f"{min(runs[1:]):.4g}")})
        return points

    def limit(self) -> dict[str, float]:
        """Measure this device's float32 matrix products with this process's threads, GFLOP/s by size."""
        return machine.arithmetic(self.device, self.job.threads)

    def gpu(self) -> dict[str, float]:
        """Measure this GPU's copies, GB/s, and the seconds of an idle kernel in a CUDA graph."""
        return {
            "copy_gigabytes_per_second": machine.copy_bandwidth(self.device),
            "launch_seconds": machine.launch_gap(self.device),
        }


def serve(connection: Connection, job: Job, begun: float) -> None:
    """Answer requests until the other end closes. `begun` is the monotonic clock when the process was started."""
    if job.engine == JAX and job.threads == 1:
        # Read when JAX starts: one thread for all it does.
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if job.device == "cpu":
        allocator.keep_freed_memory()
    torch.set_num_threads(job.threads)
    try:
        server = Server(job)
    except (ImportError, UnsuitedError, NotImplementedError) as error:
        connection.send((" ".join(str(error).split()) or type(error).__name__, 0.0))
        return
    connection.send((None, time.monotonic() - begun))
    while True:
        try:
            request, values = connection.recv()
        except EOFError:
            return
        connection.send(getattr(server, request)(*values))


@contextmanager
def crew(jobs: Sequence[Job]) -> Iterator[list[Worker]]:
    """Start a process for each job, wait until all have taken their first step, and end them after the block."""
    workers = [Worker(job) for job in jobs]
    try:
        for worker in workers:
            worker.wait_until_ready()
        yield workers
    finally:
        for worker in workers:
            worker.close()


def total_rate(workers: Sequence[Worker], seconds: float) -> float:
    """Let all workers run at once for at least `seconds`; return the sum of their rates, steps a second."""
    for worker in workers:
        worker.ask("measure", seconds)
    return float(sum(worker.answer() for worker in workers))


def _scaled(workload: Workload, axis: str, count: int) -> tuple[int, Workload]:
    """Return how often to run which workload so that `count` outer steps, tasks or lanes are done."""
    if axis == "outer steps":
        return count, workload
    moments: Literal["carried", "per_lane"] = "per_lane" if axis == "lanes" else "carried"
    settings = replace(workload.settings, meta_batch_size=count, second_moments=moments)
    return 1, replace(workload, settings=settings)
