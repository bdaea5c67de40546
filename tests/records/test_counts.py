"""Counts of interrupted evaluations: they come back exactly, or are set aside and said so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firstorder.method.evaluation import evaluate
from firstorder.method.inner_loop import Plain
from firstorder.records import counts, kept_files
from firstorder.records.counts import CountsFile, Whole
from firstorder.settings import MODES
from tests.method.test_evaluation import WAY, checkpoint, draws, inner, network, pool

__all__ = ["checkpoint", "network", "pool"]  # fixtures
WHOLE = Whole(tasks=7, queries=WAY, lanes=3)
KEPT: dict[str, Any] = {mode: np.array([number, 3, 0]) for number, mode in enumerate(MODES)}


@pytest.fixture
def keeper(tmp_path: Path) -> CountsFile:
    return CountsFile(tmp_path / ".work/abc/counts-0.json", "abc", WHOLE, {"device": "a toaster"}, stop=lambda: True)


def again(keeper: CountsFile, **changes: Any) -> CountsFile:
    """Return the keeper of another process."""
    fresh = CountsFile(keeper.path, keeper.identity, keeper.whole, keeper.place)
    return dataclasses.replace(fresh, **changes)


def rewrite(keeper: CountsFile, **changes: Any) -> None:
    """Write the file anew with other contents and the digest that fits them."""
    kept = {**json.loads(keeper.path.read_text(encoding="utf-8")), **changes}
    keeper.path.write_text(json.dumps({**kept, "sha256": kept_files.counts_digest(kept)}), encoding="utf-8")


def tasks(keeper: CountsFile) -> int:
    return len(keeper.load()["inductive"])


def test_an_evaluation_stops_between_chunks_and_goes_on_to_the_same_counts(
    network: Any, checkpoint: Any, pool: Any, keeper: CountsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Plain.LANES, "cpu", 3)
    work = (inner(network), checkpoint, pool, draws(pool))
    whole = evaluate(*work)
    first = evaluate(*work, kept=keeper)
    assert {mode: len(found) for mode, found in first.items()} == dict.fromkeys(MODES, 3)
    second = again(keeper, place={"device": "a kettle"})
    found = evaluate(*work, kept=second)
    for mode in MODES:
        assert found[mode].dtype == whole[mode].dtype
        assert found[mode].tolist() == whole[mode].tolist()
    assert [(leg["device"], leg["tasks"]) for leg in second.legs] == [("a toaster", 3), ("a kettle", 4)]
    assert second.seconds == pytest.approx(sum(leg["seconds"] for leg in second.legs))
    # The whole counts stay until the records are written: nothing is lost if that fails.
    assert tasks(again(keeper)) == 7
    keeper.discard()
    assert tasks(again(keeper)) == 0


def test_counts_are_saved_once_a_minute_and_not_more_often(keeper: CountsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    going = again(keeper)
    assert not going.keep(KEPT)
    assert not keeper.path.exists()
    monkeypatch.setattr(counts, "SECONDS_BETWEEN_SAVES", 0.0)
    assert not going.keep(KEPT)
    assert tasks(again(keeper)) == 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"engine": "plain"}, "another engine, native and not plain"),
        ({"lanes": 7}, "another number of lanes, 3 and not 7"),
        ({"checkpoint_digest": "1" * 64}, f"another checkpoint, {'0' * 16} and not {'1' * 16}"),
    ],
)
def test_counts_of_another_engine_are_set_aside_and_serve_again(
    keeper: CountsFile, capsys: pytest.CaptureFixture[str], change: dict[str, Any], why: str
) -> None:
    made = {"engine": "native", "lanes": 3, "checkpoint_digest": "0" * 64}
    mine = {"made": made}
    other = {"identity": "another", "made": {**made, **change}}
    assert dataclasses.replace(keeper, **mine).keep(KEPT)
    assert tasks(again(keeper, **other)) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f"set aside as counts-0.other-{line.partition('other-')[2]:.16}.json (it is of {why}); " in line
    assert dataclasses.replace(keeper, **other).keep({mode: KEPT[mode][:0] for mode in MODES})
    assert tasks(again(keeper, **mine)) == 3
    lines = capsys.readouterr().err.splitlines()
    assert f"the evaluation goes on from {keeper.path.parent}/counts-0.other-" in lines[-1]


def test_no_flipped_bit_changes_a_count(keeper: CountsFile, capsys: pytest.CaptureFixture[str]) -> None:
    assert keeper.keep(KEPT)
    whole = keeper.path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        keeper.path.write_bytes(damaged)
        found = again(keeper).load()
        # White space may become other white space.
        assert len(found["inductive"]) == 0 or all(found[mode].tolist() == KEPT[mode].tolist() for mode in MODES)
    said = capsys.readouterr().err.splitlines()
    assert len(said) > 7 * len(whole)
    assert all("counts to go on from" in line for line in said)


COUNTS = {"inductive": [0, 3, 0], "transductive": [1, 3, 0]}
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("differ in their tasks", {"counts": {**COUNTS, "inductive": [1]}}),
    ("differ in their tasks", {"legs": []}),
    ("its seconds are none", {"legs": [{"tasks": 3, "seconds": "long"}]}),
    ("'seconds'", {"legs": [{"tasks": 3}]}),
    ("'transductive'", {"counts": {"inductive": [1, 1, 1]}}),
    ("a count is none of 0 to 3", {"counts": {**COUNTS, "inductive": [1, 4, 0]}}),
    ("a count is none of 0 to 3", {"counts": {**COUNTS, "inductive": [1, -1, 0]}}),
    ("a count is none of 0 to 3", {"counts": {**COUNTS, "inductive": [1, True, 0]}}),
    ("a whole number of 2^63 or more", {"counts": {**COUNTS, "inductive": [1, 10**30, 0]}}),
    ("a count is none of 0 to 3", {"counts": {**COUNTS, "inductive": "abc"}}),
    ("not iterable", {"counts": {**COUNTS, "inductive": None}, "legs": 3}),
    ("4 tasks of 7 in steps of 3", {"counts": dict.fromkeys(MODES, [1] * 4), "legs": [{"tasks": 4, "seconds": 1.0}]}),
    ("9 tasks of 7 in steps of 3", {"counts": dict.fromkeys(MODES, [1] * 9), "legs": [{"tasks": 9, "seconds": 1.0}]}),
    ("its digest is another one", {"format": 2}),
]


@pytest.mark.parametrize(("why", "changes"), WRONG)
def test_counts_that_cannot_be_are_set_aside(
    keeper: CountsFile, capsys: pytest.CaptureFixture[str], why: str, changes: dict[str, Any]
) -> None:
    assert keeper.keep(KEPT)
    rewrite(keeper, **changes)
    assert tasks(again(keeper)) == 0
    assert not keeper.path.exists()
    aside = keeper.path.with_name("counts-0.damaged.json")
    assert aside.exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"it is now {aside.name}, and the evaluation starts from the beginning" in line
    assert "not iterable" in why or why in line


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b"null"])
def test_what_is_no_file_of_counts_is_set_aside(
    keeper: CountsFile, capsys: pytest.CaptureFixture[str], text: bytes
) -> None:
    keeper.path.parent.mkdir(parents=True)
    keeper.path.write_bytes(text)
    assert tasks(again(keeper)) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1
