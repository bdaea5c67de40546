"""A training that was killed and suspended in one clone is gone on with by Snakemake in another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstorder.__main__ import main
from tests.cli.test_suspend import (
    CARRIED,
    COUNTS,
    CURVE,
    EVALUATE,
    MODEL,
    RECORD,
    STATE,
    TRAIN,
    cloned,
    killed,
    repository,
    same_results,
    suspended,
)
from tests.workflow.test_workflow import snakemake

__all__ = ["repository"]  # a fixture
FOUND = {"train": f"goes on from {STATE}: 3 of 6\n", "evaluate": f"goes on from {COUNTS}: 10 of 12 tasks\n"}


@pytest.mark.parametrize("verb", FOUND)
def test_snakemake_goes_on_from_what_git_brings(
    repository: Path,
    computed_once: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
) -> None:
    if verb == "evaluate":
        assert main(TRAIN) == 0
        killed(*EVALUATE)
    else:
        killed(*TRAIN)
    suspended(capsys)
    root = cloned(repository, monkeypatch)
    done = snakemake(root, RECORD)
    assert done.returncode == 0, done.stderr
    log = next((root / "logs" / verb).rglob("seed-0.log")).read_text(encoding="utf-8")
    assert FOUND[verb] in log
    same_results(root, computed_once, CURVE, RECORD, RECORD.replace("inductive", "transductive"))
    assert (root / MODEL).read_bytes() == (computed_once / MODEL).read_bytes()
    # What is finished is no longer in unfinished/.
    assert not any((root / name).exists() for name in (STATE, COUNTS, CARRIED))
