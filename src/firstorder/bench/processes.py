"""The processes that are timed: each takes the first step of one workload with one engine, then answers requests.

They are spawned, not forked. Each imports only what it needs, so its peak memory and the time to its first
step are those of a training.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Literal

import torch

from firstorder.bench import allocator, authors, machine, timing
from firstorder.bench.authors import AuthorsCode
from firstorder.bench.contenders import Case, make_case, pool_size
from firstorder.bench.workloads import Workload
from firstorder.engines.choice import UnsuitedError
from firstorder.errors import UserError
from firstorder.settings.engines import AUTHORS, JAX, NATIVE

INPUT_SECONDS = 0.2
WAIT_SECONDS = 0.05  # on a GPU, between two synchronisations
SCALING_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process runs."""

    workload: Workload
    engine: str
    device: str
    threads: int
    authors: AuthorsCode | None = None  # of engine AUTHORS


@dataclass(frozen=True)
class Start:
    """The first message of a process: seconds to its first step, or the reason why it cannot take one."""

    first_step_seconds: float = 0.0
    absent: str | None = None


class Worker:
    """A process that has taken the first step of its job and answers requests, or `absent`: why it cannot."""

    def __init__(self, job: Job) -> None:
        self.name = f"{job.workload.title} with {job.engine}"
        self.absent: str | None = None
        self.first_step_seconds = 0.0
        self.connection, theirs = multiprocessing.Pipe()
        with theirs:
            self.start(job, theirs)

    def start(self, job: Job, theirs: Connection) -> None:
        """Start the process, which answers at the end `theirs` of the connection."""
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=serve, args=(theirs, job, time.monotonic()), daemon=True)
        self.process.start()

    def exit_code(self) -> int | None:
        """Wait for the end of the process; return its exit code."""
        self.process.join()
        return self.process.exitcode

    def wait_until_ready(self) -> None:
        """Wait for the first step, or for the reason why there is none."""
        start: Start = self.answer()
        self.absent, self.first_step_seconds = start.absent, start.first_step_seconds

    def ask(self, request: str, *values: Any) -> None:
        """Send a request: the name of a method of Server, and its arguments."""
        self.connection.send((request, values))

    def answer(self) -> Any:
        """Return the answer to the oldest unanswered request."""
        try:
            return self.connection.recv()
        except EOFError:
            raise UserError(
                f"benchmark of {self.name}: its process ended with exit code {self.exit_code()}; see its messages "
                "above, if any; -9 usually means out of memory; choose other engines with --engines"
            ) from None

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        self.exit_code()


class AuthorsWorker(Worker):
    """A Worker that runs authors_worker.py in another Python."""

    def start(self, job: Job, theirs: Connection) -> None:
        """Start it, unless it is known that it cannot run."""
        self.begun, self.started = time.monotonic(), None
        self.absent = authors.unsuited(job.authors, job.workload)
        if job.device != "cpu":
            self.absent = "runs on a CPU only"
        if self.absent is not None or job.authors is None:
            return
        descriptor = theirs.fileno()
        command = authors.command(job.authors, job.workload, pool_size(job.workload), job.threads, descriptor)
        try:
            self.started = subprocess.Popen(
                command, pass_fds=[descriptor], env=authors.environment(job.threads), stdin=subprocess.DEVNULL
            )
        except OSError as error:
            self.absent = f"{job.authors.python} cannot be run: {error.strerror}"

    def wait_until_ready(self) -> None:
        """Wait for the first step, or for the reason why there is none."""
        if self.absent is None:
            start = self.answer()
            self.absent = start["absent"]
            self.first_step_seconds = start.get("ready", self.begun) - self.begun

    def exit_code(self) -> int | None:
        """Wait for the end of the process; return its exit code."""
        return self.started.wait() if self.started else None


