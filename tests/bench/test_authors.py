"""The authors' code as a contender, with small imitations of their checkout and of TensorFlow."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from firstorder.__main__ import main
from firstorder.bench import authors, benchmark, processes, workloads
from firstorder.bench.authors import AuthorsCode
from firstorder.bench.processes import Job
from firstorder.bench.workloads import PoolSize
from firstorder.errors import UserError
from firstorder.settings import checks

PARAMS = Path(__file__).parents[2] / "params.yaml"
WORKLOADS = workloads.all_workloads(checks.load(PARAMS))
# Each module notes what it is given in a file of the checkout.
TENSORFLOW = """
class Nothing:
    def __getattr__(self, name):
        return Nothing()
    def __call__(self, *given, **named):
        return Nothing()
class compat:
    v1 = Nothing()
__version__ = "0"
print("chatter")
"""
MODELS = """
class Model:
    input_ph, label_ph, minimize_op, predictions = "input_ph", "label_ph", "minimize_op", "predictions"
    def __init__(self, way, learning_rate):
        assert learning_rate > 0
OmniglotModel = MiniImageNetModel = Model
"""
REPTILE = """
import json, pathlib
class Reptile:
    def __init__(self, session, pre_step_op):
        pass
    def note(self, does, dataset, *given, **named):
        images = [image for one in dataset for image in one.sample(2)]
        about = {"shape": images[0].shape, "type": str(images[0].dtype), "most": float(max(x.max() for x in images))}
        noted = {"does": does, "classes": len(dataset), **about, "given": given, "named": named}
        (pathlib.Path(__file__).parents[1] / "noted.json").write_text(json.dumps(noted))
    def train_step(self, *given, **named):
        self.note("train_step", *given, **named)
    def evaluate(self, *given, **named):
        self.note("evaluate", *given, **named)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    package = tmp_path / "checkout/supervised_reptile"
    package.mkdir(parents=True)
    texts = {"models": MODELS, "reptile": REPTILE, "variables": "def weight_decay(rate):\n    pass\n", "__init__": ""}
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "checkout/tensorflow.py").write_text(TENSORFLOW, encoding="utf-8")
    return tmp_path / "checkout"


def job(name: str, code: AuthorsCode | None, device: str = "cpu") -> Job:
    workload = replace(WORKLOADS[name], pool=PoolSize(6, 16))
    return Job(workload=workload, engine="authors", device=device, threads=1, authors=code)


def test_an_outer_step_has_the_sizes_of_the_workload(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with processes.crew([job("W1", AuthorsCode(checkout))] * 2) as workers:
        assert [worker.absent for worker in workers] == [None, None]
        assert all(worker.first_step_seconds > 0 for worker in workers)
        assert processes.total_rate(workers, 0.0) > 0
        workers[0].ask("facts")
        facts = workers[0].answer()
    assert facts["units"] == 1
    assert facts["peak_memory_mib"] > 0
    assert facts["software"] == "TensorFlow 0"
    noted = json.loads((checkout / "noted.json").read_text(encoding="utf-8"))
    settings = WORKLOADS["W1"].settings
    assert noted == {
        "does": "train_step",
        "classes": 6,
        "shape": [28, 28],
        "type": "float32",
        "most": 1.0,
        "given": ["input_ph", "label_ph", "minimize_op"],
        "named": {
            "num_classes": 5,
            "num_shots": settings.train_shot,
            "inner_batch_size": 10,
            "inner_iters": 5,
            "replacement": False,
            "meta_step_size": settings.outer_step_size,
            "meta_batch_size": 5,
        },
    }
    assert capfd.readouterr().out == ""  # the imitation prints, but not where the benchmark does


def test_an_evaluation_has_the_sizes_of_the_workload(checkout: Path) -> None:
    with processes.crew([job("W5 mini-imagenet", AuthorsCode(checkout))]) as (worker,):
        assert worker.absent is None
    noted = json.loads((checkout / "noted.json").read_text(encoding="utf-8"))
    assert (noted["does"], noted["shape"], noted["type"], noted["most"]) == ("evaluate", [84, 84, 3], "float32", 1)
    assert noted["given"][-1] == "predictions"
    wanted = {"num_classes": 5, "num_shots": 5, "inner_batch_size": 15, "inner_iters": 50, "replacement": False}
    assert noted["named"] == wanted


@pytest.mark.parametrize(
    ("name", "why"), [("W4 maml", "Reptile only"), ("W4 fomaml", "Reptile only"), ("W1 per lane", "Reptile only")]
)
def test_what_it_is_not_timed_with_is_left_out(checkout: Path, name: str, why: str) -> None:
    assert why in str(authors.unsuited(AuthorsCode(checkout), WORKLOADS[name]))


def absent(wanted: Job) -> str:
    with processes.crew([wanted]) as (worker,):
        return str(worker.absent)


def test_without_the_code_or_its_python_it_is_left_out(checkout: Path, tmp_path: Path) -> None:
    assert "--with-authors PATH" in absent(job("W1", None))
    assert "expected a checkout of openai/supervised-reptile" in absent(job("W1", AuthorsCode(tmp_path)))
    nowhere = AuthorsCode(checkout, str(tmp_path / "python"))
    assert absent(job("W1", nowhere)) == f"{tmp_path}/python cannot be run: No such file or directory"
    assert absent(job("W1", AuthorsCode(checkout), device="cuda")) == "runs on a CPU only"


def test_without_tensorflow_it_is_left_out(checkout: Path) -> None:
    (checkout / "tensorflow.py").write_text("raise ModuleNotFoundError(\"No module named 'tensorflow'\")")
    assert absent(job("W1", AuthorsCode(checkout))) == f"No module named 'tensorflow' (in {sys.executable})"
    (checkout / "tensorflow.py").write_text("")
    assert "has no attribute 'compat'" in absent(job("W1", AuthorsCode(checkout)))


def test_a_step_that_fails_ends_the_benchmark(checkout: Path) -> None:
    broken = REPTILE.replace("images = [", "raise ValueError('broken')\n        images = [")
    (checkout / "supervised_reptile/reptile.py").write_text(broken)
    with (
        pytest.raises(UserError, match="with authors: its process ended with exit code 1"),
        processes.crew([job("W1", AuthorsCode(checkout))]),
    ):
        pass


def test_the_command_line_names_it(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plans = []
    monkeypatch.setattr(benchmark, "run", lambda plan, track: plans.append(plan))
    monkeypatch.setattr(benchmark, "write", lambda folder, result: folder)
    command = ["bench", "--device", "cpu", "--params", str(PARAMS), "--with-authors", str(checkout)]
    assert main([*command, "--engines", "native"]) == 0
    assert main([*command, "--authors-python", "other"]) == 0
    first, second = plans
    assert first.engines == ["native", "authors"]
    assert first.authors == AuthorsCode(checkout, sys.executable)
    assert second.engines == ["plain", "native", "jax", "authors"]
    assert second.authors.python == "other"
