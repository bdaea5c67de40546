"""The command line: parse, call, write. Run `firstorder --help`, or `python -m firstorder --help`.

Every verb works in the folder of a params.yaml (the current one, or that of --params) and reads and writes
the paths that settings.py names. What a user can get wrong ends in one line on standard error and exit
code 2. Heavy imports are inside the verbs, so that reporting needs no torch.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstorder import __version__, params, progress, settings
from firstorder.errors import UserError

if TYPE_CHECKING:
    import torch

    from firstorder.training import Problem

Arguments = argparse.Namespace


def _project(arguments: Arguments) -> tuple[Path, settings.Project]:
    """Return the folder of params.yaml and what it says."""
    path = Path(arguments.params)
    return path.parent, params.load(path)


def _check_seed(project: settings.Project, seed: int) -> None:
    if seed not in project.seeds:
        raise UserError(f"seed {seed} is not among params.yaml's seeds {list(project.seeds)}; add it there")


def _device(name: str) -> torch.device:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        # One thread a process: two trainings side by side do more than one training on two threads.
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)
        _keep_freed_memory()
    return torch.device(name)


def _keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next step instead of handing them back and faulting them in again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(parameter, 32 * 2**20)  # the largest that M_MMAP_THRESHOLD takes


def _device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} thread"


def _problem(root: Path, project: settings.Project, name: str, arguments: Arguments) -> tuple[Problem, str]:
    """Load a training's data onto the device; return it with the data's content digest."""
    from firstorder import native, packs, training
    from firstorder.evaluation import ImagePool

    chosen = settings.lookup(project.trainings, name, "training")
    _check_seed(project, arguments.seed)
    device = _device(arguments.device)
    pack, data_digest = packs.read_pack(root / project.pack_path(chosen.dataset))
    pools = packs.make_pools(pack, project.datasets[chosen.dataset], arguments.seed)
    on_device = {
        "meta-train": ImagePool.of(pools.meta_train, pools.scale, device, pools.turns, pools.counts.get("meta_train")),
        "meta-test": ImagePool.of(pools.meta_test, pools.scale, device, pools.turns, pools.counts.get("meta_test")),
    }
    engine = native.engine(chosen.network, chosen.way) if device.type == "cpu" else None
    return training.Problem(name, chosen, arguments.seed, on_device, engine), data_digest


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


def train(arguments: Arguments) -> None:
    """Meta-train one training for one seed: checkpoint and learning curve."""
    from firstorder import checkpoints, provenance, results, training

    root, project = _project(arguments)
    resolved = project.settings_of_training(arguments.training)
    problem, data_digest = _problem(root, project, arguments.training, arguments)
    names = {"training": arguments.training, "seed": arguments.seed}
    digest = settings.digest(resolved)
    about = {**names, "settings": resolved, "training_digest": digest, "data_digest": data_digest}
    identity = settings.digest({**about, "device": problem.pools["meta-train"].images.device.type})
    state_path = root / ".work" / digest / f"seed-{arguments.seed}.safetensors"
    ended = training.train(problem, state_path, identity, progress.shown)
    path = root / settings.MODEL.format(**names)
    checkpoints.write(path, problem.network, training.checkpoint_of(problem, ended, about))
    curve = root / settings.CURVE.format(**names)
    results.write_rows(curve, training.CURVE_COLUMNS, ended.curve)
    device = _device_name(problem.pools["meta-train"].images.device)
    run = {**provenance.run_information(ended.seconds, device), **names, "settings_digest": digest}
    results.write_run(curve, {**run, "data_digest": data_digest, "outer_steps": ended.outer_step})
    state_path.unlink(missing_ok=True)
    print(f"{path}\n{curve}")


def evaluate(arguments: Arguments) -> None:
    """Evaluate a training for one shot and seed: the records of its two cells."""
    from firstorder import checkpoints, evaluation, provenance, results, training

    start = time.monotonic()
    root, project = _project(arguments)
    chosen = settings.lookup(project.evaluations, arguments.evaluation, "evaluation")
    problem, data_digest = _problem(root, project, chosen.training, arguments)
    model_path = root / settings.MODEL.format(training=chosen.training, seed=arguments.seed)
    checkpoint, checkpoint_digest = checkpoints.read(model_path, problem.network)
    digests = {
        "data_digest": data_digest,
        "training_digest": settings.digest(project.settings_of_training(chosen.training)),
    }
    checkpoints.check_made_of(checkpoint, model_path, {**digests, "seed": arguments.seed})
    pool = problem.pools["meta-test"]
    draws = evaluation.Draws(
        title=f"{arguments.evaluation} seed {arguments.seed}",
        shape=training.evaluation_shape(pool, problem.settings.way, chosen),
        seed=arguments.seed,
        purpose="evaluation",
        step=0,
        tasks=chosen.tasks,
    )
    model = checkpoint.to(pool.images.device)
    counts = evaluation.evaluate(problem.network, problem.inner, model, pool, draws, progress.shown)
    run = provenance.run_information(time.monotonic() - start, _device_name(pool.images.device))
    digests["checkpoint_digest"] = checkpoint_digest
    for mode, correct in counts.items():
        right = evaluation.histogram(correct, draws.shape.way * draws.shape.query)
        record = results.make_record(project, (arguments.evaluation, mode, arguments.seed), digests, right)
        print(results.write_record(root, record, run))


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
    run |= {"settings_digest": settings.digest(resolved), "numerics_version": resolved["numerics_version"]}
    for name, columns, rows in (
        (settings.SINE_LOSSES, module.LOSS_COLUMNS, losses),
        (settings.SINE_FITS, module.FIT_COLUMNS, fits),
    ):
        results.write_rows(root / name, columns, rows)
        results.write_run(root / name, run)
        print(root / name)


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

    print(*figures.write(*_project(arguments), arguments.figure, Path(arguments.published)), sep="\n")


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
    """List recorded cells that params.yaml has changed under; exit code 1 if there are any."""
    from firstorder import results

    root, project = _project(arguments)
    outdated = results.stale_records(results.read_records(root, project), project)
    if arguments.paths:
        files = {path for record, difference in outdated for path in results.paths_to_rebuild(record, difference)}
        print(*sorted(files))
        return 0
    for record, difference in outdated:
        print(f"{record.evaluation}/{record.mode} seed {record.seed}: {difference}")
    return 1 if outdated else 0


def why(arguments: Arguments) -> None:
    """Walk a cell's number back: the paper's, ours, settings, seeds, digests, commit, machine, time."""
    from firstorder.report import why as module

    root, project = _project(arguments)
    if arguments.seed is not None:
        _check_seed(project, arguments.seed)
    seeds = project.seeds if arguments.seed is None else (arguments.seed,)
    print(module.explain(root, project, arguments.cell, seeds, Path(arguments.published)))


def plan(arguments: Arguments) -> None:
    """List trainings and cells: done, missing, and the time they take on this device as far as it was measured."""
    from firstorder import plan as module
    from firstorder import provenance

    device = module.Device(arguments.device, provenance.run_information(0, arguments.device)["machine"])
    print(module.describe(_project(arguments)[0], device, [Path(folder) for folder in arguments.folders]))


def check_cell(arguments: Arguments) -> None:
    """Check that a cell exists in params.yaml."""
    _, project = _project(arguments)
    known = {f"{evaluation}/{mode}": None for evaluation, mode, _ in project.cells()}
    settings.lookup(known, arguments.cell, "cell")
    _check_seed(project, arguments.seed)


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
            added.add_argument(f"--{name}", **option)
        return added

    seed: dict[str, Any] = {"type": int, "required": True}
    device: dict[str, Any] = {"choices": ("auto", "cpu", "cuda"), "default": "auto"}
    verb(download, folder={"default": "data/raw/omniglot", "help": "where the archives go"})
    verb(pack, "dataset")
    copy: dict[str, Any] = {"help": "your copy of mini-ImageNet: folder, zip, tar or pickles; else MINI_IMAGENET"}
    names: dict[str, Any] = {"help": "csv of file names, or a folder of them, that says which images are wanted"}
    verb(data, "dataset", source=copy, names=names)
    verb(train, "training", seed=seed, device=device)
    verb(evaluate, "evaluation", seed=seed, device=device)
    published: dict[str, Any] = {"default": "paper/published.csv", "help": "the paper's numbers"}
    verb(sine)
    verb(accuracies)
    verb(table, "table", published=published)
    verb(claims, published=published)
    verb(figure, "figure", published=published)
    verb(page, captions={"default": "workflow/report", "help": "folder of the captions"})
    verb(readme, "readme", published=published).add_argument("folders", nargs="+")
    verb(stale, paths={"action": "store_true", "help": "print the files to compute again, for snakemake --forcerun"})
    verb(why, "cell", seed={"type": int, "help": "one seed; else all of params.yaml"}, published=published)
    on = {"default": "cpu", "help": "cpu, or a GPU's name as in a .run.json"}
    verb(plan, device=on).add_argument("folders", nargs="*", help="other folders whose measured times count")
    verb(check_cell, "cell", seed=seed)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code: 0, 2 for a user's error, 130 when interrupted."""
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.run(parsed) or 0
    except UserError as error:
        print(f"firstorder: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where, why = error.filename or "the system says", error.strerror or error
        print(f"firstorder: {where}: {why}; check the path, its permissions and the free space", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("firstorder: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
