"""What one command works with: its folder, project, device, engines and packed data, each opened once.

Heavy imports are inside, so that a command that needs no torch pays for none.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstorder import settings
from firstorder.errors import UserError
from firstorder.settings import checks

if TYPE_CHECKING:
    import torch

    from firstorder.data.packs import Pack
    from firstorder.engines.choice import Choice
    from firstorder.method.evaluation import Checkpoint
    from firstorder.method.tasks import Draws
    from firstorder.method.training import Problem, Resumable
    from firstorder.records.states import StateFile
    from firstorder.settings import EvaluationSettings, Project

Arguments = argparse.Namespace


@dataclass(frozen=True)
class Trained:
    """What an evaluation starts from: the problem, its checkpoint on the device, the tasks, and digests of all that."""

    problem: Problem
    checkpoint: Checkpoint
    draws: Draws
    digests: dict[str, str]


@dataclass
class Session:
    """One command's view of a folder with a params.yaml: `params` is the path of that file.

    `asked_device`, `asked_engine` and `compiled` are what the command was asked for.
    """

    params: Path
    asked_device: str = "cpu"
    asked_engine: str = "auto"
    compiled: bool = False
    _packs: dict[str, tuple[Pack, str]] = field(default_factory=dict)
    _choices: dict[str, Choice] = field(default_factory=dict)

    @staticmethod
    def of(arguments: Arguments) -> Session:
        """Return the session of a parsed command line."""
        asked = vars(arguments)
        return Session(
            Path(arguments.params),
            asked.get("device", "cpu"),
            asked.get("engine", "auto"),
            asked.get("compile", False),
        )

    @property
    def root(self) -> Path:
        """The folder of params.yaml."""
        return self.params.parent

    @cached_property
    def project(self) -> Project:
        """What params.yaml says."""
        return checks.load(self.params)

    @cached_property
    def device(self) -> torch.device:
        """The device that was asked for, ready for use.

        Raises UserError where there is none.
        """
        return ready_device(self.asked_device)

    @property
    def device_name(self) -> str:
        """What records call the device."""
        import torch

        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"cpu, {torch.get_num_threads()} thread"

    def check_seeds(self, seeds: Sequence[int]) -> None:
        """Raise UserError for a seed that params.yaml does not list."""
        for seed in seeds:
            if seed not in self.project.seeds:
                known = list(self.project.seeds)
                raise UserError(f"seed {seed} is not among params.yaml's seeds {known}; add it there")

    def pack(self, dataset: str) -> tuple[Pack, str]:
        """Return a data set's pack and its content digest."""
        from firstorder.data import packs

        path = self.project.pack_path(dataset)
        if path not in self._packs:
            self._packs[path] = packs.read_pack(self.root / path)
        return self._packs[path]

    def choice(self, training: str) -> Choice:
        """Choose the engine for a training."""
        from firstorder.engines.choice import Wish, choose

        if training not in self._choices:
            chosen = settings.lookup(self.project.trainings, training, "training")
            wish = Wish(name=self.asked_engine, device=self.device, compiled=self.compiled)
            self._choices[training] = choose(wish, chosen)
        return self._choices[training]

    def problems(self, training: str, seeds: Sequence[int]) -> list[Problem]:
        """Load a training's images onto the device for some seeds."""
        from firstorder.data import packs
        from firstorder.method.images import ImagePool
        from firstorder.method.training import Problem

        chosen = settings.lookup(self.project.trainings, training, "training")
        self.check_seeds(seeds)
        choice = self.choice(training)
        pack, _ = self.pack(chosen.dataset)
        problems: list[Problem] = []
        before: packs.Pools | None = None
        for seed in seeds:
            cut = packs.make_pools(pack, self.project.datasets[chosen.dataset], seed)
            if before is not None and packs.same_pools(cut, before):
                pools = problems[-1].pools  # where the split does not depend on the seed, the images lie there once
            else:
                turns, counts = cut.turns, cut.counts
                pools = {
                    "meta-train": ImagePool.of(cut.meta_train, cut.scale, self.device, turns, counts.get("meta_train")),
                    "meta-test": ImagePool.of(cut.meta_test, cut.scale, self.device, turns, counts.get("meta_test")),
                }
            before = cut
            problems.append(Problem(training, chosen, seed, pools, choice.engine))
        return problems

    def trained(self, evaluation: str, chosen: EvaluationSettings, seed: int) -> Trained:
        """Read an evaluation's checkpoint onto the device.

        Raises UserError where it was made with other settings, data or seed.
        """
        from firstorder.method.evaluation import evaluation_shape
        from firstorder.method.tasks import Draws
        from firstorder.records import checkpoints

        (problem,) = self.problems(chosen.training, [seed])
        path = self.root / settings.MODEL.format(training=chosen.training, seed=seed)
        checkpoint, checkpoint_digest = checkpoints.read(path, problem.network)
        digests = {
            "data_digest": self.pack(problem.settings.dataset)[1],
            "training_digest": settings.digest(self.project.settings_of_training(chosen.training)),
        }
        checkpoints.check_made_of(checkpoint, path, {**digests, "seed": seed})
        self._check_recorded(problem, checkpoint_digest)
        draws = Draws(
            title=f"{evaluation} seed {seed}",
            shape=evaluation_shape(problem.pools["meta-test"], problem.settings.way, chosen),
            seed=seed,
            purpose="evaluation",
            step=0,
            tasks=chosen.tasks,
        )
        digests["checkpoint_digest"] = checkpoint_digest
        return Trained(problem, checkpoint.to(self.device), draws, digests)

    def _check_recorded(self, problem: Problem, checkpoint_digest: str) -> None:
        """Raise UserError unless a checkpoint is the one that the training's run file names, where there is one.

        A training's last state is kept until here, where its checkpoint is found whole.
        """
        from firstorder.records import cells

        path, curve = self.outputs(problem)
        recorded = cells.read_run(curve).get("checkpoint_digest")
        if recorded == checkpoint_digest:
            self.state_file(problem).discard()
        elif recorded is not None:
            raise UserError(
                f"{path}: its SHA-256 is {checkpoint_digest[:16]}..., expected {str(recorded)[:16]}... as "
                f"{curve.with_suffix('.run.json')} says; get the right one back (dvc pull --force {path}.dvc), or make "
                f"it anew: firstorder train {problem.name} --seed {problem.seed} --again"
            )

    def outputs(self, problem: Problem) -> tuple[Path, Path]:
        """Return where a training's checkpoint and its curve are written."""
        names = {"training": problem.name, "seed": problem.seed}
        return self.root / settings.MODEL.format(**names), self.root / settings.CURVE.format(**names)

    def is_done(self, problem: Problem) -> bool:
        """Say whether a training's checkpoint and curve are there, whole, and made of the settings and data of now."""
        from firstorder.records import cells, checkpoints, freshness
        from firstorder.upkeep import dvc

        path, curve = self.outputs(problem)
        if not (path.exists() and curve.exists()):
            return False
        try:
            expected = freshness.curve(self.project, problem.name, problem.seed)
            fresh = freshness.difference(self.root, expected) is None
            checkpoints.read(path, problem.network)
        except UserError:
            return False
        return fresh and cells.read_run(curve).get("checkpoint_digest") == dvc.hash_of(path, "sha256")

    def about(self, problem: Problem) -> dict[str, Any]:
        """Say what a training is made of: all that its outcome depends on, the device excepted."""
        resolved = self.project.settings_of_training(problem.name)
        return {
            "training": problem.name,
            "seed": problem.seed,
            "settings": resolved,
            "training_digest": settings.digest(resolved),
            "data_digest": self.pack(problem.settings.dataset)[1],
        }

    def state_file(self, problem: Problem) -> StateFile:
        """Return what keeps the state of a training that is not done."""
        from firstorder.records.states import StateFile

        about = self.about(problem)
        # States of format 1 name the kind of device, and none went on from one kind to another.
        older = tuple(settings.digest({**about, "device": kind}) for kind in ("cpu", "cuda"))
        path = self.root / ".work" / about["training_digest"] / f"seed-{problem.seed}.safetensors"
        run = self.run_information(0, self.choice(problem.name).name)
        place = {key: run[key] for key in ("device", "engine", "machine", "versions", "commit")}
        return StateFile(path, (settings.digest(about), *older), place)

    def resumable(self, problem: Problem) -> Resumable:
        """Return a training that goes on where it was interrupted."""
        from firstorder.method.training import Resumable

        return Resumable(problem, self.state_file(problem))

    def write(
        self,
        path: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        run: dict[str, Any],
        resolved: dict[str, Any],
    ) -> None:
        """Write recorded rows, how they were made beside them, and say where."""
        from firstorder.records import cells

        made = run | cells.made_with(resolved)
        cells.write_sealed(self.root / path, cells.rows_text(columns, rows), made)
        print(self.root / path)

    def run_information(self, seconds: float, engine: str | None = None) -> dict[str, Any]:
        """Describe a computation for its `.run.json`; on a GPU the peak memory is the GPU's."""
        import torch

        from firstorder.records import provenance

        made = provenance.run_information(seconds, self.device_name)
        if engine is not None:
            made["engine"] = engine
        if self.device.type == "cuda":
            made["peak_memory_bytes"] = torch.cuda.max_memory_allocated(self.device)
        return made


def ready_device(name: str) -> torch.device:
    """Return the device called cpu, cuda or auto, with torch set up for it.

    Raises UserError where there is no such device.
    """
    import torch

    from firstorder.bench import allocator

    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        # One thread a process: two trainings side by side do more than one training on two threads.
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)
        allocator.keep_freed_memory()
    else:
        # PyTorch lets cuDNN round a convolution's factors to 10 bits (TF32) by default, which moves this network's
        # gradients by 2 to 12 %. A precision below float32 is a setting, never a default.
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)
