"""Jobs share cores and GPUs: worked by hand."""

from __future__ import annotations

import pytest

from firstorder.upkeep.schedule import Job, Room, schedule


def job(name: str, seconds: float, *after: str, **others: object) -> Job:
    return Job(name=name, group="", seconds=seconds, after=after, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(("cores", "wall"), [(1, 12.0), (2, 7.0), (3, 5.0), (99, 5.0)])
def test_jobs_start_as_soon_as_there_is_room(cores: int, wall: float) -> None:
    """With two cores: 5 and 4 begin, 2 follows the 4, and 1, which needs it, ends at 4 + 2 + 1 = 7."""
    found = schedule([job("a", 5), job("b", 4), job("c", 2), job("d", 1, "c")], Room(cores))
    assert found.wall_seconds == wall
    assert found.core_seconds == 12


def test_the_critical_path_is_the_longest_chain() -> None:
    found = schedule([job("a", 5), job("b", 2), job("c", 2, "b"), job("d", 2, "c", "a")], Room(1))
    assert [one.name for one in found.critical_path] == ["a", "d"]
    assert found.critical_seconds == 7


def test_what_is_needed_but_not_to_do_is_not_waited_for() -> None:
    assert schedule([job("a", 3, "done before")], Room(1)).wall_seconds == 3


def test_a_job_that_wants_more_cores_than_there_are_gets_all() -> None:
    found = schedule([job("a", 3, cores=8), job("b", 1)], Room(4))
    assert found.wall_seconds == 4
    assert found.core_seconds == 13


def test_jobs_on_gpus_and_on_cores_go_on_beside_each_other() -> None:
    jobs = [job(name, 10, on_gpu=True) for name in "abc"] + [job("d", 15)]
    found = schedule(jobs, Room(cores=1, gpus=2))
    assert found.wall_seconds == 20
    assert (found.gpu_seconds, found.core_seconds) == (30, 15)


def test_nothing_takes_no_time() -> None:
    found = schedule([], Room(1))
    assert (found.wall_seconds, found.critical_path) == (0.0, ())


def test_ten_thousand_jobs_are_scheduled_in_seconds() -> None:
    jobs = [job(f"t{number}", 1) for number in range(5000)]
    jobs += [job(f"e{number}", 1, f"t{number}") for number in range(5000)]
    assert schedule(jobs, Room(10)).wall_seconds == 1000
