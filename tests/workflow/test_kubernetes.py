"""profiles/kubernetes with a made-up cluster: what is submitted, and that the jobs' commands compute what they should.

Needs requirements-cluster.txt and rsync. No part of Kubernetes itself takes part.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from firstorder.data import packs
from tests.conftest import TINY_PARAMS, TRAINING, edit, tiny_pack, write_params
from tests.fake_kubernetes import Cluster
from tests.workflow.test_slurm import results
from tests.workflow.test_workflow import snakemake

REPOSITORY = Path(__file__).parents[2]
PROFILE = REPOSITORY / "profiles/kubernetes/config.yaml"
MOUNTED = "/firstorder"  # where the profile mounts the volume
PLUGINS = ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs")
pytestmark = [
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in PLUGINS), reason="no requirements-cluster.txt"
    ),
    pytest.mark.skipif(shutil.which("rsync") is None, reason="not here: rsync"),
]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Return the folder of a volume, in which the project lies: this code, and a miniature params.yaml of two seeds."""
    project = tmp_path / "volume/project"
    packs.write_pack(project / "data/omniglot.npz", tiny_pack())
    write_params(project, edit(TINY_PARAMS, (("seeds",), [0, 1])))
    for name in ("Snakefile", "workflow", "paper", "src"):
        (project / name).symlink_to(REPOSITORY / name)
    return project.parent


def submitted(volume: Path, *arguments: str, lost: str = "") -> tuple[subprocess.CompletedProcess[str], Cluster]:
    """Run the profile, with `volume` in place of its mount, against a made-up cluster whose jobs run here."""
    profile = volume.parent / "profiles/kubernetes"
    profile.mkdir(parents=True)
    text = PROFILE.read_text(encoding="utf-8").replace(MOUNTED, str(volume))
    (profile / "config.yaml").write_text(text, encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
    given = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", *proxies}} | {"PATH": path}
    cluster = Cluster(volume.parent / "cluster", given, lost)
    command = [sys.executable, "-m", "snakemake", "cells", "--workflow-profile", str(profile), *arguments]
    try:
        done = subprocess.run(
            [*command, "--seconds-between-status-checks", "1"],
            cwd=volume / "project",
            env={**given, "PYTHONPATH": str(REPOSITORY / "src"), "KUBECONFIG": str(cluster.config)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        cluster.stop()
    return done, cluster


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def test_a_job_asks_for_a_gpu_its_image_and_the_shared_volume(volume: Path) -> None:
    """Here is no GPU, so that each job fails. A failed one is not tried again, as retries are set to 0."""
    done, cluster = submitted(volume, "--retries", "0")
    assert done.returncode == 1
    assert len(cluster.jobs) == 2, done.stdout + done.stderr
    for seed, job in enumerate(sorted(cluster.jobs, key=str)):
        pod = pod_of(job)
        (container,) = pod["containers"]
        assert container["image"] == yaml.safe_load(PROFILE.read_text(encoding="utf-8"))["container-image"]
        asked = {"memory": "2000M", "ephemeral-storage": "1000M", "nvidia.com/gpu": "1"}
        # Kubernetes refuses a GPU that is not in the limits too.
        assert container["resources"] == {"requests": {**asked, "cpu": "950m"}, "limits": {**asked, "cpu": "1000m"}}
        assert {(one["name"], one["mountPath"]) for one in container["volumeMounts"]} == {
            ("workdir", "/workdir"),
            ("firstorder", str(volume)),
        }
        assert {"name": "firstorder", "persistentVolumeClaim": {"claimName": "firstorder"}} in pod["volumes"]
        assert {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"} in pod[
            "tolerations"
        ]
        assert (pod["restartPolicy"], job["spec"]["backoffLimit"]) == ("Never", 0)  # Snakemake itself tries again
        command = container["args"][-1]
        assert any(f"train:{names}" in command for names in (f"training={TRAINING},seed={n}" for n in (0, 1))), seed
        assert "--config 'device=cuda'" in command
    assert "firstorder: --device cuda: torch finds no CUDA device here" in cluster.said()


def test_its_jobs_give_the_same_bytes_as_a_local_run_though_one_pod_is_lost(volume: Path, tmp_path: Path) -> None:
    """The lost job is submitted again. What Snakemake would install or bring into a job is left alone."""
    done, cluster = submitted(volume, "--config", "device=cpu", lost=f"training={TRAINING},seed=1")
    assert done.returncode == 0, done.stdout + done.stderr + cluster.said()
    assert len(cluster.jobs) == 2 + 2 + 1
    assert len(set(cluster.deleted)) == 2 + 2  # the plugin leaves a failed one in the cluster, to be looked at
    for name in ("Snakefile", "workflow", "src", "paper"):
        assert (volume / "project" / name).is_symlink()
    assert not [path for path in (volume / "project").iterdir() if "sources" in path.name]
    local = tmp_path / "local"
    packs.write_pack(local / "data/omniglot.npz", tiny_pack())
    write_params(local, edit(TINY_PARAMS, (("seeds",), [0, 1])))
    assert snakemake(local, "cells").returncode == 0
    assert results(volume / "project") == results(local)
    assert len(results(local)) == 2 * (2 + 2)
