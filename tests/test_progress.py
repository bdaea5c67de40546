"""Progress: the lines in a log, and the bar in a terminal."""

from __future__ import annotations

import io
import re
import types

import pytest

from firstorder import progress


class Clock:
    """A clock that advances only when the test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: self.now))


class Terminal(io.StringIO):
    """A standard error that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_line_gives_what_is_done_the_rate_the_time_left_and_the_status(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """5,000 of 20,000 in 100 s: 50 a second, so 15,000 more take 300 s."""
    with progress.shown("reptile seed 0", 20_000, "outer steps") as bar:
        clock.now += 100
        bar.advance(5000, "97.5 %")
        lines = capsys.readouterr().err.splitlines()
    assert lines == ["reptile seed 0: 5,000/20,000 outer steps (25 %), 50.0 outer steps/s, 0:05:00 left, 97.5 %"]


def test_the_rate_of_a_download_is_in_megabytes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown("images.zip", 9_464_212, "bytes") as bar:
        clock.now += 2
        bar.advance(9_464_212)
    assert capsys.readouterr().err == "images.zip: 9,464,212/9,464,212 bytes (100 %), 4.7 MB/s, 0:00:00 left\n"


def test_work_done_before_counts_as_done_but_not_in_the_rate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Resumed at 8,000 of 10,000; 1,000 more in 50 s are 20 a second, so the last 1,000 take 50 s."""
    with progress.shown("reptile seed 0", 10_000, "outer steps", 8000) as bar:
        clock.now += 50
        bar.advance(1000)
        line = capsys.readouterr().err
    assert line == "reptile seed 0: 9,000/10,000 outer steps (90 %), 20.0 outer steps/s, 0:00:50 left\n"


def test_lines_come_every_fifteen_seconds_and_one_at_the_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown("evaluate", 60, "tasks") as bar:
        for _ in range(60):
            clock.now += 1
            bar.advance()
    done = [int(found) for found in re.findall(r"evaluate: (\d+)/60 tasks", capsys.readouterr().err)]
    assert done == [15, 30, 45, 60, 60]


def test_the_last_status_stays_until_the_next(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown("evaluate", 3, "tasks") as bar:
        bar.advance(1, "50 %")
        bar.advance(1)
        clock.now += 20
        bar.advance(1)
    assert all(line.endswith("left, 50 %") for line in capsys.readouterr().err.splitlines())


def test_a_long_time_left_is_given_in_hours(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """One of 101 in 90 s: 100 more take 9,000 s."""
    with progress.shown("train", 101, "outer steps") as bar:
        clock.now += 90
        bar.advance()
        assert "2:30:00 left" in capsys.readouterr().err


def test_nothing_done_is_no_error(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown("reptile", 10, "outer steps"):
        pass
    assert capsys.readouterr().err == "reptile: 0/10 outer steps (0 %), 0.0 outer steps/s, ? left\n"


def test_work_that_fails_prints_no_last_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), progress.shown("train", 10, "outer steps"):
        raise ValueError("broken")
    assert capsys.readouterr().err == ""


def test_silent_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with progress.silent("train", 10, "outer steps", 2) as bar:
        bar.advance()
        bar.advance(7, "status")
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_with_the_same_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without control characters, the last state of the bar has the work, count, unit, rate and status."""
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.shown("reptile seed 0", 3000, "outer steps", 1000) as bar:
        bar.advance(1500, "97.5 %")
        bar.advance(500)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    last = [line for line in re.split(r"[\r\n]", text) if line.strip()][-1]
    assert "reptile seed 0" in last
    assert "3,000/3,000 outer steps" in last
    assert "outer steps/s" in last
    assert "97.5 %" in last


def test_names_with_brackets_reach_the_terminal_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library of the bar interprets [/word] as markup, which names and status must not be."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.shown("images [/tmp/a]", 1, "images") as bar:
        bar.advance(1, "[bold]")
    assert "images [/tmp/a]" in terminal.getvalue()
    assert "[bold]" in terminal.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_no_work_is_not_shown(stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of 0 outer steps, which is random initialisation."""
    monkeypatch.setattr("sys.stderr", shown := stream())
    with progress.shown("untrained seed 0", 0, "outer steps"):
        pass
    assert shown.getvalue() == ""
