"""A session: the folder, project, device, engines and packed data that one command works with, each opened once.

Slow imports are inside the methods, so that a command that needs no torch does not import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstorder import settings
from firstorder.cli import finished, output
from firstorder.cli.device import ready_device
from firstorder.cli.verbs import Arguments
from firstorder.errors import UserError
from firstorder.files import shortened
from firstorder.settings.engines import NATIVE

if TYPE_CHECKING:
    import torch

    from firstorder.data.packs import Pack
    from firstorder.engines.choice import Choice
    from firstorder.method.evaluation import Checkpoint
    from firstorder.method.tasks import Draws
    from firstorder.method.training import Problem, Resumable
    from firstorder.progress import Stop
    from firstorder.records.counts import CountsFile
    from firstorder.records.states import StateFile
    from firstorder.settings import EvaluationSettings, Project


@dataclass(frozen=True)
class LoadedPack:
    """A data set's pack and the digest of its content."""

    pack: Pack
    digest: str


@dataclass(frozen=True)
class Trained:
    """A trained network ready for evaluation: problem, checkpoint on the device, tasks to draw, and their digests."""

    problem: Problem
    checkpoint: Checkpoint
    draws: Draws
    digests: dict[str, str]


@dataclass
class Session:
    """One command's view of the folder of a params.yaml.

    `params` is the path of that file; what is `requested`, and `compiled`, are the command's options.
    """

    params: Path
    requested_device: str = "cpu"
    requested_engine: str = "auto"
    requested_threads: int | None = None
    compiled: bool = False
    _packs: dict[str, LoadedPack] = field(default_factory=dict)
    _choices: dict[str, Choice] = field(default_factory=dict)
    _state_files: dict[tuple[str, int], StateFile] = field(default_factory=dict)

    @staticmethod
    def of(arguments: Arguments) -> Session:
        """Return the session of a parsed command line."""
        options = vars(arguments)
        return Session(
            Path(arguments.params),
            options.get("device", "cpu"),
            options.get("engine", "auto"),
            options.get("threads"),
            options.get("compile", False),
        )

    @property
    def root(self) -> Path:
        """The folder of params.yaml."""
        return self.params.parent

    @cached_property
    def project(self) -> Project:
        """The contents of params.yaml."""
        from firstorder.settings import checks

        return checks.load(self.params)

    @cached_property
    def device(self) -> torch.device:
        """The requested device, with torch configured for it.

        Raises UserError if there is no such device.
        """
        return ready_device(self.requested_device)

    def open_device(self) -> None:
        """Configure torch for the requested device; raises UserError as `device` does."""
        _ = self.device

    def device_name(self, engine: str | None = None) -> str:
        """Return the device's name in run files, for the name of an engine; None if none computed."""
        import torch

        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        threads = torch.get_num_threads()
        if self.requested_threads and (engine or "").startswith(NATIVE):
            threads = self.requested_threads
        return f"cpu, {threads} thread{'s' if threads > 1 else ''}"

    def check_seeds(self, seeds: Sequence[int]) -> None:
        """Raise UserError for a seed that params.yaml does not list."""
        for seed in seeds:
            if seed not in self.project.seeds:
                known = list(self.project.seeds)
                raise UserError(f"seed {seed} is not among params.yaml's seeds {known}; add it there")

    def check_training(self, training: str, seeds: Sequence[int]) -> None:
        """Raise UserError for a training or a seed that params.yaml does not list."""
        settings.lookup(self.project.trainings, training, "training")
        self.check_seeds(seeds)

    def load_pack(self, dataset: str) -> LoadedPack:
        """Return a data set's pack, read once a session."""
        from firstorder.data import packs

        path = self.project.pack_path(dataset)
        if path not in self._packs:
            option = output.params_option(self.params)
            read = packs.read_pack(shortened(self.root / path), self.project.datasets[dataset], option)
            self._packs[path] = LoadedPack(*read)
        return self._packs[path]

    def choice(self, training: str) -> Choice:
        """Choose the engine for a training."""
        import torch

        from firstorder.engines.choice import Wish, choose, leave_cores_to

        if training not in self._choices:
            chosen = settings.lookup(self.project.trainings, training, "training")
            device = self.device
            self.requested_threads = self.requested_threads or torch.get_num_threads()
            wish = Wish(
                name=self.requested_engine,
                device=device,
                compiled=self.compiled,
                threads=self.requested_threads,
            )
            self._choices[training] = choose(wish, chosen)
            leave_cores_to(self._choices[training].engine)
        return self._choices[training]

    def problems(self, training: str, seeds: Sequence[int]) -> list[Problem]:
        """Return a training's problem for each seed, with its images on the device."""
        from firstorder.data import packs
        from firstorder.method.images import ImagePool
        from firstorder.method.training import Problem

        chosen = settings.lookup(self.project.trainings, training, "training")
        self.check_seeds(seeds)
        choice = self.choice(training)
        pack = self.load_pack(chosen.dataset).pack
        problems: list[Problem] = []
        before: packs.Pools | None = None
        for seed in seeds:
            cut = packs.make_pools(pack, self.project.datasets[chosen.dataset], seed)
            if before is not None and packs.same_pools(cut, before):
                pools = problems[-1].pools  # one copy on the device where the split does not depend on the seed
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
        """Read the checkpoint that an evaluation with the settings `chosen` starts from.

        Raises UserError if it was made with other settings, data or seed.
        """
        from firstorder.method.evaluation import evaluation_shape
        from firstorder.method.tasks import Draws
        from firstorder.records import checkpoints, unfinished

        (problem,) = self.problems(chosen.training, [seed])
        path, _ = self.outputs(problem)
        unfinished.take_checkpoint(self.root, problem.name, seed)
        checkpoint, checkpoint_digest = checkpoints.read(path, problem.network)
        digests = {
            "data_digest": self.load_pack(problem.settings.dataset).digest,
            "training_digest": settings.digest(self.project.settings_of_training(chosen.training)),
        }
        checkpoints.check_made_of(checkpoint, path, problem, digests)
        finished.check_recorded(self, problem, checkpoint_digest)
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

    def outputs(self, problem: Problem) -> tuple[Path, Path]:
        """Return the paths of a training's checkpoint and curve."""
        return self.outputs_of(problem.name, problem.seed)

    def outputs_of(self, training: str, seed: int) -> tuple[Path, Path]:
        """Return the paths of a training's checkpoint and curve."""
        names = {"training": training, "seed": seed}
        return self.root / settings.MODEL.format(**names), self.root / settings.CURVE.format(**names)

    def about(self, problem: Problem) -> dict[str, Any]:
        """Return what identifies a training: everything that its outcome depends on, except the device."""
        from firstorder.records import unfinished

        resolved = self.project.settings_of_training(problem.name)
        data = self.load_pack(problem.settings.dataset).digest
        return unfinished.made_with(problem.name, problem.seed, resolved, data)

    def state_file(self, problem: Problem) -> StateFile:
        """Return the file that holds the state of an unfinished training."""
        from firstorder.records import unfinished
        from firstorder.records.states import StateFile

        key = problem.name, problem.seed
        if key not in self._state_files:
            made, work = self.about(problem), unfinished.of_training(self.project, *key)
            path, suspended = self.root / work.working, self.root / work.suspended
            place = self._place(self.choice(problem.name).name)
            self._state_files[key] = StateFile(path, unfinished.identities(made), place, made, suspended)
        return self._state_files[key]

    def counts_file(self, evaluation: str, trained: Trained, begun: float, stop: Stop) -> CountsFile:
        """Return the file that holds the counts of an unfinished evaluation, which began at `begun`."""
        from firstorder.records import unfinished
        from firstorder.records.counts import CountsFile
        from firstorder.records.kept_files import Whole

        problem, draws = trained.problem, trained.draws
        lanes = problem.engine.lanes_at_once(problem.pools["meta-test"], draws.shape, trained.checkpoint.parameters)
        made = {**trained.digests, "device": self.device.type, "engine": problem.engine.name, "lanes": lanes}
        made |= {"settings": self.project.settings_of_evaluation(evaluation), "seed": problem.seed}
        work = unfinished.of_evaluation(self.project, evaluation, problem.seed)
        whole = Whole(tasks=draws.tasks, queries=draws.shape.way * draws.shape.query, lanes=lanes)
        path, suspended, place = self.root / work.working, self.root / work.suspended, self._place(problem.engine.name)
        return CountsFile(path, settings.digest(made), whole, place, stop, begun, made=made, suspended=suspended)

    def _place(self, engine: str) -> dict[str, Any]:
        """Say where this process computes."""
        run = self.run_information(0, engine)
        return {entry: run[entry] for entry in ("device", "engine", "machine", "versions", "commit")}

    def resumable(self, problem: Problem) -> Resumable:
        """Return a training that continues where it was interrupted."""
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
        """Write the rows of a study and their run file, and print the path."""
        from firstorder.records import cells, row_files

        made = run | cells.made_with(resolved)
        cells.write_sealed(self.root / path, row_files.rows_text(columns, rows), made)
        print(self.root / path)

    def run_information(self, seconds: float, engine: str | None = None) -> dict[str, Any]:
        """Describe a computation for its run file (`.run.json`); on a GPU the peak memory is the GPU's."""
        import torch

        from firstorder.records import provenance

        run = provenance.run_information(seconds, self.device_name(engine))
        if engine is not None:
            run["engine"] = engine
        if self.device.type == "cuda":
            run["peak_memory_bytes"] = torch.cuda.max_memory_allocated(self.device)
        return run
