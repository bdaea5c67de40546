"""params.yaml: valid files load, errors are reported in one line, and digests change if and only if numbers may."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import firstorder
from firstorder import settings
from firstorder.errors import UserError
from firstorder.settings import MODES, DatasetSettings, Project, TrainingSettings, digest
from firstorder.settings.checks import load
from tests.conftest import ABSENT, edit

ROOT = Path(__file__).parents[2]
GOOD: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
FIVE_WAY = "reptile/omniglot-5way"
ONE_SHOT = f"{FIVE_WAY}/1shot"
TRAINING = ("trainings", FIVE_WAY)
FILE = "params.yaml"


# Edits that remove everything that refers to a training.
_SECTIONS = ("sweeps", "adaptations", "alphabets", "theory")
NO_REFERENCES = ((("evaluations",), {}), (("figures",), {}), *(((section,), ABSENT) for section in _SECTIONS))


def write(folder: Path, values: Any) -> Path:
    path = folder / FILE
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def edited(*edits: tuple[tuple[Any, ...], Any]) -> dict[str, Any]:
    """Return GOOD with some values changed."""
    return edit(GOOD, *edits)


def message_of(path: Path) -> str:
    """Load a file that must be refused; return the message without the folder at its beginning."""
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.replace(str(path), FILE)


def project(values: Any, folder: Path) -> Project:
    return load(write(folder, values))


# --- Accepted ---


@pytest.mark.parametrize("path", sorted(ROOT.glob("**/params.yaml")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_params_file_of_the_repository_loads(path: Path) -> None:
    loaded = load(path)
    assert loaded.trainings or loaded.sine
    for evaluation, _, _ in loaded.cells():
        assert digest(loaded.settings_of_evaluation(evaluation))


def test_the_main_file_asks_for_the_papers_table() -> None:
    """Reptile has one training for both shots, MAML and FOMAML one for each shot (Table 2, 5-way and 20-way)."""
    loaded = load(ROOT / FILE)
    evaluated = {evaluation.training for evaluation in loaded.evaluations.values()}
    on_omniglot = [name for name in evaluated if "/omniglot-" in name]
    assert len(on_omniglot) == 2 + 2 * 2 * 2
    cells = [cell for cell in loaded.cells() if "/omniglot-" in cell[0]]
    assert len(cells) == 3 * 4 * 2 * 3  # algorithms, columns, modes, seeds
    assert loaded.cells()[0] == (ONE_SHOT, "inductive", 0)
    assert {mode for _, mode, _ in loaded.cells()} == set(MODES)
    five_way = loaded.trainings[FIVE_WAY]
    assert (five_way.inner_learning_rate, five_way.outer_step_size) == (0.001, 1.0)
    assert isinstance(five_way.outer_step_size, float)
    assert loaded.datasets["omniglot"].rotations == (0, 90, 180, 270)
    assert loaded.pack_path("omniglot") == "data/omniglot.npz"


def test_the_path_may_be_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load() == load("params.yaml") == load(ROOT / FILE)


@pytest.mark.parametrize("written", ["1e-3", "1E-3", "0.001", "1.0e-3", "'0.001'"])
def test_every_notation_of_a_number_is_read_as_a_number(tmp_path: Path, written: str) -> None:
    """YAML 1.1 reads 1e-3, which has no point, as text."""
    text = (
        (ROOT / FILE)
        .read_text(encoding="utf-8")
        .replace("inner_learning_rate: 0.001", f"inner_learning_rate: {written}")
    )
    assert written in text
    loaded = project(text, tmp_path)
    assert loaded.trainings[FIVE_WAY].inner_learning_rate == 0.001
    assert digest(loaded.settings_of_training(FIVE_WAY)) == digest(load(ROOT / FILE).settings_of_training(FIVE_WAY))


def test_sections_with_a_default_may_be_left_out(tmp_path: Path) -> None:
    loaded = project(edited((("sine",), ABSENT), (("tables", "table-2", "paper"), ABSENT)), tmp_path)
    assert loaded.sine is None
    assert loaded.tables["table-2"].paper == "none"
    with pytest.raises(UserError, match="has no section `sine`; add one"):
        loaded.settings_of_sine()


def test_mini_imagenet_needs_no_more_than_its_source(tmp_path: Path) -> None:
    values = edited((("datasets", "mini-imagenet"), {"source": "mini_imagenet"}))
    assert project(values, tmp_path).datasets["mini-imagenet"] == DatasetSettings(source="mini_imagenet")


def test_a_training_may_have_a_suffix(tmp_path: Path) -> None:
    values = edited(*NO_REFERENCES)
    values["trainings"] = {f"{FIVE_WAY}-sgd": values["trainings"][FIVE_WAY]}
    assert list(project(values, tmp_path).trainings) == [f"{FIVE_WAY}-sgd"]


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    """`<<` adds only keys that are not given, so this does not count as a key given twice."""
    text = yaml.safe_dump(edited(*NO_REFERENCES, (("trainings",), {})))
    entry = yaml.safe_dump(GOOD["trainings"][FIVE_WAY], default_flow_style=True, width=1000).strip()
    text = text.replace(
        "trainings: {}\n",
        f"trainings:\n  {FIVE_WAY}: &base {entry}\n  {FIVE_WAY}-sgd:\n    <<: *base\n    inner_optimiser: sgd\n",
    )
    loaded = project(text, tmp_path).trainings
    assert loaded[f"{FIVE_WAY}-sgd"] == replace(loaded[FIVE_WAY], inner_optimiser="sgd")


def merged(node: yaml.Node) -> list[yaml.Node]:
    """List the nodes that `<<` merges directly into this mapping."""
    return [value for key, value in node.value if key.value == "<<"] if isinstance(node, yaml.MappingNode) else []


def nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    if isinstance(node, yaml.CollectionNode):
        for inner in node.value:
            for child in inner if isinstance(inner, tuple) else (inner,):
                yield from nodes(child)


@pytest.mark.parametrize("path", sorted(ROOT.glob("**/params.yaml")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_merged_entry_merges_no_other(path: Path) -> None:
    """So a value is either in the entry itself or in the one entry that it names."""
    top = yaml.compose(path.read_text(encoding="utf-8"))
    merged_nodes = [given for node in nodes(top) for given in merged(node)]
    assert merged_nodes or not (load(path).trainings or load(path).evaluations)
    for given in merged_nodes:
        assert isinstance(given, yaml.MappingNode)
        assert not merged(given), f"line {given.start_mark.line + 1} has defaults of its own"


def test_first_order_maml_differs_from_maml_in_the_algorithm_alone() -> None:
    loaded = load(ROOT / FILE)
    pairs = [(name, f"fo{name}") for name in loaded.trainings if name.startswith("maml/")]
    assert len(pairs) == 6
    for name, first_order in pairs:
        assert loaded.trainings[first_order] == replace(loaded.trainings[name], algorithm="fomaml")
    pairs = [(name, f"fo{name}") for name in loaded.evaluations if name.startswith("maml/")]
    assert len(pairs) == 6
    for name, first_order in pairs:
        second_order = loaded.evaluations[name]
        assert loaded.evaluations[first_order] == replace(second_order, training=f"fo{second_order.training}")


# --- Refused ---

UNTRAINED = {**GOOD["trainings"][FIVE_WAY], "algorithm": "untrained"}

WRONG: dict[str, tuple[list[tuple[tuple[Any, ...], Any]], list[str]]] = {
    "unknown key": (
        [((*TRAINING, "momentum"), 0.9)],
        [f"params.yaml: trainings: {FIVE_WAY}: unknown key 'momentum'", "known are: algorithm, dataset, network"],
    ),
    "misspelt key": (
        [((*TRAINING, "inner_step"), 5)],
        [f"params.yaml: trainings: {FIVE_WAY}: unknown key 'inner_step' (did you mean 'inner_steps'?)"],
    ),
    "misspelt section": ([(("training",), {})], ["params.yaml: unknown key 'training' (did you mean 'trainings'?)"]),
    "key that is not text": ([((True,), 1)], ["params.yaml: unknown key True"]),
    "missing key": (
        [((*TRAINING, "way"), ABSENT)],
        [f"params.yaml: trainings: {FIVE_WAY}: key 'way' is missing (classes per task, N)"],
    ),
    "missing section": ([(("seeds",), ABSENT)], ["params.yaml: key 'seeds' is missing"]),
    "missing key of a nested entry": (
        [((*TRAINING, "curve", "every"), ABSENT)],
        [f"{FIVE_WAY}: curve: key 'every' is missing (outer steps between two measurements)"],
    ),
    "bool for a whole number": (
        [((*TRAINING, "way"), True)],
        [f"params.yaml: trainings: {FIVE_WAY}: way: expected a whole number, found True"],
    ),
    "bool for a number": (
        [((*TRAINING, "outer_step_size"), False)],
        [f"{FIVE_WAY}: outer_step_size: expected a number, found False"],
    ),
    "text for a number": (
        [((*TRAINING, "inner_learning_rate"), "fast")],
        [f"{FIVE_WAY}: inner_learning_rate: expected a number, found 'fast'"],
    ),
    "text for a whole number": ([((*TRAINING, "way"), "5")], ["way: expected a whole number, found '5'"]),
    "fraction for a whole number": ([((*TRAINING, "way"), 5.0)], ["way: expected a whole number, found 5.0"]),
    "number for a text": ([(("title",), 5)], ["params.yaml: title: expected a text, found 5"]),
    "nothing for a number": ([((*TRAINING, "way"), None)], ["way: expected a whole number, found None"]),
    "list for a number": ([((*TRAINING, "way"), [5])], ["way: expected a whole number, found [5]"]),
    "number for a list": ([(("seeds",), 0)], ["params.yaml: seeds: expected a list, found 0"]),
    "text in a list of numbers": (
        [(("seeds",), [0, "one"])],
        ["params.yaml: seeds[1]: expected a whole number, found 'one'"],
    ),
    "mapping for a list": ([(("seeds",), {0: 1})], ["seeds: expected a list, found {0: 1}"]),
    "list for a mapping of names": ([(("trainings",), [])], ["trainings: expected a mapping of names, found []"]),
    "nothing for a mapping of names": ([(("tables",), None)], ["tables: expected a mapping of names, found None"]),
    "number for an entry": (
        [(TRAINING, 5)],
        [f"params.yaml: trainings: {FIVE_WAY}: expected a mapping of settings, found 5"],
    ),
    "name that is not text": ([(("tables", 2), {})], ["tables: expected a text as name, found 2", "quotes"]),
    "unknown choice": (
        [((*TRAINING, "inner_optimiser"), "adma")],
        [f"{FIVE_WAY}: inner_optimiser: expected one of adam, sgd, found 'adma' (did you mean 'adam'?)"],
    ),
    "list for a choice": (
        [((*TRAINING, "sampling"), ["cycle"])],
        ["expected one of cycle, replacement, found ['cycle']"],
    ),
    "too small": ([((*TRAINING, "way"), 1)], [f"trainings: {FIVE_WAY}: way: expected at least 2, found 1"]),
    "too small in a list": ([(("seeds",), [0, -1])], ["params.yaml: seeds[1]: expected at least 0, found -1"]),
    "at a bound that is excluded": (
        [((*TRAINING, "inner_learning_rate"), 0)],
        ["inner_learning_rate: expected more than 0, found 0.0"],
    ),
    "a beta1 that forgets nothing": (
        [((*TRAINING, "inner_beta1"), 1)],
        ["inner_beta1: expected less than 1, found 1.0"],
    ),
    "a beta1 below 0": ([((*TRAINING, "inner_beta1"), -0.1)], ["inner_beta1: expected at least 0, found -0.1"]),
    "momentum without Adam": (
        [((*TRAINING, "inner_beta1"), 0.9), ((*TRAINING, "inner_optimiser"), "sgd")],
        [f"{FIVE_WAY}: inner_beta1 is for inner_optimiser: adam, found sgd; remove it"],
    ),
    "momentum at low precision": (
        [((*TRAINING, "inner_beta1"), 0.9), ((*TRAINING, "precision"), "tf32")],
        [f"{FIVE_WAY}: inner_beta1 above 0 is computed in float32 only; remove it, or precision"],
    ),
    "too large": (
        [(("datasets", "omniglot", "rotations"), [0, 360])],
        ["params.yaml: datasets: omniglot: rotations[1]: expected at most 270, found 360"],
    ),
    "not a number": (
        [((*TRAINING, "outer_step_size"), float("nan"))],
        ["outer_step_size: expected a finite number, found nan"],
    ),
    "not a number, as a text": ([((*TRAINING, "outer_step_size"), "nan")], ["expected a finite number, found nan"]),
    "infinite": (
        [((*TRAINING, "outer_step_size"), float("inf"))],
        ["outer_step_size: expected a finite number, found inf"],
    ),
    "beyond any float": (
        [((*TRAINING, "outer_step_size"), 10**400)],
        ["not valid YAML: a whole number of 2^63 or more; expected a smaller one"],
    ),
    "seed beyond 32 bits": (
        [(("seeds",), [2**32])],
        ["params.yaml: seeds[0]: expected at most 4294967295, found 4294967296"],
    ),
    "seed twice": (
        [(("seeds",), [0, 1, 0])],
        ["params.yaml: seeds: expected at least one and no seed twice, found [0, 1, 0]"],
    ),
    "no seed": ([(("seeds",), [])], ["expected at least one and no seed twice, found []"]),
    "rotation between": (
        [(("datasets", "omniglot", "rotations"), [0, 45])],
        ["params.yaml: datasets: omniglot: rotations: expected at least one of 0, 90, 180, 270", "found [0, 45]"],
    ),
    "no number of classes": (
        [(("datasets", "omniglot", "meta_train_classes"), ABSENT)],
        ["params.yaml: datasets: omniglot: key 'meta_train_classes' is missing (classes for meta-training"],
    ),
    "rotations missing": (
        [(("datasets", "omniglot", "rotations"), ABSENT)],
        ["params.yaml: datasets: omniglot: key 'rotations' is missing (degrees"],
    ),
    "all characters for meta-training": (
        [(("datasets", "omniglot", "meta_train_classes"), 1623)],
        ["datasets: omniglot: meta_train_classes: omniglot has 1,623 classes, so 1,623 for meta-training and 0 for"],
    ),
    "no characters left by meta-validation": (
        [
            (("datasets", "omniglot", "meta_train_classes"), 1200),
            (("datasets", "omniglot", "meta_validation_classes"), 423),
        ],
        ["so 1,200 for meta-training and 423 for meta-validation leave none for meta-test; lower them"],
    ),
    "resize of drawings": (
        [(("datasets", "omniglot", "resize"), "nearest")],
        ["params.yaml: datasets: omniglot: omniglot has no resize; remove it"],
    ),
    "mini-ImageNet with a number of classes": (
        [(("datasets", "mini-imagenet"), {"source": "mini_imagenet", "meta_train_classes": 64})],
        ["params.yaml: datasets: mini-imagenet: mini_imagenet has no meta_train_classes, its classes are split by"],
    ),
    "pack made otherwise": (
        [(("datasets", "mini-imagenet"), {"source": "mini_imagenet", "pack": "omniglot"})],
        ["params.yaml: datasets: mini-imagenet: pack 'omniglot' has another source or resize; they must be"],
    ),
    "unknown resize": (
        [(("datasets", "mini-imagenet"), {"source": "mini_imagenet", "resize": "linear"})],
        ["resize: expected one of nearest, bilinear, bicubic, lanczos, found 'linear' (did you mean 'bilinear'?)"],
    ),
    "rotation twice": ([(("datasets", "omniglot", "rotations"), [0, 0])], ["none twice, found [0, 0]"]),
    "no rotation": ([(("datasets", "omniglot", "rotations"), [])], ["expected at least one of 0, 90", "found []"]),
    "data set that is not there": (
        [((*TRAINING, "dataset"), "omniglott")],
        [
            f"params.yaml: trainings: {FIVE_WAY}: dataset 'omniglott' is not under `datasets`",
            "(did you mean 'omniglot'?)",
            "known are: omniglot",
        ],
    ),
    "training that is not there": (
        [(("evaluations", ONE_SHOT, "training"), "reptile/omniglot-6way")],
        [
            f"params.yaml: evaluations: {ONE_SHOT}: training 'reptile/omniglot-6way' is not under `trainings`",
            f"(did you mean '{FIVE_WAY}'?)",
        ],
    ),
    "training name against its way": (
        [((*TRAINING, "way"), 6)],
        [f"params.yaml: trainings: {FIVE_WAY}: the name must be 'reptile/omniglot-6way' (from its settings)"],
    ),
    "training name against its algorithm": (
        [((*TRAINING, "algorithm"), "untrained"), ((*TRAINING, "outer_steps"), 0)],
        [f"trainings: {FIVE_WAY}: the name must be 'untrained/omniglot-5way'"],
    ),
    "training name with a correct beginning only": (
        [(("trainings", f"{FIVE_WAY}2"), GOOD["trainings"][FIVE_WAY])],
        [f"trainings: {FIVE_WAY}2: the name must be '{FIVE_WAY}'"],
    ),
    "evaluation name against its shot": (
        [(("evaluations", ONE_SHOT, "shot"), 2)],
        [f"params.yaml: evaluations: {ONE_SHOT}: the name must be '{FIVE_WAY}/2shot' (from its settings)"],
    ),
    "untrained with outer steps": (
        [(("trainings", "untrained/omniglot-5way"), UNTRAINED)],
        [
            "params.yaml: trainings: untrained/omniglot-5way: expected outer_steps: 0 with algorithm untrained",
            "found untrained with outer_steps: 100000",
        ],
    ),
    "a curve of more points than memory holds": (
        [((*TRAINING, "outer_steps"), 2**62), ((*TRAINING, "curve", "every"), 1)],
        [
            f"params.yaml: trainings: {FIVE_WAY}: curve: expected at most 100,000 points",
            "found 4611686018427387904 outer steps, every 1; raise every",
        ],
    ),
    "trained without outer steps": (
        [((*TRAINING, "outer_steps"), 0)],
        [
            f"trainings: {FIVE_WAY}: expected outer_steps: 0 with algorithm untrained",
            "found reptile with outer_steps: 0",
        ],
    ),
    "replacement with too large a batch": (
        [((*TRAINING, "sampling"), "replacement"), ((*TRAINING, "inner_batch_size"), 51)],
        [f"params.yaml: trainings: {FIVE_WAY}: inner_batch_size 51 exceeds the task's 50 images"],
    ),
    "figure of an unknown table": (
        [(("figures", "accuracies", "tables"), ["table-3"])],
        ["params.yaml: figures: accuracies: table 'table-3' is not under `tables` (did you mean 'table-2'?)"],
    ),
    "figure of an unknown training": (
        [(("figures", "learning-curves", "trainings"), ["reptile/omniglot-10way"])],
        ["params.yaml: figures: learning-curves: training 'reptile/omniglot-10way' is not under `trainings`"],
    ),
    "unknown kind of figure": (
        [(("figures", "figure-1", "kind"), "sinus")],
        ["figures: figure-1: kind: expected one of sine, ", "found 'sinus' (did you mean 'sine'?)"],
    ),
    "unknown mode in a row": (
        [(("tables", "table-2", "rows", 0, "mode"), "transduction")],
        ["params.yaml: tables: table-2: rows[0]: mode: expected one of inductive, transductive, found 'transduction'"],
    ),
    "name that leaves the folder": (
        [(("datasets", "../omniglot"), GOOD["datasets"]["omniglot"])],
        ["params.yaml: datasets: expected a name of letters, digits", "found '../omniglot'"],
    ),
    "name of two lines": (
        [(("tables", "a\nb"), GOOD["tables"]["table-2"])],
        ["params.yaml: tables: expected a name of letters, digits", r"found 'a\nb'"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_reported_in_one_line(tmp_path: Path, case: str) -> None:
    """With file, place, what was expected and found, and the nearest known name if there is one."""
    edits, expected = WRONG[case]
    message = message_of(write(tmp_path, edited(*edits)))
    for words in expected:
        assert words in message, message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "params.yaml: expected a mapping of settings, found None"),
        ("# nothing but a comment\n", "params.yaml: expected a mapping of settings, found None"),
        ("- a\n- b\n", "params.yaml: expected a mapping of settings, found ['a', 'b']"),
        ("title: [a\n", "params.yaml: line 2: not valid YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a: b: c\n", "params.yaml: line 1: not valid YAML: mapping values are not allowed here"),
        ("\ttitle: a\n", "params.yaml: line 1: not valid YAML: "),
        ("a: *b\n", "params.yaml: line 1: not valid YAML: found undefined alias 'b'"),
        ("title: !!python/object:os.system x\n", "params.yaml: line 1: not valid YAML: could not determine a constr"),
        ("title: a\x00b\n", "params.yaml: not valid YAML: "),
        ("title: 2018-13-01\n", "params.yaml: line 1: not valid YAML: expected a value of kind timestamp, found"),
    ],
)
def test_a_file_without_settings_is_reported_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    assert message_of(write(tmp_path, text)).startswith(expected)


def test_a_file_that_is_not_text_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"title: \xff\xfe\n")
    assert message_of(tmp_path / FILE).startswith("params.yaml: not valid YAML: 'utf-8' codec")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    message = message_of(tmp_path / FILE)
    assert message == "params.yaml: no such file; run from the folder of params.yaml or give --params"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert message_of(tmp_path / FILE).startswith("params.yaml: cannot be read (")


@pytest.mark.parametrize(
    ("line", "again", "expected"),
    [
        ("    way: 5 ", "    way: 5", "key 'way' is given twice"),
        ("seeds: ", "seeds: [7]", "key 'seeds' is given twice"),
        (f"  {FIVE_WAY}/1shot:", f"  {FIVE_WAY}/1shot: {{}}", f"key '{ONE_SHOT}' is given twice"),
    ],
    ids=["value", "section", "entry"],
)
def test_a_key_given_twice_is_reported_with_both_lines(tmp_path: Path, line: str, again: str, expected: str) -> None:
    """YAML silently uses the last one, although the first looks as if it counted."""
    lines = (ROOT / FILE).read_text(encoding="utf-8").splitlines()
    first = next(number for number, text in enumerate(lines) if text.startswith(line))
    lines.insert(first, again)
    message = message_of(write(tmp_path, "\n".join(lines)))
    assert message.startswith(f"params.yaml: line {first + 2}: not valid YAML: {expected}, first in line {first + 1}")


# --- Names ---


def test_an_unknown_name_is_reported_with_the_nearest() -> None:
    loaded = load(ROOT / FILE)
    with pytest.raises(
        UserError,
        match=r"^unknown training 'reptile/omniglot-5wy' "
        r"\(did you mean 'reptile/omniglot-5way' or '\S+' or '\S+'\?\); firstorder plan lists the trainings$",
    ):
        loaded.settings_of_training("reptile/omniglot-5wy")
    with pytest.raises(UserError, match=r"^unknown evaluation 'zzz'; firstorder plan lists the evaluations$"):
        loaded.settings_of_evaluation("zzz")
    with pytest.raises(UserError, match=r"^unknown table 'zzz'; known are: table-1, table-2$"):
        settings.lookup(loaded.tables, "zzz", "table")
    with pytest.raises(UserError, match=r"^unknown table 'a'; known are: none$"):
        settings.lookup({}, "a", "table")


# --- Digests ---


def digests(loaded: Project) -> tuple[str, str]:
    """Return the digests of the 5-way training and its 1-shot evaluation."""
    return digest(loaded.settings_of_training(FIVE_WAY)), digest(loaded.settings_of_evaluation(ONE_SHOT))


REFERENCE = digests(load(ROOT / FILE))


def reversed_keys(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: reversed_keys(value) for key, value in reversed(values.items())}
    return [reversed_keys(value) for value in values] if isinstance(values, list) else values


def with_more_entries() -> dict[str, Any]:
    more = edited((("trainings", f"{FIVE_WAY}-more"), GOOD["trainings"][FIVE_WAY]))
    more["evaluations"][f"{FIVE_WAY}/3shot"] = {**more["evaluations"][ONE_SHOT], "shot": 3}
    more["datasets"]["glyphs"] = {"source": "glyphs", "meta_train_classes": 900, "rotations": [0]}
    return more


@pytest.mark.parametrize(
    "values",
    [
        "# a comment\n" + (ROOT / FILE).read_text(encoding="utf-8").replace("way: 5 ", "way:    5 # another"),
        reversed_keys(GOOD),
        edited((("seeds",), [0, 1, 2, 3])),
        with_more_entries(),
        edited((("title",), "Another"), (("data_folder",), "elsewhere"), (("tables",), {}), (("figures",), {})),
        edited((("sine",), ABSENT)),
        edited((("trainings", "reptile/omniglot-20way", "outer_steps"), 5)),
        edited((("evaluations", f"{FIVE_WAY}/5shot", "tasks"), 5)),
        edited((("trainings", FIVE_WAY, "outer_step_size"), 1), (("trainings", FIVE_WAY, "outer_step_size_final"), 0)),
    ],
    ids=[
        "comments",
        "order of keys",
        "one more seed",
        "one more training, evaluation and data set",
        "title, folder, report",
        "no sine",
        "another training",
        "another evaluation",
        "1 for 1.0",
    ],
)
def test_changes_that_affect_no_number_leave_digests_unchanged(tmp_path: Path, values: Any) -> None:
    assert digests(project(values, tmp_path)) == REFERENCE


def other_value(value: Any, hint: str) -> Any:
    """Return a different value of the same type."""
    if "Literal" in hint:
        return f"other than {value}"
    if isinstance(value, tuple):
        return value[:-1]
    if value is None:  # a setting that this entry does not have
        return 0.5 if "float" in hint else 3
    return f"{value}2" if isinstance(value, str) else value + 1


def single_changes(of: Any) -> list[tuple[str, Any]]:
    """List every dataclass that differs from `of` in one value, including nested ones, with that value's name."""
    changes = []
    for field in dataclasses.fields(of):
        value = getattr(of, field.name)
        if dataclasses.is_dataclass(value):
            inner = single_changes(value)
            changes += [(f"{field.name}.{name}", replace(of, **{field.name: changed})) for name, changed in inner]
        else:
            changes.append((field.name, replace(of, **{field.name: other_value(value, str(field.type))})))
    return changes


