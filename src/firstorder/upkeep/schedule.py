"""When everything would be done: jobs on a number of cores and GPUs, each started as soon as there is room for it.

Jobs start in the order in which they are listed, which is that of params.yaml. Snakemake chooses among those that are
ready in its own way, so that its order may be another.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Job:
    """One process: how long it takes, its cores, whether it has a GPU to itself, and what must be done before."""

    name: str
    group: str
    seconds: float
    cores: int = 1
    on_gpu: bool = False
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Room:
    """How many cores and GPUs there are."""

    cores: int
    gpus: int = 0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The outcome: seconds until the last job ends, the longest chain of jobs, and seconds of cores and GPUs in use."""

    wall_seconds: float
    critical_path: tuple[Job, ...]
    core_seconds: float
    gpu_seconds: float

    @property
    def critical_seconds(self) -> float:
        """Seconds of the longest chain: with any number of cores and GPUs it does not take less."""
        return sum(job.seconds for job in self.critical_path)


def schedule(jobs: Sequence[Job], room: Room) -> Schedule:
    """Let jobs run in their order, each when what it needs is done and there is room for it.

    A job whose needs are not among the jobs waits for none. One that wants more than there is gets all of it.
    """
    return Schedule(
        wall_seconds=_wall(jobs, room),
        critical_path=_longest(jobs),
        core_seconds=sum(job.seconds * min(job.cores, room.cores) for job in jobs if not job.on_gpu),
        gpu_seconds=sum(job.seconds for job in jobs if job.on_gpu),
    )


def _wall(jobs: Sequence[Job], room: Room) -> float:
    """Return the seconds until the last job ends."""
    names = {job.name for job in jobs}
    waiting = {job.name: sum(need in names for need in job.after) for job in jobs}
    then: dict[str, list[Job]] = {}
    for job in jobs:
        for need in job.after:
            then.setdefault(need, []).append(job)
    ready = {True: deque[Job](), False: deque[Job]()}
    free = {True: max(room.gpus, 1), False: max(room.cores, 1)}
    whole = dict(free)
    for job in jobs:
        if not waiting[job.name]:
            ready[job.on_gpu].append(job)
    running: list[tuple[float, int, Job]] = []
    now, count = 0.0, 0
    while running or any(ready.values()):
        for kind, queue in ready.items():
            while queue and (want := _wanted(queue[0], whole[kind])) <= free[kind]:
                free[kind] -= want
                job = queue.popleft()
                count += 1
                heapq.heappush(running, (now + job.seconds, count, job))
        now, _, job = heapq.heappop(running)
        free[job.on_gpu] += _wanted(job, whole[job.on_gpu])
        for next_job in then.get(job.name, ()):
            waiting[next_job.name] -= 1
            if not waiting[next_job.name]:
                ready[next_job.on_gpu].append(next_job)
    return now


def _wanted(job: Job, whole: int) -> int:
    return 1 if job.on_gpu else min(job.cores, whole)


def _longest(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the chain of jobs, each after the one before, that takes longest."""
    known: Mapping[str, Job] = {job.name: job for job in jobs}
    ends: dict[str, tuple[float, tuple[Job, ...]]] = {}

    def end(job: Job) -> tuple[float, tuple[Job, ...]]:
        if job.name not in ends:
            before = max((end(known[need]) for need in job.after if need in known), default=(0.0, ()), key=_seconds)
            ends[job.name] = before[0] + job.seconds, (*before[1], job)
        return ends[job.name]

    return max((end(job) for job in jobs), default=(0.0, ()), key=_seconds)[1]


def _seconds(found: tuple[float, tuple[Job, ...]]) -> float:
    return found[0]
