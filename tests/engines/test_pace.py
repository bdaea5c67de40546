"""How many threads compute one lane, by simulated times."""

from __future__ import annotations

from collections import Counter

import pytest

from firstorder.engines.native.pace import LOSS, MOST_CALLS, MOST_SECONDS, Pace


def calls(pace: Pace, seconds: dict[int, float], count: int) -> Counter[int]:
    """Make calls that take `seconds` by the number of threads; return how often each number was chosen."""
    chosen: Counter[int] = Counter()
    for _ in range(count):
        threads = pace.threads()
        pace.note(threads, seconds[threads])
        chosen[threads] += 1
    return chosen


def test_on_idle_cores_nearly_all_calls_use_all_threads() -> None:
    chosen = calls(Pace(4), {4: 1.0, 1: 3.0}, 10_000)
    assert chosen[4] > 9_970


def test_where_threads_wait_for_a_core_one_computes_alone_and_little_is_lost() -> None:
    busy = {4: 7.0, 1: 1.0}
    chosen = calls(Pace(4), busy, 10_000)
    assert sum(busy[threads] * count for threads, count in chosen.items()) < 1.03 * 10_000


def test_a_change_of_load_is_noticed_both_ways() -> None:
    pace, idle, busy = Pace(2), {2: 1.0, 1: 1.6}, {2: 9.0, 1: 1.6}
    calls(pace, idle, 1_000)
    assert calls(pace, busy, 100)[1] > 90
    calls(pace, idle, MOST_CALLS)
    assert calls(pace, idle, 100)[2] > 90


@pytest.mark.parametrize("idle", [{2: 0.1, 1: 0.2}, {2: 1.0, 1: 1.6}, {2: 15.0, 1: 25.0}])
def test_where_calls_are_long_little_is_lost_and_a_change_is_noticed_in_time(idle: dict[int, float]) -> None:
    """A thousand calls would last minutes or hours."""
    pace, busy = Pace(2), {1: idle[1], 2: 5 * idle[2]}
    longest = max(MOST_SECONDS, (busy[2] - busy[1]) / LOSS)  # until a try
    for load in (idle, busy, idle):
        faster = min(load, key=lambda threads: load[threads])
        slower = 3 - faster
        calls(pace, load, 2 + int(longest / load[slower]))
        lost = calls(pace, load, 2_000)[slower] * (load[slower] - load[faster])
        assert lost < 0.011 * 2_000 * load[faster]


def test_a_single_thread_has_no_choice() -> None:
    assert set(calls(Pace(1), {1: 1.0}, 100)) == {1}