LOADED = load(ROOT / FILE)


@pytest.mark.parametrize(
    "changed", [pytest.param(value, id=name) for name, value in single_changes(LOADED.trainings[FIVE_WAY])]
)
def test_every_value_of_a_training_changes_its_digest_and_its_evaluations(changed: TrainingSettings) -> None:
    datasets = {**LOADED.datasets, "omniglot2": LOADED.datasets["omniglot"]}
    moved = digests(replace(LOADED, datasets=datasets, trainings={**LOADED.trainings, FIVE_WAY: changed}))
    assert moved[0] != REFERENCE[0]
    assert moved[1] != REFERENCE[1]


@pytest.mark.parametrize(
    "changed", [pytest.param(value, id=name) for name, value in single_changes(LOADED.datasets["omniglot"])]
)
def test_every_value_of_a_data_set_changes_its_trainings_digest(changed: DatasetSettings) -> None:
    moved = digests(replace(LOADED, datasets={"omniglot": changed}))
    assert moved[0] != REFERENCE[0]
    assert moved[1] != REFERENCE[1]


def test_every_value_of_an_evaluation_changes_its_digest_and_not_its_trainings() -> None:
    changes = dict(single_changes(LOADED.evaluations[ONE_SHOT]))
    del changes["training"]  # another training has another digest of its own
    assert set(changes) == {"shot", "inner_steps", "inner_batch_size", "tasks", "query"}
    for changed in changes.values():
        moved = digests(replace(LOADED, evaluations={**LOADED.evaluations, ONE_SHOT: changed}))
        assert moved[0] == REFERENCE[0]
        assert moved[1] != REFERENCE[1]


