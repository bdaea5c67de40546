"""Verbs that check results against params.yaml, data and digests."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from firstorder import progress, settings
from firstorder.cli.output import params_option, say, typed
from firstorder.cli.session import Session
from firstorder.cli.verbs import CELL, SEED, Argument, Arguments, argument, seed_number, verb
from firstorder.errors import UserError

if TYPE_CHECKING:
    from firstorder.records.freshness import Expected
    from firstorder.settings import Project

# Which results: one cell, the cells of some algorithms, or everything.
SELECTION: tuple[Argument, ...] = (
    argument("--cell", help="this cell only; needs --seed"),
    argument("--seed", type=seed_number, help="seed of the cell"),
    argument("--algorithms", help="cells of these only, such as reptile+untrained"),
)


@verb(
    "check",
    *SELECTION,
    argument("--paths", action="store_true", help="print only the files to compute again, for snakemake --forcerun"),
)
def stale(arguments: Arguments) -> int:
    """List stale results, each with its first difference; exit code 1 if there are any."""
    session = Session.of(arguments)
    found = stale_of(session, arguments)
    if arguments.paths:
        print(*paths_of(session, [item for item, _ in found]))
        return 0
    for item, difference in found:
        print(f"{item.name}: {difference}")
    return 1 if found else 0


def stale_of(session: Session, arguments: Arguments) -> list[tuple[Expected, str]]:
    """List the stale results among those that the arguments of SELECTION name, each with its first difference."""
    from firstorder.records import freshness

    if arguments.cell is not None:
        cell = cell_of(session, arguments)
        difference = freshness.difference(session.root, cell)
        return [] if difference is None else [(cell, difference)]
    found = freshness.stale(session.root, session.project)
    if not arguments.algorithms:
        return found
    algorithms = session.project.algorithms_named(arguments.algorithms)
    return [(item, difference) for item, difference in found if item.about.split("/")[0] in algorithms]


def paths_of(session: Session, chosen: list[Expected]) -> list[str]:
    """List the files to compute again for these results."""
    from firstorder.records import freshness

    return sorted({path for item in chosen for path in freshness.paths_to_rebuild(session.root, session.project, item)})


def cells_of(session: Session, arguments: Arguments) -> list[Expected]:
    """List the cells that the arguments of SELECTION name."""
    from firstorder.records import freshness

    if arguments.cell is not None:
        return [cell_of(session, arguments)]
    project = session.project
    algorithms = project.algorithms_named(arguments.algorithms) if arguments.algorithms else None
    return [
        freshness.cell(project, *cell)
        for cell in project.cells()
        if algorithms is None or cell.evaluation.split("/")[0] in algorithms
    ]


def check_named(session: Session, cell: str) -> None:
    """Raise UserError with an example if make was given no CELL."""
    if not cell:
        example = next((f"{evaluation}/{mode}" for evaluation, mode, _ in session.project.cells()), "")
        raise UserError(
            f"which cell? Name one, like: CELL={example} SEED=0; make cell computes it, make why traces it "
            "(or a verdict: make why CLAIM=fail); firstorder plan lists the evaluations"
        )


def cell_of(session: Session, arguments: Arguments) -> Expected:
    """Return the cell named by --cell and --seed; raises UserError if params.yaml lists no such cell or seed."""
    from firstorder.records import freshness

    project = session.project
    check_named(session, arguments.cell)
    known = {f"{evaluation}/{mode}": (evaluation, mode) for evaluation, mode, _ in project.cells()}
    evaluation, mode = settings.lookup(known, arguments.cell, "cell")
    if arguments.seed is None:
        raise UserError(f"{arguments.cell}: which seed? Give --seed, one of {', '.join(map(str, project.seeds))}")
    session.check_seeds([arguments.seed])
    return freshness.cell(project, evaluation, mode, arguments.seed)


def check_copy(session: Session, cell: str) -> None:
    """Raise UserError if a cell has to be computed from a user's own copy or images, and there are none."""
    from firstorder.data.folder import RAW

    project = session.project
    dataset = project.trainings[project.evaluations[cell.rpartition("/")[0]].training].dataset
    name, path = project.dataset_name(dataset), session.root / project.pack_path(dataset)
    is_mini = project.datasets[dataset].source == "mini_imagenet"
    raw = session.root / project.data_folder / RAW.format(dataset=name)
    given = bool(os.environ.get("MINI_IMAGENET")) if is_mini else raw.exists()
    if not project.datasets[dataset].is_yours or given or path.exists():
        return
    add = f"make cell CELL={cell} MINI_IMAGENET=PATH" if is_mini else f"put them in {raw}"
    raise UserError(
        f"{cell} needs {path}, made of {'your own copy of mini-ImageNet' if is_mini else 'your own images'}: {add}, or "
        f"first: firstorder data {name} --source PATH{params_option(session.params)} (docs/data.md)"
    )


@verb("check", argument("folders", nargs="*", help="folders with a params.yaml; default: that of --params"))
def verify(arguments: Arguments) -> int:
    """Rehash data, checkpoints and records and compare with their digests; exit code 1 on a mismatch."""
    from firstorder.upkeep import verify as module

    session = Session.of(arguments)
    folders: dict[Path, Project | None] = {Path(folder): None for folder in arguments.folders}
    folders = folders or {session.root: session.project}
    verification = module.verify(folders, progress.shown)
    print(*(typed(mismatch.text) for mismatch in verification.mismatches), *verification.summary(), sep="\n")
    return 1 if verification.mismatches else 0


@verb("internal", CELL, SEED)
def check_cell(arguments: Arguments) -> None:
    """Say whether a cell of params.yaml is fresh, stale or missing; refuse an unknown or edited cell."""
    from firstorder.records import freshness

    session = Session.of(arguments)
    cell = cell_of(session, arguments)
    difference = freshness.difference(session.root, cell)
    exists, forced = (session.root / cell.path).exists(), getattr(arguments, "force", False)
    if difference is not None or not exists or forced:
        check_copy(session, arguments.cell)
        if difference is None:
            _tell_published(session, arguments.cell, arguments.seed)
    state = f"fresh{', computed again as asked' if forced else ''}" if exists else "not computed yet"
    print(f"{cell.name}: {state if difference is None else f'stale, {difference}'}")


def _tell_published(session: Session, cell: str, seed: int) -> None:
    """Say how to get a cell's checkpoint if it is published but not here: without it the training is computed again."""
    from firstorder.upkeep import published_files

    model, _ = session.outputs_of(session.project.evaluations[cell.rpartition("/")[0]].training, seed)
    if not model.exists():
        with suppress(UserError):
            published_files.find(model)
            say(f"{model}: published, but not here, so it is trained again; to use it, run: dvc pull {model}.dvc")
