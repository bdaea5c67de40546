"""profiles/slurm with a real Slurm of one node: `python -m pytest -m slow tests/workflow/test_slurm.py`, as root.

Needs Debian's slurm-wlm and munge, and requirements-cluster.txt. A job is cancelled half-way and the node is drained
for a while; the run ends complete and with the same bytes as a local one.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firstorder import settings
from firstorder.data import packs
from tests.conftest import TINY_PARAMS, TRAINING, edit, tiny_pack, write_params
from tests.workflow.test_profiles import MANIFOLDS
from tests.workflow.test_workflow import with_profile

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "tools/slurm_here.sh"
NODE = platform.node().split(".")[0]
STEPS = 3000  # long enough to be cancelled half-way
missing = [name for name in ("slurmctld", "munged", "sbatch") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"not here: {', '.join(missing)}"),
    pytest.mark.skipif(importlib.util.find_spec("snakemake_executor_plugin_slurm") is None, reason="no plugin"),
    pytest.mark.skipif(os.geteuid() != 0, reason="Slurm's daemons are started as root"),
]


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start a Slurm, and stop it at the end."""
    folder = tmp_path_factory.mktemp("slurm")
    for parent in [folder, *folder.parents][:3]:
        parent.chmod(0o755)  # munge is another user
    subprocess.run([SCRIPT, "start", folder], check=True)
    yield
    subprocess.run([SCRIPT, "stop", folder], check=True)


def snakemake(root: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "snakemake", "cells", "--snakefile", str(REPOSITORY / "Snakefile")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY / "src")}
    return subprocess.Popen([*command, "--directory", str(root), *arguments], env=environment, text=True)


def asked(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def results(root: Path) -> dict[str, bytes]:
    """Return checkpoints, curves and records, without the run files, which name times."""
    files = [
        *root.glob("models/**/*.safetensors"),
        *root.glob("results/**/seed-?.csv"),
        *root.glob("results/**/seed-?.json"),
    ]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_a_cancelled_job_and_a_drained_node_change_no_byte(slurm: None, tmp_path: Path) -> None:
    curve = ("trainings", TRAINING, "curve", "every")
    values = edit(TINY_PARAMS, (("trainings", TRAINING, "outer_steps"), STEPS), (curve, STEPS))
    for name in ("cluster", "local"):
        packs.write_pack(tmp_path / name / "data/omniglot.npz", tiny_pack())
        write_params(tmp_path / name, values)
    options = ["--workflow-profile", str(REPOSITORY / "profiles/slurm"), "--config", "device=cpu"]
    options += ["--default-resources", "slurm_partition=short", "runtime=10", "mem_mb=1000"]
    options += ["--slurm-init-seconds-before-status-checks", "5", "--seconds-between-status-checks", "5"]
    submitted = snakemake(tmp_path / "cluster", *options)
    until = time.monotonic() + 300
    while not (running := asked("squeue", "--noheader", "--states=running", "--format=%i")):
        assert time.monotonic() < until
        assert submitted.poll() is None
        time.sleep(1)
    time.sleep(20)
    subprocess.run(["scancel", running[0]], check=True)
    subprocess.run(["scontrol", "update", f"NodeName={NODE}", "State=DRAIN", "Reason=test"], check=True)
    time.sleep(10)
    subprocess.run(["scontrol", "update", f"NodeName={NODE}", "State=RESUME"], check=True)
    assert submitted.wait(timeout=900) == 0
    local = snakemake(tmp_path / "local", "--workflow-profile", str(REPOSITORY / "profiles/default"), "--cores=1")
    assert local.wait(timeout=900) == 0
    assert results(tmp_path / "cluster") == results(tmp_path / "local")
    assert len(results(tmp_path / "cluster")) == 2 * (2 + 2)


def test_a_partition_that_is_not_there_is_named_and_the_rest_goes_on(slurm: None, tmp_path: Path) -> None:
    packs.write_pack(tmp_path / "data/omniglot.npz", tiny_pack())
    write_params(tmp_path, edit(TINY_PARAMS, (("seeds",), [0]), (("manifolds",), MANIFOLDS)))
    options = ["--config", "device=cpu", "--default-resources", "slurm_partition=short", "runtime=10"]
    options += ["--set-resources", "train:slurm_partition=nowhere", "--retries", "0", "--latency-wait", "5"]
    options += ["--slurm-init-seconds-before-status-checks", "5", "--seconds-between-status-checks", "5"]
    answer = with_profile(tmp_path, "slurm", "cells", *options)
    said = answer.stdout + answer.stderr
    assert answer.returncode == 1, said
    assert "nowhere" in said
    assert (tmp_path / settings.MANIFOLD_POINTS).exists(), said
    assert not list((tmp_path / "models").rglob("*.safetensors"))
