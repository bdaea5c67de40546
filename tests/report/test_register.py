"""The register of claims: made from history, and what a claim says was known is held to the dates."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from firstorder.errors import UserError
from firstorder.records.cells import write_record, write_run
from firstorder.report.claims import claim_tables, declared, register
from firstorder.report.claims.paper import CLAIMS, Paper
from firstorder.report.claims.register import REGISTER, Fixed, Made
from firstorder.report.claims.verdicts import judge
from firstorder.settings import CURVE, RECORD, Project, checks
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import ONE_SHOT, TRAINING, changed_params, make_project, make_record

REPOSITORY = PUBLISHED.parents[1]
TOOL = REPOSITORY / "tools/register_claims.py"
VALUE = f"value/{ONE_SHOT}/inductive"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MADE = Made(began=NOON - HOUR, ended=NOON)


def fixed(at: datetime) -> Fixed:
    return Fixed("0" * 16, "abc", at)


@pytest.mark.parametrize(
    ("known", "at", "refused"),
    [
        ("nothing", NOON - 2 * HOUR, None),
        ("nothing", NOON - HOUR, "says that nothing was known of seed 0, but its rule is fixed on 2026-01-01 11:00"),
        ("nothing", NOON - HOUR / 2, "the computation began on 2026-01-01 11:00"),
        ("result of seed 1", NOON - HOUR / 2, "nothing was known of seed 0"),  # another seed
        ("curve of seed 0", NOON - HOUR / 2, None),
        ("curve of seed 0", NOON + HOUR, "only a curve was known of seed 0, .* ended on 2026-01-01 12:00"),
        ("result of seed 0", NOON + HOUR, None),
        ("result", NOON + HOUR, None),
        ("nothing", None, "its rule is in no commit yet"),
        ("curve", None, "its rule is in no commit yet"),
        ("result", None, None),
    ],
)
def test_a_claim_may_not_say_that_less_was_known_than_the_dates_allow(
    known: str, at: datetime | None, refused: str | None
) -> None:
    read = declared.read_known(known, "a place")
    found = register.contradiction(read, 0, MADE, None if at is None else fixed(at))
    if refused is None:
        assert found is None
    else:
        assert found is not None
        with pytest.raises(UserError, match=refused):
            raise UserError(found)


def test_a_result_of_which_a_part_is_missing_was_not_known() -> None:
    part = Made(began=NOON - HOUR, ended=None)
    assert register.contradiction(declared.read_known("curve", ""), None, part, fixed(NOON + HOUR)) is None


# --- Against records


def study(root: Path, known: str, **committed: str) -> Project:
    """Make a full-length folder with one claim of its own, and a register that fixed it at a date, if one is given."""
    project = make_project(root, changed_params(length="full", sine=None))
    values = yaml.safe_load(PUBLISHED.with_name(CLAIMS).read_text(encoding="utf-8"))
    claim = values["claims"][VALUE] | {"known": known}
    (root / CLAIMS).write_text(
        yaml.safe_dump({"delta_points": values["delta_points"], "claims": {VALUE: claim}}), encoding="utf-8"
    )
    paper = Paper.of(root, PUBLISHED)
    if committed:
        rule = register.rules(paper.claims, paper.lines["accuracy"].to_dict())[VALUE]
        lines = [f"{VALUE},{committed.get('rule', rule)},abc,{committed['at']}"]
        (root / REGISTER).write_text("\n".join([",".join(register.COLUMNS), *lines]) + "\n", encoding="utf-8")
    return project


def store(root: Path, project: Project, ended: str, seconds: float) -> None:
    """Write a record of seed 0 and the run files of its training and evaluation."""
    record = make_record(project, ONE_SHOT, "inductive", 0, [0, 0, 0, 0, 25, 75])
    write_record(root, record, {"ended": ended, "seconds": 60.0})
    curve = root / CURVE.format(training=TRAINING, seed=0)
    curve.parent.mkdir(parents=True, exist_ok=True)
    curve.write_text("outer_step\n", encoding="utf-8")
    write_run(curve, {"ended": ended, "seconds": seconds})


def test_the_start_of_the_training_counts_and_not_that_of_the_evaluation(tmp_path: Path) -> None:
    """The evaluation took a minute before noon, the training three hours: a claim of ten o'clock came too late."""
    project = study(tmp_path, "nothing", at="2026-01-01T10:00:00+00:00")
    store(tmp_path, project, "2026-01-01T12:00:00Z", 3 * 3600)
    with pytest.raises(UserError, match=r"claims\.yaml: value/.*began on 2026-01-01 09:00; say what was known"):
        claim_tables.write(tmp_path, project, PUBLISHED)
    study(tmp_path, "curve of seed 0", at="2026-01-01T10:00:00+00:00")
    claim_tables.write(tmp_path, project, PUBLISHED)


@pytest.mark.parametrize(
    ("known", "committed", "is_refused"),
    [
        ("nothing", {}, True),  # in no commit: fixed just now
        ("nothing", {"at": "2026-01-01T08:00:00+00:00"}, False),
        ("nothing", {"at": "2026-01-01T08:00:00+00:00", "rule": "f" * 16}, True),  # another rule was fixed then
        ("nothing", {"at": "2026-01-01T10:30:00+02:00"}, False),  # 8:30 UTC
        ("result of seed 0", {}, False),
    ],
)
def test_the_register_decides_when_a_rule_was_fixed(
    tmp_path: Path, known: str, committed: dict[str, str], is_refused: bool
) -> None:
    project = study(tmp_path, known, **committed)
    store(tmp_path, project, "2026-01-01T12:00:00Z", 3 * 3600)
    if is_refused:
        with pytest.raises(UserError, match="says that nothing was known of seed 0"):
            claim_tables.write(tmp_path, project, PUBLISHED)
    else:
        claim_tables.write(tmp_path, project, PUBLISHED)


