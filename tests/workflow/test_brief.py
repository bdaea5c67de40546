"""What Snakemake shows while a report is redrawn: a count in a terminal, nothing in a log, and every failure."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from tests.test_progress import Terminal
from tests.workflow.test_workflow import REPOSITORY, built, with_profile  # noqa: F401

PLUGINS = REPOSITORY / "workflow/plugins"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PLUGINS))
    import snakemake_logger_plugin_brief

    return snakemake_logger_plugin_brief


def record(message: str = "", level: int = logging.INFO, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    vars(made).update(more)
    return made


def progress(done: int) -> logging.LogRecord:
    return record(event=LogEvent.PROGRESS, done=done, total=3)


EVENTS = (
    record("Select jobs to execute..."),
    record(event=LogEvent.JOB_INFO, jobid=7, rule_name="train", wildcards={"training": "reptile/glyphs", "seed": "0"}),
    record(event=LogEvent.JOB_INFO, jobid=8, rule_name="pack", wildcards={}),
    record(event=LogEvent.JOB_FINISHED, job_id=8),
    progress(1),
    record("No such file", logging.ERROR),
    record(event=LogEvent.JOB_FINISHED, job_id=7),
    progress(2),
    record(event=LogEvent.JOB_ERROR, level=logging.ERROR, jobid=9, rule_name="evaluate", log=["logs/a.log"]),
    progress(3),
)
FAILED = "failed: evaluate; see logs/a.log"


def shown(module: Any, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *, refresh: bool) -> str:
    """Return what is written of EVENTS."""
    monkeypatch.setattr(sys, "stderr", stream)
    handler = module.LogHandler(common_settings=None, settings=module.LogHandlerSettings(refresh=refresh))
    for event in EVENTS:
        handler.emit(event)
    return stream.getvalue()


def test_a_terminal_shows_a_count_that_is_refreshed_and_failures_on_lines_of_their_own(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear = "\r\x1b[K"
    assert shown(module, monkeypatch, Terminal(), refresh=True) == (
        f"{clear}1 of 3 jobs done{clear}No such file\n{clear}2 of 3 jobs done{clear}{FAILED}\n{clear}"
    )


def test_a_log_of_jobs_that_print_nothing_has_the_failures_alone(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(module, monkeypatch, io.StringIO(), refresh=True) == f"No such file\n{FAILED}\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_line_names_each_job_that_ends(
    module: Any, monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]
) -> None:
    assert shown(module, monkeypatch, stream(), refresh=False).splitlines() == [
        "1 of 3 jobs done: pack",
        "No such file",
        "2 of 3 jobs done: train reptile/glyphs 0",
        FAILED,
        "3 of 3 jobs done: train reptile/glyphs 0",
    ]


def test_snakemake_finds_it_and_says_what_fails(built: Any) -> None:  # noqa: F811
    path = f"{REPOSITORY / 'src'}:{PLUGINS}"
    drawn = (
        "report",
        "--logger",
        "brief",
        "--logger-brief-refresh",
        "--config",
        "records=existing",
        "--forcerun",
        "page",
        "--cores",
        "1",
    )
    answer = with_profile(built, "default", *drawn, PYTHONPATH=path)
    assert answer.returncode == 0, answer.stderr
    assert [line for line in answer.stderr.splitlines() if "workflow specific profile" not in line] == []
    answer = with_profile(built, "default", "no-such-target", "--logger", "brief", "--cores", "1", PYTHONPATH=path)
    assert answer.returncode != 0
    assert "no-such-target" in answer.stderr
