"""The verb `try`: Reptile on a folder of one's own images against random initialisation, in one command.

It makes a project of its own (a params.yaml, data, checkpoints, records), with which all other verbs work, and one
page. Everything is kept where it is done, so that a second call goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstorder import progress, settings
from firstorder.cli import attempt_settings, compute, data, output
from firstorder.cli.attempt_settings import Look, Speed, Wish
from firstorder.cli.session import Session
from firstorder.cli.verbs import DEVICE, ENGINE, THREADS, Arguments, argument, duration, verb, whole_number
from firstorder.errors import UserError, shown
from firstorder.files import Kind, replacing

if TYPE_CHECKING:
    from firstorder.data.packs import Pack
    from firstorder.settings import DatasetSettings

FOLDER = "tried/{name}"
PARAMS, WISH, PAGE = "params.yaml", "try.json", "index.html"
WISH_FILE = Kind("what `firstorder try` was asked", 1 << 20, "delete its folder and try again")
MEASURED_SECONDS = 3.0  # of outer steps, and of tasks, from which the length of the training is chosen
HEADING = "# Made by `firstorder try`. Edit it and use it as any params.yaml; docs/extend.md says how.\n"


@verb(
    "compute",
    argument("folder", help="your images: a folder, zip or tar with a folder for each class"),
    argument("--way", type=whole_number, default=5, help="classes per task"),
    argument("--shot", type=whole_number, default=1, help="labelled images per class"),
    argument("--minutes", type=duration("minutes"), default=5.0, help="about how long all of it may take"),
    argument(
        "--size", type=whole_number, help="images are resized to size x size pixels; default: 28 grey, 48 colours"
    ),
    argument("--channels", type=int, choices=(1, 3), help="1 grey, 3 colours; default: what the images have"),
    argument("--class-names", choices=("path",), help="path: folders of one name at two places are two classes"),
    argument("--out", help="folder of the results; default: tried/NAME"),
    DEVICE,
    ENGINE,
    THREADS,
)
def try_(arguments: Arguments) -> int:
    """Train Reptile on your own images for some minutes, compare it with random initialisation, write a page."""
    from firstorder.upkeep import locks

    if not arguments.folder:
        raise UserError("which images? Name their folder: firstorder try FOLDER, or make try FOLDER=path")
    source = Path(arguments.folder)
    wish = Wish(
        arguments.way, arguments.shot, arguments.minutes, arguments.size, arguments.channels, arguments.class_names
    )
    if wish.way < 2:
        raise UserError("--way: expected at least 2 classes per task, found 1")
    root = Path(arguments.out or FOLDER.format(name=attempt_settings.name_of(source)))
    _check_same(root, source, wish)
    with locks.held(root, locks.WHOLE, f"firstorder try {source}", _say):
        session = Session.of(argparse.Namespace(**{**vars(arguments), "params": str(root / PARAMS)}))
        return _try(session, arguments, source, wish)


def _try(session: Session, arguments: Arguments, source: Path, wish: Wish) -> int:
    """Do what is not done yet, and say what is there; return the exit code."""
    if not session.params.exists():
        _begin(session, source, wish)
    waiting = [name for name in session.project.evaluations if not _is_done(session, name)]
    _say(f"{'computing' if waiting else 'all is done'} in {session.root}")
    for name in waiting:
        if code := _compute(session, arguments, name):
            return code
    print(*map(output.typed, _finish(session, source)), sep="\n")
    return 0


def _check_same(root: Path, source: Path, wish: Wish) -> None:
    """Raise UserError if the folder of the results holds something else than this."""
    if not (root / WISH).exists():
        if root.exists() and any(path.name != ".work" for path in root.iterdir()):
            raise UserError(f"{root}: is there already and not of `firstorder try`; name another folder with --out")
        return
    asked, now = WISH_FILE.read_json(root / WISH), _asked(source, wish)
    for key, value in now.items():
        if asked.get(key) != value:
            raise UserError(
                f"{root}: was begun with {key} {asked.get(key)}, now it is {value}; name another folder with --out, "
                "or delete this one"
            )


def _asked(source: Path, wish: Wish) -> dict[str, Any]:
    """Return what was asked as it is kept in the folder of the results."""
    given = {key: value for key, value in vars(wish).items() if value is not None}
    return {"folder": str(source.resolve()), **given}


def _begin(session: Session, source: Path, wish: Wish) -> None:
    """Pack the images, measure the speed, and write params.yaml."""
    import json

    import yaml

    from firstorder.data import folder

    root, name = session.root, attempt_settings.name_of(source)
    look = attempt_settings.look_at(source, by_path=wish.class_names == "path")
    dataset = attempt_settings.dataset_of(look, wish, source)
    _say(_described(look, dataset))
    pack, census = folder.make_pack(source, dataset, track=progress.shown)
    reptile = attempt_settings.training_of(dataset, name, look, wish)
    speed = _measured(session, pack, dataset, reptile, wish)
    lengths = attempt_settings.lengths(speed, wish)
    reptile |= {"outer_steps": lengths["outer_steps"]}
    reptile["curve"] |= {"every": lengths["every"], "tasks": lengths["curve_tasks"]}
    title = f"{name}, {wish.way}-way {wish.shot}-shot"
    values = attempt_settings.params(name, title, dataset, reptile, wish, lengths["tasks"])
    _say(
        f"{speed.outer_step:.2g} s an outer step here, {speed.task:.2g} s a task: {lengths['outer_steps']:,} outer "
        f"steps, {lengths['tasks']:,} tasks each for Reptile and random initialisation"
    )
    with replacing(root / WISH) as part:
        part.write_text(json.dumps(_asked(source, wish), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    with replacing(root / PARAMS) as part:
        part.write_text(HEADING + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()):
            data.write_pack(_session_of(part, session), name, pack, census)


def _session_of(params: Path, session: Session) -> Session:
    """Return a session of settings that are written but not in their place yet; their folder is the same."""
    return Session(params, session.requested_device)


def _described(look: Look, dataset: DatasetSettings) -> str:
    counts = look.counts.values()
    many = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{min(counts)}"
    split = "by your folders" if look.by_folders else f"{dataset.meta_train_classes} of them for meta-training"
    kind = "grey" if look.grey else "coloured"
    return (
        f"{len(look.counts)} classes of {many} images, {kind}, about {look.side} pixels; split: {split}; packed as "
        f"{dataset.channels}x{dataset.size}x{dataset.size}"
    )


def _measured(session: Session, pack: Pack, dataset: DatasetSettings, reptile: dict[str, Any], wish: Wish) -> Speed:
    """Measure how long an outer step and a task of an evaluation take here."""
    from firstorder.data import packs
    from firstorder.engines.choice import Wish as EngineWish
    from firstorder.engines.choice import choose
    from firstorder.method import evaluation, training
    from firstorder.method.images import ImagePool
    from firstorder.method.tasks import Draws
    from firstorder.settings.schema import build
    from firstorder.settings.trainings import EvaluationSettings, TrainingSettings

    chosen = build(TrainingSettings, reptile, "firstorder try")
    cut = packs.make_pools(pack, dataset, attempt_settings.SEED)
    of = {"meta-train": cut.meta_train, "meta-test": cut.meta_test}
    pools = {
        key: ImagePool.of(images, cut.scale, session.device, 1, cut.counts.get(key.replace("-", "_")))
        for key, images in of.items()
    }
    engine = choose(
        EngineWish(name=session.requested_engine, device=session.device, threads=session.requested_threads), chosen
    ).engine
    problem = training.Problem("speed", chosen, attempt_settings.SEED, pools, engine)
    state, inner = training.start(problem), problem.inner
    shot = EvaluationSettings(training="", shot=wish.shot, tasks=1, **attempt_settings.inner_loop(wish))
    shape = evaluation.evaluation_shape(pools["meta-test"], wish.way, shot)
    lanes = engine.lanes_at_once(pools["meta-test"], shape, state.parameters)
    checkpoint = training.checkpoint_of(problem, state, {})

    def evaluate() -> None:
        draws = Draws(title="", shape=shape, seed=0, purpose="speed", step=0, tasks=lanes)
        evaluation.evaluate(inner, checkpoint, pools["meta-test"], draws)

    return Speed(_seconds(lambda: training.outer_step(problem, inner, state)), _seconds(evaluate) / lanes)


def _seconds(action: Any) -> float:
    """Return the seconds of an action, from several calls after a first one, which may set things up."""
    action()
    begun, calls = time.monotonic(), 0
    while calls < 1 or (time.monotonic() - begun < MEASURED_SECONDS and calls < 100):
        action()
        calls += 1
    return (time.monotonic() - begun) / calls


def _is_done(session: Session, evaluation: str) -> bool:
    """Say whether both cells of an evaluation are recorded with these settings."""
    from firstorder.records import freshness

    cells = [freshness.cell(session.project, evaluation, mode, attempt_settings.SEED) for mode in settings.MODES]
    return all(
        (session.root / cell.path).exists() and freshness.difference(session.root, cell) is None for cell in cells
    )


def _compute(session: Session, arguments: Arguments, evaluation: str) -> int:
    """Train and evaluate; return the exit code of what was stopped, or 0."""
    project, seed = session.project, attempt_settings.SEED
    options = {**vars(arguments), "params": str(session.params), "overrides": []}
    options |= {"compile": False, "again": False, "time_limit": None}
    training = project.evaluations[evaluation].training
    with contextlib.redirect_stdout(io.StringIO()):
        trained = compute.train(argparse.Namespace(**options, training=training, seed=[seed]))
        return trained or compute.evaluate(argparse.Namespace(**options, evaluation=evaluation, seed=seed)) or 0


def _finish(session: Session, source: Path) -> list[str]:
    """Write the page and return what is said at the end: the accuracies, the verdicts, and what to do next."""
    from firstorder.cli.attempt_pictures import pictures
    from firstorder.report.text import attempt_page

    root, project = session.root, session.project
    (dataset,) = project.datasets
    pack = session.load_pack(dataset).pack
    found = attempt_page.results(root, project)
    lines = attempt_page.sentences(found)
    following = _next(session, source)
    path = attempt_page.write(root / PAGE, root, project, pictures(pack, project, attempt_settings.SEED), following)
    said = [f"{project.title}: accuracy in % on classes that no training saw, with 95 % intervals over tasks", *lines]
    return [*said, f"page: {shown(path)}", "next:", *(f"  {what}: {command}" for what, command in following)]


def _next(session: Session, source: Path) -> list[tuple[str, str]]:
    """Say what can be done next, each with its command."""
    root, project = session.root, session.project
    training = next(iter(project.trainings))
    model = root / settings.MODEL.format(training=training, seed=attempt_settings.SEED)
    params = output.params_option(session.params)
    longer = shlex.quote(f"{root}-longer")
    return [
        ("train longer", f"firstorder try {shlex.quote(str(source))} --minutes 60 --out {longer}"),
        ("change one setting", f"firstorder train {training} --seed 0 --set inner_steps=8{params}"),
        ("draw tables and figures of it", _report_command(root)),
        ("classify images of your own with it", f'firstorder.load("{model}"), docs/extend.md'),
    ]


def _report_command(root: Path) -> str:
    """Return the command that draws the report of a folder; its Makefile is in a clone, not in an installed package."""
    clone = Path(__file__).parents[3]
    if not (clone / "Makefile").is_file():
        return f"in a clone of firstorder: make report DIR={shlex.quote(str(root.resolve()))}"
    if output.is_typed_here() and Path.cwd() == clone:
        return f"make report DIR={shlex.quote(str(root))}"
    return f"make -C {shlex.quote(str(clone))} report DIR={shlex.quote(str(root.resolve()))}"


def _say(text: str) -> None:
    output.say(shown(text))