class Server:
    """The part of a worker that runs in the process and answers the requests."""

    def __init__(self, job: Job) -> None:
        self.job, self.device = job, torch.device(job.device)
        self.wait = partial(machine.synchronise, self.device)
        self.case: Case = make_case(job.workload, job.engine, self.device, job.threads)
        self.case.step()
        self.wait()
        self.steps_per_wait = 1
        if job.device == "cuda":
            found = timing.timed(self.case.step, WAIT_SECONDS, self.wait)
            self.steps_per_wait = max(1, int(WAIT_SECONDS * found.steps / found.seconds))

    def measure(self, seconds: float) -> float:
        """Run for at least `seconds`; return outer steps (of all seeds) or tasks per second."""
        found = timing.timed(self.case.step, seconds, self.wait, self.steps_per_wait)
        return self.case.units * found.steps / found.seconds

    def inputs(self) -> dict[str, float]:
        """Time the two parts of a step that prepare its inputs, in seconds per step."""
        parts = {"sampling_seconds": self.case.draw, "gather_seconds": self.case.gather}
        timed = {name: timing.timed(part, INPUT_SECONDS, self.wait) for name, part in parts.items()}
        return {name: float(f"{found.seconds / found.steps:.3g}") for name, found in timed.items()}

    def facts(self) -> dict[str, float]:
        """Return the outer steps or tasks of a call of `step`, and this process's peak memory in MiB.

        On a GPU add the peak of torch's tensors there and the kernels of a call, in which several seeds count once.
        """
        unit = 1 if sys.platform == "darwin" else 2**10  # bytes per unit of ru_maxrss
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        found: dict[str, float] = {"units": self.case.units, "peak_memory_mib": round(peak / 2**20)}
        if self.job.device == "cuda":
            found["peak_device_memory_mib"] = round(torch.cuda.max_memory_allocated(self.device) / 2**20)
            found["kernels"] = machine.kernels_of(self.case.step, self.device)
        return found

    def scaling(self, counts: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
        """Time this workload with more outer steps, tasks in sequence, and lanes; keep the minimum of SCALING_TRIES."""
        points = []
        for axis, numbers in counts.items():
            for number in numbers:
                repeats, workload = _scaled(self.job.workload, axis, number)
                case = make_case(workload, self.job.engine, self.device, self.job.threads)
                # A minimum time of 0 gives exactly `repeats` steps. The first try is a warm-up and is not counted.
                tries = [timing.timed(case.step, 0.0, self.wait, repeats).seconds for _ in range(SCALING_TRIES + 1)]
                points.append({"axis": axis, "count": number, "seconds": float(f"{min(tries[1:]):.4g}")})
        return points

    def limit(self) -> dict[str, Any]:
        """Measure this device's float32 matrix products with this process's threads, GFLOP/s by size.

        On a GPU add its copy bandwidth, GB/s, and the seconds that an empty kernel takes in a CUDA graph.
        """
        found: dict[str, Any] = {"arithmetic": machine.arithmetic(self.device, self.job.threads)}
        if self.job.device == "cuda":
            found["copy_gigabytes_per_second"] = machine.copy_bandwidth(self.device)
            found["launch_seconds"] = machine.launch_gap(self.device)
        return found


def serve(connection: Connection, job: Job, begun: float) -> None:
    """Answer requests until the other end closes. `begun` is the monotonic clock before the process was started.

    Ctrl-C reaches every process of a terminal; the one that asks ends this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(BrokenPipeError, ConnectionResetError):  # the one that asks has ended
        _answer(connection, job, begun)


def _answer(connection: Connection, job: Job, begun: float) -> None:
    if job.engine == JAX and job.threads == 1:
        # JAX reads this when it is imported: use one thread.
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if job.device == "cpu":
        allocator.keep_freed_memory()
    torch.set_num_threads(1 if job.engine == NATIVE else job.threads)  # native has threads of its own
    try:
        server = Server(job)
    except (ImportError, UnsuitedError, NotImplementedError) as error:
        connection.send(Start(absent=" ".join(str(error).split()) or type(error).__name__))
        return
    connection.send(Start(first_step_seconds=time.monotonic() - begun))
    while True:
        try:
            request, values = connection.recv()
        except EOFError:
            return
        connection.send(getattr(server, request)(*values))


@contextmanager
def crew(jobs: Sequence[Job]) -> Iterator[list[Worker]]:
    """Start a process for each job and wait until all have taken their first step; end them on leaving the context."""
    workers = [AuthorsWorker(job) if job.engine == AUTHORS else Worker(job) for job in jobs]
    try:
        for worker in workers:
            worker.wait_until_ready()
        yield workers
    finally:
        for worker in workers:
            worker.close()


def total_rate(workers: Sequence[Worker], seconds: float) -> float:
    """Let all workers run at once for at least `seconds`; return the sum of their rates, units per second."""
    for worker in workers:
        worker.ask("measure", seconds)
    return float(sum(worker.answer() for worker in workers))


def _scaled(workload: Workload, axis: str, count: int) -> tuple[int, Workload]:
    """Return the number of repeats and the workload that amount to `count` outer steps, tasks or lanes."""
    if axis == "outer steps":
        return count, workload
    moments: Literal["carried", "per_lane"] = "per_lane" if axis == "lanes" else "carried"
    settings = replace(workload.settings, meta_batch_size=count, second_moments=moments)
    return 1, replace(workload, settings=settings)