def test_the_numerics_version_changes_every_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    sine = digest(LOADED.settings_of_sine())
    monkeypatch.setattr(firstorder, "NUMERICS_VERSION", firstorder.NUMERICS_VERSION + 1)
    moved = digests(LOADED)
    assert moved[0] != REFERENCE[0]
    assert moved[1] != REFERENCE[1]
    assert digest(LOADED.settings_of_sine()) != sine


def test_every_value_of_the_sine_section_changes_its_digest() -> None:
    assert LOADED.sine is not None
    found = {digest(replace(LOADED, sine=changed).settings_of_sine()) for _, changed in single_changes(LOADED.sine)}
    assert len(found | {digest(LOADED.settings_of_sine())}) == 1 + len(single_changes(LOADED.sine))


def test_resolved_settings_are_plain_values_that_survive_json() -> None:
    """They are a rule's params and part of a record; read back from JSON, they must have the same digest."""
    resolved = LOADED.settings_of_evaluation(ONE_SHOT)
    assert set(resolved) == {"numerics_version", "dataset", "training", "evaluation"}
    assert digest(json.loads(json.dumps(resolved))) == digest(resolved) == REFERENCE[1]


def test_the_canonical_form_never_changes() -> None:
    """Otherwise every existing record would become stale."""
    values = {"b": [1, 2.5, 1e-3, 1e-8], "a": {"z": None, "ä": "é"}, "c": (True, 100000)}
    assert digest(values) == "00365ba41cf63e5a"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_outside_json_have_no_digest(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"rate": value})


def test_a_setting_that_does_not_apply_is_not_in_the_digest():
    """So records stay fresh when a setting is added that they do not have."""

    @dataclasses.dataclass(frozen=True)
    class Inner:
        present: int = 1
        absent: int | None = None

    @dataclasses.dataclass(frozen=True)
    class Outer:
        inner: Inner = dataclasses.field(default_factory=Inner)
        absent: float | None = None

    assert settings.resolved(Outer()) == {"inner": {"present": 1}}


@pytest.mark.parametrize("folder", ["{x}", "data\n", "d\x1b[1m", ""])
def test_a_data_folder_that_is_a_pattern_or_no_text_of_a_path_is_refused(tmp_path: Path, folder: str) -> None:
    assert "data_folder: expected a path" in message_of(write(tmp_path, edited((("data_folder",), folder))))


@pytest.mark.parametrize("folder", ["my data", "d$(touch X)", "d';x", "données"])
def test_a_data_folder_may_have_what_a_shell_would_act_on(tmp_path: Path, folder: str) -> None:
    assert project(edited((("data_folder",), folder)), tmp_path).data_folder == folder
