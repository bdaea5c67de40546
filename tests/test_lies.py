"""Files that parse and lie: each says something that its digests, sizes or types do not bear out, or that is a trap."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firstorder.__main__ import main
from firstorder.data import mini_imagenet_sources, packs
from firstorder.errors import UserError
from firstorder.records import cells, headers, row_files
from firstorder.report.benchmark import performance
from firstorder.report.read import curves
from firstorder.settings import CURVE, digest
from firstorder.upkeep import dvc, estimates, plan
from tests.conftest import tiny_pack
from tests.records.test_cells import changed, written
from tests.synthetic_records import TRAINING, make_project, store_curve
from tests.upkeep.test_verify import CURVE as KEPT_CURVE
from tests.upkeep.test_verify import MODEL, RECORD, found, kept

__all__ = ["kept"]  # a fixture
MEBIBYTE = 1 << 20
BENCH = Path(__file__).with_name("bench_example.json")


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message


# --- Records and run files ---

WRONG_VALUES: dict[str, Any] = {
    "way": "5",
    "shot": True,
    "seed": None,
    "tasks": 0,
    "mode": "both",
    "dataset": ["omniglot"],
    "settings": [],
    "settings_digest": 1,
    "correct_histogram": [100, 0, 0, 0, 0, -0.0],
    "schema": True,
}


@pytest.mark.parametrize("key", WRONG_VALUES)
def test_a_record_with_a_value_of_another_type_is_refused(key: str, tmp_path: Path) -> None:
    path = changed(written(tmp_path), lambda values: values.update({key: WRONG_VALUES[key]}))
    refusal(cells.read_record, path)


@pytest.mark.parametrize("part", ["training", "evaluation", "dataset"])
@pytest.mark.parametrize("value", [None, 5, {}])
def test_a_record_whose_settings_are_not_whole_is_refused_or_is_a_mismatch(part: str, value: Any, kept: Path) -> None:
    def lie(values: dict[str, Any]) -> None:
        values["settings"][part] = value
        values["settings_digest"] = digest(values["settings"])

    changed(RECORD, lie)
    cells.write_run(RECORD, {"seconds": 1.0})
    assert any(line.startswith(f"{RECORD}: ") for line in found())


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 1, "schema": 1}',
        '{"schema": NaN}',
        '{"schema": 1e999}',
        '{"schema": 9223372036854775808}',
        '{"schema": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"schema": ' + "[" * 200 + "]" * 200 + "}",
        "\ufeff{}",
        "\0",
    ],
)
def test_json_that_python_takes_though_it_is_a_trap_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "seed-0.json"
    path.write_text(text, encoding="utf-8")
    assert "not valid JSON" in refusal(cells.read_record, path)
    path.rename(path.with_name("seed-1.run.json"))
    refusal(lambda path: cells.read_run(path.with_name("seed-1.csv")), tmp_path / "seed-1.run.json")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-32"])
def test_json_in_another_encoding_is_refused(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "seed-0.json"
    path.write_text('{"title": "é"}', encoding=encoding)
    assert "not valid JSON" in refusal(cells.read_record, path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", 5),
        ("settings", "x"),
        ("settings_digest", []),
        ("seconds", "1"),
        ("seed", 0.5),
        ("legs", {}),
        ("versions", 1),
    ],
)
def test_a_run_file_with_a_value_of_another_type_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    path = written(tmp_path)
    beside = changed(path.with_suffix(".run.json"), lambda values: values.update({key: value}))
    assert f"{key} is {value!r}" in refusal(lambda _: cells.read_run(path), beside)


def test_a_run_file_without_seconds_gives_the_plan_no_time(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    path = tmp_path / CURVE.format(training=TRAINING, seed=0)
    row_files.write_rows(path, ("outer_step",), [(0,)])
    made = cells.made_with(project.settings_of_training(TRAINING))
    cells.write_run(path, {"device": "cpu, 1 thread", "machine": "x", **made})
    entry = plan.make(tmp_path, plan.Device("cpu", "x"), project=project).named("training", TRAINING)
    assert entry.source is not None  # estimated


def test_a_curve_of_texts_is_refused_although_it_is_sealed(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    store_curve(tmp_path, 0, {500: 0.9, 1000: 0.9})
    path = tmp_path / CURVE.format(training=TRAINING, seed=0)
    run = cells.read_run(path)
    path.write_text(path.read_text().replace("0.9", "good"))
    cells.write_run(path, {key: value for key, value in run.items() if key not in ("sha256", "run_digest")})
    message = refusal(lambda _: curves.read(tmp_path, project, TRAINING, 0), path)
    assert "expected numbers under accuracy" in message


def test_verify_names_each_unreadable_file_and_goes_on(kept: Path) -> None:
    """A folder stands for whatever cannot be read."""
    for path in (MODEL, KEPT_CURVE.with_suffix(".run.json"), RECORD):
        path.unlink()
        path.mkdir()
    lines = found()
    for path in (MODEL, KEPT_CURVE.with_suffix(".run.json"), RECORD):
        assert any(line.startswith(f"{path}: ") for line in lines), path


def test_verify_passes_over_names_that_are_no_cell_and_no_seed(kept: Path) -> None:
    (MODEL.with_name("seed-0.old.safetensors")).write_bytes(MODEL.read_bytes())
    (Path("results/cells") / RECORD.name).write_bytes(RECORD.read_bytes())
    (line,) = found()
    assert line.startswith("results/cells/seed-0.json: expected ")


def test_what_verify_prints_about_a_file_is_one_line(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = KEPT_CURVE.read_text()
    lie = text.replace(text.splitlines()[1].split(",")[5], '"five\nor\x1b[2Jsix"', 1)
    cells.write_sealed(KEPT_CURVE, lie, cells.read_run(KEPT_CURVE))
    assert main(["verify"]) == 1
    (line,) = [line for line in capsys.readouterr().out.split("\n") if line.startswith(str(KEPT_CURVE))]
    assert "accuracy from 0 to 1 in row 1, found fiveor\\x1b[2Jsix" in line


def _first_entry(values: Any) -> dict[str, Any]:
    """Return the first measurement; with a list for its rate and many operations, it would have filled the memory."""
    workload = next(iter(values["workloads"].values()))
    workload["operations"] = 2**40
    entry: dict[str, Any] = workload["engines"]["plain"]["one process"]
    return entry


@pytest.mark.parametrize(
    "lie",
    [
        lambda values: values.update(workloads=[]),
        lambda values: values["limits"].clear(),
        lambda values: values["limits"].update(gflop_per_second="fast"),
        lambda values: values["scaling"].pop("engines"),
        lambda values: values["scaling"].update(threads=[]),
        lambda values: values["scaling"]["threads"]["native"]["W1"]["1"].update(median=0),
        lambda values: values["scaling"]["threads"]["native"]["W1"].pop("1"),
        lambda values: next(iter(values["workloads"].values())).update(operations=None),
        lambda values: _first_entry(values).update(rounds=[[1.0]]),
    ],
)
def test_a_result_of_the_benchmark_with_other_values_is_refused(lie: Callable[[Any], object], tmp_path: Path) -> None:
    values = json.loads(BENCH.read_text())
    lie(values)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(values))
    assert "not as the benchmark writes it" in refusal(performance.read, path)


def test_the_plan_takes_no_time_from_such_a_result(tmp_path: Path) -> None:
    for bench in ({"workloads": []}, {"workloads": {"W1": {"engines": {"plain": {"one process": {}}}}}}):
        assert estimates.speeds(bench, "").of == {}


# --- .dvc files ---

DVC = {"md5": "0123456789abcdef" * 2, "size": 1, "path": "a.safetensors"}


@pytest.mark.parametrize(
    "lie",
    [
        {"path": "/etc/passwd"},
        {"path": "../../a.safetensors"},
        {"path": "a\0b"},
        {"path": 5},
        {"md5": "01 23" * 8},
        {"md5": 5},
        {"md5": "A" * 32},
        {"size": -1},
        {"size": 1.5},
        {"size": True},
        {"size": "1"},
        {"push": "false"},
        {"push": 0},
    ],
)
def test_a_dvc_file_that_dvc_would_not_write_is_refused(lie: dict[str, Any], tmp_path: Path) -> None:
    """`push: "false"` would be taken for true, and images pushed to a public remote."""
    path = tmp_path / "a.safetensors.dvc"
    path.write_text(json.dumps({"outs": [DVC]}))
    assert dvc.read_dvc_file(path)[0].pushed
    path.write_text(json.dumps({"outs": [{**DVC, **lie}]}))
    message = refusal(dvc.read_dvc_file, path)
    assert "not a valid .dvc file" in message
    assert f"git checkout -- {path}" in message


@pytest.mark.parametrize(
    "config",
    [
        "[cache]\ndir = " + "a" * 5000,
        "[core]\nremote = r\n['remote \"r\"']\nurl = " + "a/" * 5000,
        '[core]\nremote = r\n[remote "r]\nurl = x',
        "[core]\nremote = r\n['remote \"r\"']\nurl = ~nobody-of-this-name/x",
        "remote = r",
        "[core]\n[core]",
    ],
)
def test_a_configuration_of_dvc_that_cannot_be_is_one_line(config: str, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    path = tmp_path / ".dvc/config"
    path.write_text(config)

    def read(_: Path) -> None:
        dvc.cache(tmp_path)
        dvc.remote(tmp_path)

    refusal(read, path)


# --- Packs and archives ---


def npz(path: Path, compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    """Write a whole pack with some of its members replaced."""
    packs.write_pack(path, tiny_pack(18))
    with zipfile.ZipFile(path) as archive:
        whole = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**whole, **{f"{name}.npy": content for name, content in members.items()}}.items():
            archive.writestr(name, content)
    return path


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(array), allow_pickle=False)
    return file.getvalue()


def header(shape: str, kind: str = "|u1") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": ()})
    return file.getvalue().replace(b"()", shape.encode())


def peak(read: Callable[[], object]) -> int:
    """Return the most memory that Python and NumPy held during a call that must be refused."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MEMBERS = {
    "an array larger than its member": {"images": header("(1, 1, 1, 1, 99999999999)")},
    "a negative shape": {"images": header("(-1, 1, 1, 1, -1)") + b"x"},
    "a header nested deeply": {"images": header("(" + "(" * 60 + "1" + ")" * 60 + ",)")},
    "other values than bytes": {"images": npy(np.zeros((18, 20, 1, 28, 28), np.float32))},
    "other axes": {"images": npy(np.zeros((18, 20), np.uint8))},
    "values above the scale": {"images": npy(np.full((18, 20, 1, 28, 28), 2, np.uint8))},
    "names that are numbers": {"class_names": npy(np.arange(18))},
    "too few names": {"class_names": npy(["a"])},
    "characters that do not exist": {"class_names": npy(["a"] * 18).replace(b"a\0\0\0", b"a\0\0\x20")},
    "half of a character": {"class_names": npy(["a"] * 18).replace(b"a\0\0\0", b"\0\xd8\0\0")},
    "a scale of several numbers": {"scale": npy([1, 1])},
    "a scale of nothing": {"scale": npy(0)},
    "a pickle": {
        "class_names": b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (18,), }".ljust(128)
    },
    "a digest that is a number": {"digest": npy(5)},
}


