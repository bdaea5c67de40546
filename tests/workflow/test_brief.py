"""What Snakemake shows while a report is redrawn: a count in a terminal, nothing in a log, and every failure."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from tests.workflow.test_workflow import REPOSITORY, built, with_profile  # noqa: F401

PLUGINS = REPOSITORY / "workflow/plugins"


class Terminal(io.StringIO):
    """A standard error that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PLUGINS))
    import snakemake_logger_plugin_brief as module

    return module.LogHandler(common_settings=None, settings=None)


def record(message: str = "", level: int = logging.INFO, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    vars(made).update(more)
    return made


def progress(done: int) -> logging.LogRecord:
    return record(event=LogEvent.PROGRESS, done=done, total=3)


EVENTS = (
    record("Select jobs to execute..."),
    progress(1),
    record("No such file", logging.ERROR),
    progress(2),
    progress(3),
)


def test_a_terminal_shows_a_count_that_is_refreshed_and_failures_on_lines_of_their_own(
    handler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    for event in EVENTS:
        handler.emit(event)
    clear = "\r\x1b[K"
    assert sys.stderr.getvalue() == (f"{clear}1 of 3 jobs done{clear}No such file\n{clear}2 of 3 jobs done{clear}")


def test_a_log_has_the_failures_alone(handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for event in (*EVENTS, record("Nothing to be done (all files are there).")):
        handler.emit(event)
    assert sys.stderr.getvalue() == "No such file\nNothing to be done (all files are there).\n"


def test_snakemake_finds_it_and_says_what_fails(built: Any) -> None:  # noqa: F811
    path = f"{REPOSITORY / 'src'}:{PLUGINS}"
    drawn = ("report", "--logger", "brief", "--config", "records=existing", "--forcerun", "page", "--cores", "1")
    answer = with_profile(built, "default", *drawn, PYTHONPATH=path)
    assert answer.returncode == 0, answer.stderr
    assert [line for line in answer.stderr.splitlines() if "workflow specific profile" not in line] == []
    answer = with_profile(built, "default", "no-such-target", "--logger", "brief", "--cores", "1", PYTHONPATH=path)
    assert answer.returncode != 0
    assert "no-such-target" in answer.stderr
