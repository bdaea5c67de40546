"""How many threads compute one lane, by simulated times."""

from __future__ import annotations

from collections import Counter

from firstorder.engines.native.pace import MOST_CALLS, MOST_SECONDS, Pace


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


def test_where_calls_are_long_a_change_of_load_is_noticed_within_seconds() -> None:
    now = 0.0
    pace = Pace(2, lambda: now)
    for load in ({2: 9.0, 1: 1.6}, {2: 1.0, 1: 1.6}):
        begun, chosen = now, []
        while now < begun + 2 * MOST_SECONDS:
            chosen.append(pace.threads())
            now += load[chosen[-1]]
            pace.note(chosen[-1], load[chosen[-1]])
        assert chosen[-1] == min(load, key=lambda threads: load[threads])


def test_a_single_thread_has_no_choice() -> None:
    assert set(calls(Pace(1), {1: 1.0}, 100)) == {1}