@pytest.mark.parametrize("members", MEMBERS.values(), ids=MEMBERS)
def test_a_pack_whose_arrays_are_not_those_of_a_pack_is_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    path = npz(tmp_path / "omniglot.npz", **members)
    assert peak(lambda: packs.read_pack(path)) < 32 * MEBIBYTE
    assert "make it again with: firstorder pack omniglot" in refusal(packs.read_pack, path)


def test_a_small_pack_that_unpacks_to_much_takes_no_memory(tmp_path: Path) -> None:
    path = npz(tmp_path / "omniglot.npz", images=bytes(200 * MEBIBYTE), digest=bytes(200 * MEBIBYTE))
    assert path.stat().st_size < MEBIBYTE
    assert peak(lambda: packs.read_pack(path)) < 32 * MEBIBYTE
    tracemalloc.start()
    headers.pack_digest(path)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 4 * MEBIBYTE


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_pack_of_a_compression_without_a_bound_is_refused(compression: int, tmp_path: Path) -> None:
    refusal(packs.read_pack, npz(tmp_path / "omniglot.npz", compression))


def test_a_pack_behind_a_link_into_dvcs_cache_leaves_the_cache_alone(tmp_path: Path) -> None:
    """With cache.type symlink, DVC links the pack to its object, whose name is the digest of its content."""
    kept = tmp_path / ".dvc/cache/files/md5/ab" / ("0" * 30)
    kept.parent.mkdir(parents=True)
    kept.write_text("the only copy")
    path = tmp_path / "omniglot.npz"
    path.symlink_to(kept)
    packs.write_pack(path, tiny_pack(18))
    assert kept.read_text() == "the only copy"
    assert packs.read_pack(path)[0].class_names == tiny_pack(18).class_names


def test_a_pack_whose_link_leads_to_itself_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "omniglot.npz"
    path.symlink_to(path)
    assert "Too many levels of symbolic links" in refusal(packs.read_pack, path)


def test_a_tar_whose_header_unpacks_to_much_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "images.tar.gz"
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.XHDTYPE, 300 * MEBIBYTE
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(info.tobuf())
        for _ in range(300):
            file.write(bytes(MEBIBYTE))

    def read() -> None:
        with mini_imagenet_sources.opened(path, {"n01532829": "train"}):
            pass

    assert peak(read) < 32 * MEBIBYTE


def test_devices_and_fifos_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    os.mkfifo(path)
    with pytest.raises(OSError, match="is a FIFO, expected a file or nothing"):
        row_files.write_rows(path, ("a",), [(1,)])
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]