def test_a_seed_without_a_record_may_be_claimed_in_advance(tmp_path: Path) -> None:
    project = study(tmp_path, "nothing")
    claim_tables.write(tmp_path, project, PUBLISHED)


def test_a_study_is_judged_by_its_own_claims_alone(tmp_path: Path) -> None:
    project = study(tmp_path, "nothing")
    assert list(judge([], project, Paper.of(tmp_path, PUBLISHED))["id"]) == [VALUE]


def test_a_damaged_register_is_refused(tmp_path: Path) -> None:
    project = study(tmp_path, "nothing", at="yesterday")
    with pytest.raises(UserError, match=r"registered\.csv: expected dates under committed.*make it again: make regi"):
        claim_tables.write(tmp_path, project, PUBLISHED)


def test_words_are_no_part_of_a_rule_and_margins_are(tmp_path: Path) -> None:
    study(tmp_path, "nothing")
    accuracies = Paper(PUBLISHED).lines["accuracy"].to_dict()

    def rule(**changes: Any) -> str:
        values = yaml.safe_load((tmp_path / CLAIMS).read_text(encoding="utf-8"))
        values |= {name: value for name, value in changes.items() if name in values}
        values["claims"][VALUE] |= {name: value for name, value in changes.items() if name not in values}
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return register.rules(Paper(PUBLISHED, path).claims, accuracies)[VALUE]

    assert rule(sentence="In other words.", origin="ours", known="result", counted="apart") == rule()
    assert rule(delta_points={"omniglot": 1.00, "mini-imagenet": 9}) == rule()
    assert rule(delta_points={"omniglot": 1.01, "mini-imagenet": 1.5}) != rule()


# --- From history


def git(root: Path, *arguments: str, **dates: str) -> str:
    identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **identity, **{f"GIT_COMMITTER_{key.upper()}": value for key, value in dates.items()}}
    return subprocess.run(
        ["git", *arguments], cwd=root, env=environment, check=True, capture_output=True, text=True
    ).stdout


def registered(root: Path) -> dict[str, Fixed]:
    subprocess.run([sys.executable, TOOL], cwd=root, check=True, capture_output=True)
    return register.read(root / "paper" / REGISTER)


def test_a_claim_is_fixed_by_the_commit_since_which_its_rule_has_stood(tmp_path: Path) -> None:
    """Commits at 1, 2, 3, 4 o'clock: two claims; one reworded; one with another margin; that margin taken back."""
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/published.csv").write_bytes(PUBLISHED.read_bytes())
    path = tmp_path / "paper" / CLAIMS
    git(tmp_path, "init", "--quiet")
    declared_now = {"origin": "ours", "known": "nothing", "sentence": "So it is.", "measure": "maml-loss"}
    claims = {name: declared_now | {"relation": "below", "bound": 0.1} for name in ("a", "b")}
    del claims["a"]["origin"], claims["a"]["known"]  # earlier files have neither

    def commit(hour: int) -> None:
        path.write_text(yaml.safe_dump({"delta_points": {}, "simulations": claims}), encoding="utf-8")
        git(tmp_path, "add", "--all")
        git(tmp_path, "commit", "--quiet", "--message", "x", date=f"2026-01-01T0{hour}:00:00+00:00")

    commit(1)
    claims["a"] |= {"origin": "ours", "known": "nothing", "sentence": "In other words."}
    commit(2)
    claims["b"]["bound"] = 0.2
    commit(3)
    found = registered(tmp_path)
    assert {name: entry.committed.hour for name, entry in found.items()} == {"a": 1, "b": 3}
    assert git(tmp_path, "rev-parse", "HEAD").startswith(found["b"].commit)
    claims["b"]["bound"] = 0.1  # as at first, but it has not stood since
    commit(4)
    assert {name: entry.committed.hour for name, entry in registered(tmp_path).items()} == {"a": 1, "b": 4}


def history() -> bool:
    """Say whether the repository's whole history is here."""
    shallow = subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return shallow.stdout.strip() == "false"


needs_history = pytest.mark.skipif(not history(), reason="needs a clone with its history")


@needs_history
def test_the_registers_of_the_repository_are_as_its_history_has_them() -> None:
    checked = subprocess.run(
        [sys.executable, TOOL, "--check"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@needs_history
def test_records_of_which_nothing_was_known_were_committed_after_their_claims() -> None:
    """Besides the dates (register.check): the commit that fixed a rule comes before the one that added the record."""
    project = checks.load(REPOSITORY / "params.yaml")
    paper = Paper(PUBLISHED)
    order = {
        name: place
        for place, name in enumerate(git(REPOSITORY, "log", "--reverse", "--topo-order", "--format=%H").split())
    }
    at = {commit[:12]: place for commit, place in order.items()}
    added: dict[str, int] = {}
    place = 0
    for line in git(
        REPOSITORY, "log", "--topo-order", "--diff-filter=A", "--format=@%H", "--name-only", "--", "results"
    ).splitlines():
        place = order[line[1:]] if line.startswith("@") else place
        if line and not line.startswith("@"):
            added[line] = place  # the log goes backward, so the first commit that added it stays
    compared = 0
    for name, entry in register.read(PUBLISHED.with_name(REGISTER)).items():
        claim = paper.claims.everything()[name]
        known = declared.read_known(claim.known, name)
        for cell in getattr(claim, "cells", ()):
            evaluation, _, mode = cell.cell.rpartition("/")
            for seed in known.in_advance(project.seeds):
                record = RECORD.format(evaluation=evaluation, mode=mode, seed=seed)
                if record in added:
                    compared += 1
                    assert at[entry.commit] < added[record], (name, record)
    assert compared > 10
