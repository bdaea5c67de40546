"""The command line: parse, call, write. Run `firstorder --help`, or `python -m firstorder --help`.

Every verb works in the folder of a params.yaml (the current one, or that of --params) and reads and writes
the paths that settings.py names. What a user can get wrong ends in one line on standard error and exit
code 2. Heavy imports are inside the verbs, so that reporting needs no torch.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstorder import __version__, params, progress, settings
from firstorder.errors import UserError

if TYPE_CHECKING:
    import torch

    from firstorder import probes
    from firstorder.checkpoints import Checkpoint
    from firstorder.evaluation import Draws, ImagePool
    from firstorder.freshness import Recorded
    from firstorder.training import Problem

Rows = list[list[Any]]

Arguments = argparse.Namespace
OUT_OF_TIME = 3  # exit code of a training that --time-limit stopped
NOBODY_READS = 141  # exit code where a pipe was closed, as after `| head`: a shell's for a process ended by SIGPIPE


def _project(arguments: Arguments) -> tuple[Path, settings.Project]:
    """Return the folder of params.yaml and what it says."""
    path = Path(arguments.params)
    return path.parent, params.load(path)


def _check_seed(project: settings.Project, seed: int) -> None:
    if seed not in project.seeds:
        raise UserError(f"seed {seed} is not among params.yaml's seeds {list(project.seeds)}; add it there")


def _device(name: str) -> torch.device:
    import torch

    from firstorder import allocator

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


def _device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} thread"


def _problem(root: Path, project: settings.Project, name: str, arguments: Arguments) -> tuple[Problem, str]:
    """Load a training's data onto the device for one seed; return it with the data's content digest."""
    problems, _, data_digest = _problems(root, project, name, (arguments, [arguments.seed]))
    return problems[0], data_digest


def _problems(
    root: Path, project: settings.Project, name: str, chosen: tuple[Arguments, Sequence[int]]
) -> tuple[list[Problem], str, str]:
    """Load a training's data onto the device for some seeds; return it with the engine's name and the data's digest."""
    from firstorder import engines, packs, training
    from firstorder.evaluation import ImagePool

    arguments, seeds = chosen
    wanted = settings.lookup(project.trainings, name, "training")
    for seed in seeds:
        _check_seed(project, seed)
    device = _device(arguments.device)
    asked = getattr(arguments, "engine", "auto"), device, wanted, getattr(arguments, "compile", False)
    choice = engines.choose(*asked)
    pack, data_digest = packs.read_pack(root / project.pack_path(wanted.dataset))
    problems: list[training.Problem] = []
    before: packs.Pools | None = None
    for seed in seeds:
        cut = packs.make_pools(pack, project.datasets[wanted.dataset], seed)
        if before is not None and packs.same_pools(cut, before):
            pools = problems[-1].pools  # where the split does not depend on the seed, the images lie there once
        else:
            turns, counts = cut.turns, cut.counts
            pools = {
                "meta-train": ImagePool.of(cut.meta_train, cut.scale, device, turns, counts.get("meta_train")),
                "meta-test": ImagePool.of(cut.meta_test, cut.scale, device, turns, counts.get("meta_test")),
            }
        before = cut
        problems.append(training.Problem(name, wanted, seed, pools, choice.engine))
    return problems, choice.name, data_digest


def _run_information(seconds: float, device: torch.device, engine: str) -> dict[str, Any]:
    """Describe a computation for its `.run.json`; on a GPU the peak memory is the GPU's."""
    import torch

    from firstorder import provenance

    made = {**provenance.run_information(seconds, _device_name(device)), "engine": engine}
    if device.type == "cuda":
        made["peak_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return made


def download(arguments: Arguments) -> None:
    """Fetch a data set's official archives, or take them from the folder or URL in DATA_MIRROR."""
    from firstorder import archives, omniglot

    folder = Path(arguments.folder)
    for archive in omniglot.ARCHIVES:
        print(archives.fetch(archive, folder, os.environ.get("DATA_MIRROR"), progress.shown))


def pack(arguments: Arguments) -> None:
    """Pack a data set into one npz."""
    from firstorder import packs

    root, project = _project(arguments)
    source = settings.lookup(project.datasets, arguments.dataset, "data set").source
    if source == "mini_imagenet":
        raise UserError(
            f"{arguments.dataset} is made from your copy: firstorder data {arguments.dataset} --source PATH"
        )
    module = importlib.import_module(f"firstorder.{source}")
    raw = root / project.data_folder / "raw" / source
    made = module.make_pack(raw, progress.shown) if source == "omniglot" else module.make_pack(progress.shown)
    path = root / project.pack_path(arguments.dataset)
    packs.write_pack(path, made)
    print(f"{path}: {len(made.class_names):,} classes, images {made.images.shape[1:]}, digest {made.digest()[:16]}")


def data(arguments: Arguments) -> None:
    """Pack mini-ImageNet from the copy you have, with a census beside it; other data sets as `pack` does."""
    from firstorder import mini_imagenet, packs, results

    root, project = _project(arguments)
    name = arguments.dataset
    chosen = settings.lookup(project.datasets, name, "data set")
    if chosen.source != "mini_imagenet":
        if arguments.source or arguments.names:
            raise UserError(f"{name} is not made from a copy of yours; leave out --source and --names")
        return pack(arguments)
    source = arguments.source or os.environ.get("MINI_IMAGENET")
    names = arguments.names or os.environ.get("MINI_IMAGENET_NAMES")
    if not source:
        raise UserError(
            f"{name} cannot be downloaded: give your copy with --source PATH or in MINI_IMAGENET; docs/data.md lists "
            "the forms that are read"
        )
    made, census = mini_imagenet.make_pack(
        Path(source), chosen.resize or "nearest", Path(names) if names else None, track=progress.shown
    )
    path = root / project.pack_path(name)
    packs.write_pack(path, made)
    results.write_rows(path.with_suffix(".census.csv"), mini_imagenet.CENSUS_COLUMNS, census)
    print(f"{path}: {census[0].images:,} images of {len(made.class_names)} classes, digest {made.digest()[:16]}")
    print(path.with_suffix(".census.csv"))
    return None


def train(arguments: Arguments) -> int:
    """Meta-train one training for one or more seeds: checkpoint and learning curve of each."""
    _, project = _project(arguments)
    seeds = list(dict.fromkeys(arguments.seed))
    deadline = None if arguments.time_limit is None else time.monotonic() + arguments.time_limit
    code = 0
    # Engine `graph` trains all seeds side by side, the others one after another.
    groups = [seeds] if _engine_name(project, arguments).startswith("graph") else [[seed] for seed in seeds]
    for group in groups:
        if group is not groups[0] and deadline is not None and time.monotonic() >= deadline:
            print(f"firstorder: --time-limit: seed {group[0]} was not begun; run it again to go on", file=sys.stderr)
            code = OUT_OF_TIME
        else:
            code = max(code, _train_group(arguments, group, deadline))
    return code


def _engine_name(project: settings.Project, arguments: Arguments) -> str:
    from firstorder import engines

    chosen = settings.lookup(project.trainings, arguments.training, "training")
    for seed in arguments.seed:
        _check_seed(project, seed)
    return engines.choose(arguments.engine, _device(arguments.device), chosen, arguments.compile).name


def _train_group(arguments: Arguments, seeds: Sequence[int], deadline: float | None) -> int:
    """Train some seeds at once until they are done or time.monotonic() says `deadline`; return the exit code."""
    from firstorder import checkpoints, graphs, results, stored, training
    from firstorder.lanes import LanesEngine

    root, project = _project(arguments)
    resolved = project.settings_of_training(arguments.training)
    problems, engine, data_digest = _problems(root, project, arguments.training, (arguments, seeds))
    device = problems[0].pools["meta-train"].images.device
    digest = settings.digest(resolved)
    abouts, runs = [], []
    for problem in problems:
        names = {"training": arguments.training, "seed": problem.seed}
        abouts.append({**names, "settings": resolved, "training_digest": digest, "data_digest": data_digest})
        identity = settings.digest({**abouts[-1], "device": device.type})
        runs.append(graphs.Run(problem, root / ".work" / digest / f"seed-{problem.seed}.safetensors", identity))
    time_limit = None if deadline is None else deadline - time.monotonic()
    if engine.startswith("graph") and isinstance(problems[0].engine, LanesEngine):
        ended = graphs.train(runs, problems[0].engine, progress.shown, time_limit)
    else:
        ended = [
            training.train(run.problem, run.progress_path, run.identity, progress.shown, time_limit) for run in runs
        ]
    code = 0
    for run, about, done in zip(runs, abouts, ended, strict=True):
        names = {"training": arguments.training, "seed": run.problem.seed}
        if done.outer_step < run.problem.settings.outer_steps:
            what = f"{arguments.training} seed {run.problem.seed} stopped at outer step {done.outer_step:,}"
            print(f"firstorder: --time-limit: {what}; the same command goes on from there", file=sys.stderr)
            code = OUT_OF_TIME
            continue
        path = root / settings.MODEL.format(**names)
        checkpoints.write(path, run.problem.network, training.checkpoint_of(run.problem, done, about))
        curve = root / settings.CURVE.format(**names)
        results.write_rows(curve, training.CURVE_COLUMNS, done.curve)
        made = {**_run_information(done.seconds, device, engine), **names, **results.made_with(resolved)}
        made |= {"data_digest": data_digest, "outer_steps": done.outer_step, "together": len(runs)}
        made |= {"checkpoint_digest": stored.hash_of(path, "sha256")}
        results.write_run(curve, made)
        run.progress_path.unlink(missing_ok=True)
        print(f"{path}\n{curve}")
    return code


def evaluate(arguments: Arguments) -> None:
    """Evaluate a training for one shot and seed: the records of its two cells."""
    from firstorder import evaluation, results

    start = time.monotonic()
    root, project = _project(arguments)
    chosen = settings.lookup(project.evaluations, arguments.evaluation, "evaluation")
    (problem,), engine, data_digest = _problems(root, project, chosen.training, (arguments, [arguments.seed]))
    model, draws, digests = _trained(arguments, chosen, problem, data_digest)
    pool = problem.pools["meta-test"]
    counts = evaluation.evaluate(problem.network, problem.inner, model, pool, draws, progress.shown)
    # In an evaluation there is no outer step to record.
    run = _run_information(time.monotonic() - start, pool.images.device, engine.replace("graph", "lanes"))
    for mode, correct in counts.items():
        right = evaluation.histogram(correct, draws.shape.way * draws.shape.query)
        record = results.make_record(project, (arguments.evaluation, mode, arguments.seed), digests, right)
        print(results.write_record(root, record, run))


def _trained(
    arguments: Arguments, chosen: settings.EvaluationSettings, problem: Problem, data_digest: str
) -> tuple[Checkpoint, Draws, dict[str, str]]:
    """Read an evaluation's model onto the device; return it, the evaluation's tasks, and digests of what it is made of.

    Raises UserError where it was made with other settings, data or seed.
    """
    from firstorder import checkpoints, training
    from firstorder.evaluation import Draws

    root, project = _project(arguments)
    path = root / settings.MODEL.format(training=chosen.training, seed=arguments.seed)
    checkpoint, checkpoint_digest = checkpoints.read(path, problem.network)
    training_digest = settings.digest(project.settings_of_training(chosen.training))
    digests = {"data_digest": data_digest, "training_digest": training_digest}
    checkpoints.check_made_of(checkpoint, path, {**digests, "seed": arguments.seed})
    pool = problem.pools["meta-test"]
    draws = Draws(
        title=f"{arguments.evaluation} seed {arguments.seed}",
        shape=training.evaluation_shape(pool, problem.settings.way, chosen),
        seed=arguments.seed,
        purpose="evaluation",
        step=0,
        tasks=chosen.tasks,
    )
    return checkpoint.to(pool.images.device), draws, {**digests, "checkpoint_digest": checkpoint_digest}


def adaptation(arguments: Arguments) -> None:
    """Measure accuracy along an evaluation's inner steps, as params.yaml's section adaptations says."""
    from firstorder import probes

    root, project = _project(arguments)
    resolved = project.settings_of_adaptation(arguments.evaluation)
    entry = (project.adaptations or {})[arguments.evaluation]

    def measure(model: probes.Model, pool: ImagePool, draws: Draws) -> Rows:
        return probes.along(model, pool, draws, entry.inner_steps, progress.shown)

    lengths = {"tasks": entry.tasks, "inner_steps": max(*entry.inner_steps, 1)}
    path = settings.ADAPTATION.format(evaluation=arguments.evaluation, seed=arguments.seed)
    _probe(arguments, resolved, lengths, measure, root / path, probes.ADAPTATION_COLUMNS)


def alphabets(arguments: Arguments) -> None:
    """Count which alphabet is taken for which in an evaluation, as params.yaml's section alphabets says."""
    from firstorder import packs, probes

    root, project = _project(arguments)
    resolved = project.settings_of_alphabets(arguments.evaluation)
    entry = (project.alphabets or {})[arguments.evaluation]
    dataset = project.trainings[project.evaluations[arguments.evaluation].training].dataset
    pack, _ = packs.read_pack(root / project.pack_path(dataset))
    names = packs.meta_test_names(pack, project.datasets[dataset], arguments.seed)

    def measure(model: probes.Model, pool: ImagePool, draws: Draws) -> Rows:
        return probes.by_alphabet(model, pool, draws, [name.rpartition("/")[0] for name in names], progress.shown)

    path = settings.ALPHABETS.format(evaluation=arguments.evaluation, seed=arguments.seed)
    _probe(arguments, resolved, {"tasks": entry.tasks}, measure, root / path, probes.ALPHABET_COLUMNS)


def _probe(
    arguments: Arguments,
    resolved: dict[str, Any],
    lengths: dict[str, Any],
    measure: Callable[[probes.Model, ImagePool, Draws], Rows],
    path: Path,
    columns: Sequence[str],
) -> None:
    """Load an evaluation's model, measure on the first of its tasks, and write the rows to `path`."""
    from firstorder import probes, provenance, results

    start = time.monotonic()
    root, project = _project(arguments)
    chosen = replace(project.evaluations[arguments.evaluation], **lengths)
    problem, data_digest = _problem(root, project, chosen.training, arguments)
    checkpoint, draws, digests = _trained(arguments, chosen, problem, data_digest)
    pool = problem.pools["meta-test"]
    model = probes.Model(problem.network, problem.inner, checkpoint)
    results.write_rows(path, columns, measure(model, pool, draws))
    run = provenance.run_information(time.monotonic() - start, _device_name(pool.images.device))
    run |= {**results.made_with(resolved), **digests}
    results.write_run(path, run)
    print(path)


def manifolds(arguments: Arguments) -> None:
    """Compute Figure 2: Reptile's iterates between two curves in the plane."""
    from firstorder import manifolds as module
    from firstorder import provenance, results

    start = time.monotonic()
    root, project = _project(arguments)
    resolved = project.settings_of_manifolds()
    assert project.manifolds is not None  # else the line before has refused
    path = root / settings.MANIFOLD_POINTS
    results.write_rows(path, module.COLUMNS, module.simulate(project.manifolds))
    run = provenance.run_information(time.monotonic() - start, "cpu, 1 thread")
    results.write_run(path, {**run, **results.made_with(resolved)})
    print(path)


def sine(arguments: Arguments) -> None:
    """Compute Figure 1: meta-train on sine waves, adapt to new ones: losses and fits."""
    from firstorder import provenance, results
    from firstorder import sine as module

    start = time.monotonic()
    root, project = _project(arguments)
    resolved = project.settings_of_sine()
    assert project.sine is not None  # else the line before has refused
    device = _device("cpu")
    losses, fits = module.simulate(project.sine, progress.shown)
    run = provenance.run_information(time.monotonic() - start, _device_name(device))
    run |= {**results.made_with(resolved), "numerics_version": resolved["numerics_version"]}
    for name, columns, rows in (
        (settings.SINE_LOSSES, module.LOSS_COLUMNS, losses),
        (settings.SINE_FITS, module.FIT_COLUMNS, fits),
    ):
        results.write_rows(root / name, columns, rows)
        results.write_run(root / name, run)
        print(root / name)


def theory(arguments: Arguments) -> None:
    """Compute section 5: E[g] of MAML, FOMAML and Reptile over all mini-batch orders, and its expansion."""
    from firstorder import provenance, results
    from firstorder import theory as module

    start = time.monotonic()
    root, project = _project(arguments)
    resolved = project.settings_of_theory()
    assert project.theory is not None  # else the line before has refused
    device = _device("cpu")
    rows = module.expand(project.theory.expansion, progress.shown)
    run = provenance.run_information(time.monotonic() - start, _device_name(device))
    run |= {**results.made_with(resolved), "numerics_version": resolved["numerics_version"]}
    results.write_rows(root / settings.EXPANSION, module.COLUMNS, rows)
    results.write_run(root / settings.EXPANSION, run)
    print(root / settings.EXPANSION)


def inner_products(arguments: Arguments) -> None:
    """Measure inner products of a task's gradients while a training and its joint counterpart go on."""
    from firstorder import inner_products as module
    from firstorder import results

    start = time.monotonic()
    root, project = _project(arguments)
    resolved = project.settings_of_theory(arguments.training)
    assert project.theory is not None  # else the line before has refused
    (problem,), engine, data_digest = _problems(root, project, arguments.training, (arguments, [arguments.seed]))
    rows = module.compare(problem, project.theory.inner_products, progress.shown)
    run = _run_information(time.monotonic() - start, problem.pools["meta-train"].images.device, engine)
    run |= {**results.made_with(resolved), "numerics_version": resolved["numerics_version"]}
    path = root / settings.INNER_PRODUCTS.format(training=arguments.training, seed=arguments.seed)
    results.write_rows(path, module.COLUMNS, rows)
    results.write_run(path, {**run, "data_digest": data_digest})
    print(path)


def accuracies(arguments: Arguments) -> None:
    """Gather all recorded cells into results/accuracies.csv."""
    from firstorder.report import accuracies as module

    print(module.write(*_project(arguments)))


def table(arguments: Arguments) -> None:
    """Write one table (or `sine`): CSV, Markdown and LaTeX."""
    from firstorder.report import tables

    print(*tables.write(*_project(arguments), arguments.table, Path(arguments.published)), sep="\n")


def claims(arguments: Arguments) -> None:
    """Judge the paper's claims by what is recorded: CSV and Markdown."""
    from firstorder.report import claim_tables

    print(*claim_tables.write(*_project(arguments), Path(arguments.published)), sep="\n")


def figure(arguments: Arguments) -> None:
    """Draw one figure: PNG, PDF and the CSV behind it."""
    from firstorder.report import figures

    root, project = _project(arguments)
    paths = figures.write(root, project, arguments.figure, Path(arguments.published), whole=arguments.whole)
    print(*paths, sep="\n")


def page(arguments: Arguments) -> None:
    """Put tables and figures on one HTML page."""
    from firstorder.report import page as module

    print(module.write(*_project(arguments), Path(arguments.captions)))


def readme(arguments: Arguments) -> None:
    """Write the README's table from the records in one or more folders."""
    from firstorder.report import readme as module

    roots = [Path(folder) for folder in arguments.folders]
    module.update(Path(arguments.readme), roots, Path(arguments.published))
    print(arguments.readme)


def stale(arguments: Arguments) -> int:
    """List what is recorded and stale, each with the first difference; exit code 1 if there is any."""
    root, project = _project(arguments)
    found = _stale(root, project, arguments)
    if arguments.paths:
        print(*_paths(root, project, found))
        return 0
    for item, difference in found:
        print(f"{item.name}: {difference}")
    return 1 if found else 0


def _stale(root: Path, project: settings.Project, arguments: Arguments) -> list[tuple[Recorded, str]]:
    """List what is stale of one cell, of some algorithms, or of everything."""
    from firstorder import freshness

    if arguments.cell is not None:
        cell = _cell(project, arguments)
        difference = freshness.difference(root, cell)
        return [] if difference is None else [(cell, difference)]
    found = freshness.stale(root, project)
    chosen = arguments.algorithms.split("+") if arguments.algorithms else None
    return [(item, difference) for item, difference in found if not chosen or item.about.split("/")[0] in chosen]


def _paths(root: Path, project: settings.Project, found: list[tuple[Recorded, str]]) -> list[str]:
    """Name the files to compute again."""
    from firstorder import freshness

    return sorted({path for item, _ in found for path in freshness.paths_to_rebuild(root, project, item)})


def why(arguments: Arguments) -> None:
    """Walk a cell's number back: the paper's, ours, settings, seeds, digests, commit, machine, time."""
    from firstorder.report import why as module

    root, project = _project(arguments)
    if arguments.seed is not None:
        _check_seed(project, arguments.seed)
    seeds = project.seeds if arguments.seed is None else (arguments.seed,)
    print(module.explain(root, project, arguments.cell, seeds, Path(arguments.published)))


def plan(arguments: Arguments) -> None:
    """List trainings and cells: done, stale, missing, and the time they take on this device as far as measured."""
    from firstorder import plan as module
    from firstorder import provenance

    device = module.Device(arguments.device, provenance.run_information(0, arguments.device)["machine"])
    print(module.describe(_project(arguments)[0], device, [Path(folder) for folder in arguments.folders]))


def bench(arguments: Arguments) -> None:
    """Time the benchmark's workloads on this machine with every engine there is: one JSON for the machine."""
    from firstorder import bench as module
    from firstorder import cases, workloads

    _, project = _project(arguments)
    device = _device(arguments.device).type
    engines = arguments.engines or cases.DEFAULTS[device]
    for name in engines:
        settings.lookup(dict.fromkeys(cases.CONTENDERS), name, "engine")
    plan = module.Bench(
        device=device,
        workloads=workloads.chosen(project, arguments.workloads, device),
        engines=engines,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )
    print(module.write(Path(arguments.output), module.run(plan, progress.shown)))


def performance(arguments: Arguments) -> None:
    """Draw what `bench` measured, each machine's table and charts, and put them into docs/performance.md."""
    from firstorder.report import performance as module

    print(*module.update(Path(arguments.docs), Path(arguments.results)), sep="\n")


def verify(arguments: Arguments) -> int:
    """Hash data, checkpoints and records again; exit code 1 where one is not what is said of it."""
    from firstorder import verify as module

    folders = [Path(folder) for folder in arguments.folders] or [Path(arguments.params).parent]
    findings = module.verify(folders, progress.shown)
    print(*(mismatch.text for mismatch in findings.mismatches), *findings.summary(), sep="\n")
    return 1 if findings.mismatches else 0


def publish(arguments: Arguments) -> None:
    """Track checkpoints with DVC and push them; refused while anything is stale or does not verify."""
    from firstorder import publish as module

    wish = module.Wish(*_project(arguments), arguments.trainings, arguments.remote)
    print(*module.publish(wish), sep="\n")


def check_cell(arguments: Arguments) -> None:
    """Say whether a cell of params.yaml is fresh, stale or missing; refuse one that is not there or was edited."""
    from firstorder import freshness

    root, project = _project(arguments)
    cell = _cell(project, arguments)
    difference = freshness.difference(root, cell)
    state = "fresh" if (root / cell.path).exists() else "not computed yet"
    print(f"{cell.name}: {state if difference is None else f'stale, {difference}'}")


def _cell(project: settings.Project, arguments: Arguments) -> Recorded:
    """Look a cell up; raises UserError for one that params.yaml does not list, or another seed."""
    from firstorder import freshness

    known = {f"{evaluation}/{mode}": (evaluation, mode) for evaluation, mode, _ in project.cells()}
    evaluation, mode = settings.lookup(known, arguments.cell, "cell")
    if arguments.seed is None:
        raise UserError(f"{arguments.cell}: which seed? Give --seed, one of {', '.join(map(str, project.seeds))}")
    _check_seed(project, arguments.seed)
    return freshness.cell(project, evaluation, mode, arguments.seed)


def hold(arguments: Arguments) -> int:
    """Wait until nothing else computes the same in this folder, then run a command; its end frees the locks."""
    from firstorder import locks

    root, project = _project(arguments)
    if arguments.report:
        wanted = [locks.Lock("report")]
    elif arguments.cell is None:
        wanted = locks.WHOLE
    else:
        check_cell(arguments)
        cell = _cell(project, arguments)
        wanted = [locks.Lock(locks.FOLDER, shared=True), locks.Lock(f"training/{cell.training}/seed-{cell.seed}")]
    locks.take(root, wanted, arguments.told, lambda words: print(f"firstorder: {words}", file=sys.stderr))
    # Asked after the wait: who held the locks may have computed it.
    added = _paths(root, project, _stale(root, project, arguments)) if arguments.stale else []
    _flush()
    return locks.become([*arguments.command, *added])


def _positive(text: str) -> int:
    """Read a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="firstorder", description="Train, evaluate and report the replication of arXiv 1803.02999."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(run: Callable[[Arguments], int | None], *names: str, **options: dict[str, Any]) -> argparse.ArgumentParser:
        text = (run.__doc__ or "").strip()
        added = verbs.add_parser(run.__name__.replace("_", "-"), help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument("--params", default="params.yaml", help="settings; its folder holds everything else")
        for name in names:
            added.add_argument(name)
        for name, option in options.items():
            added.add_argument(f"--{name.replace('_', '-')}", **option)
        return added

    seed: dict[str, Any] = {"type": int, "required": True}
    device: dict[str, Any] = {"choices": ("auto", "cpu", "cuda"), "default": "auto"}
    verb(download, folder={"default": "data/raw/omniglot", "help": "where the archives go"})
    verb(pack, "dataset")
    copy: dict[str, Any] = {"help": "your copy of mini-ImageNet: folder, zip, tar or pickles; else MINI_IMAGENET"}
    names: dict[str, Any] = {"help": "csv of file names, or a folder of them, that says which images are wanted"}
    verb(data, "dataset", source=copy, names=names)
    engine: dict[str, Any] = {
        "choices": ("auto", "plain", "native", "lanes", "graph"),
        "default": "auto",
        "help": "plain: autograd; native: C, on a CPU; lanes: many at once; graph: lanes, and whole outer steps of "
        "all seeds, on a GPU as CUDA graphs; auto: graph on a GPU, else native or plain",
    }
    joined: dict[str, Any] = {"action": "store_true", "help": "lanes, graph: join operations with torch.compile"}
    limit: dict[str, Any] = {"type": float, "help": "stop after so many SECONDS, state saved, exit code 3"}
    options: dict[str, Any] = {"device": device, "engine": engine, "compile": joined}
    trained = verb(train, "training", **options)
    several = "one or more; with engine graph they are trained side by side"
    trained.add_argument("--seed", type=int, nargs="+", required=True, help=several)
    trained.add_argument("--time-limit", metavar="SECONDS", **limit)
    verb(evaluate, "evaluation", seed=seed, **options)
    published: dict[str, Any] = {"default": "paper/published.csv", "help": "the paper's numbers"}
    mark: dict[str, Any] = {"action": "store_true", "help": "show stale records with a mark instead of refusing them"}
    verb(adaptation, "evaluation", seed=seed, device=device)
    verb(alphabets, "evaluation", seed=seed, device=device)
    verb(sine)
    verb(manifolds)
    verb(theory)
    verb(inner_products, "training", seed=seed, device=device)
    verb(accuracies, allow_stale=mark)
    verb(table, "table", published=published, allow_stale=mark)
    verb(claims, published=published, allow_stale=mark)
    whole = {"action": "store_true", "help": "refuse where a curve is missing or cut short; else there is a gap"}
    verb(figure, "figure", published=published, whole=whole, allow_stale=mark)
    verb(page, captions={"default": "workflow/report", "help": "folder of the captions"}, allow_stale=mark)
    verb(readme, "readme", published=published, allow_stale=mark).add_argument("folders", nargs="+")
    one_seed: dict[str, Any] = {"type": int, "help": "seed of the cell"}
    some: dict[str, Any] = {
        "cell": {"help": "this cell alone, with --seed"},
        "seed": one_seed,
        "algorithms": {"help": "cells of these alone, like reptile+untrained"},
    }
    again = {"action": "store_true", "help": "print the files to compute again, for snakemake --forcerun"}
    verb(stale, **some, paths=again)
    verb(why, "cell", seed={"type": int, "help": "one seed; else all of params.yaml"}, published=published)
    on = {"default": "cpu", "help": "cpu, or a GPU's name as in a .run.json"}
    verb(plan, device=on).add_argument("folders", nargs="*", help="other folders whose measured times count")
    timed = verb(
        bench,
        device=device,
        rounds={"type": _positive, "default": 5, "help": "turns of each engine"},
        seconds={"type": float, "default": 0.4, "help": "least length of a turn"},
        output={"default": "results/bench", "help": "folder of the machines' results"},
    )
    timed.add_argument("--workloads", nargs="+", default=[], metavar="W", help="like W1 W4; else all")
    timed.add_argument("--engines", nargs="+", metavar="E", help="like plain native; else those meant for the device")
    docs: dict[str, Any] = {"default": "docs/performance.md", "help": "page with the markers of the block `bench`"}
    verb(performance, docs=docs, results={"default": "results/bench", "help": "folder that `bench` wrote into"})
    verb(verify).add_argument("folders", nargs="*", help="folders with a params.yaml; else that of --params")
    remote: dict[str, Any] = {"help": "name of a DVC remote; else the default one"}
    only: dict[str, Any] = {"nargs": "+", "default": [], "metavar": "TRAINING", "help": "publish these; else all"}
    verb(publish, trainings=only, remote=remote)
    verb(check_cell, "cell", seed=seed)
    held = verb(
        hold,
        **some,
        report={"action": "store_true", "help": "hold what the report writes, and nothing else"},
        stale={"action": "store_true", "help": "add the files to compute again to the end of the command"},
        told={"default": "another command", "help": "what others are told that wait"},
    )
    held.add_argument("command", nargs="+", help="after --")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code: 0, 2 for a user's error, 3 out of time, 130 interrupted, 141 nobody reads."""
    try:
        parsed = _parsed(arguments)
        if not getattr(parsed, "allow_stale", False):
            code = parsed.run(parsed) or 0
        else:
            from firstorder.report import staleness

            with staleness.allowed():
                code = parsed.run(parsed) or 0
        _flush()
        return code
    except UserError as error:
        print(f"firstorder: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return NOBODY_READS
        where, why = error.filename or "the system says", error.strerror or error
        print(f"firstorder: {where}: {why}; check the path, its permissions and the free space", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("firstorder: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def _parsed(arguments: Sequence[str] | None) -> Arguments:
    try:
        return _parser().parse_args(arguments)
    finally:
        _flush()  # the help was printed, and argparse ends the process


def _flush() -> None:
    """Write out what was printed: here a closed pipe is still an exception, at the interpreter's end a complaint."""
    if sys.stdout is not None:  # as after >&-
        sys.stdout.flush()


def _nobody_reads() -> bool:
    """Say whether standard output or error is a pipe that nobody reads any more; what is still to come goes nowhere.

    A broken pipe alone does not say so: it may be one to another process, whose death is to be told.
    """
    found = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, or no file
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLOUT)
            if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                found = True
    return found


if __name__ == "__main__":
    sys.exit(main())
