"""Verbs of the studies: Figures 1 and 2, section 5, and probes of single evaluations."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from firstorder import progress, settings
from firstorder.cli import signals
from firstorder.cli.compute import stopped
from firstorder.cli.session import Session
from firstorder.cli.verbs import DEVICE, SEED, Arguments, argument, verb

if TYPE_CHECKING:
    from firstorder.records.study_files import StudyFile


def _resumable(session: Session, title: str, depends: dict[str, Any], compute: Callable[[StudyFile], None]) -> int:
    """Let `compute` work; return the exit code. What it keeps serves again as long as `depends` stays the same."""
    from firstorder.records.study_files import StudyFile

    identity = settings.digest({"study": title, "device": session.device.type, **depends})
    with signals.stopping() as stop:
        kept = StudyFile(session.root / f".work/studies/{identity}.safetensors", identity, stop)
        try:
            compute(kept)
        except progress.Stopped:
            return stopped(stop, f"{title} stopped")
    kept.discard()
    return 0


@verb("compute", argument("evaluation"), SEED, DEVICE)
def adaptation(arguments: Arguments) -> int:
    """Measure accuracy along the inner steps of an evaluation, by params.yaml's section `adaptations`."""
    from firstorder.records import unfinished
    from firstorder.studies import probes

    session, name = Session.of(arguments), arguments.evaluation
    resolved = session.project.settings_of_adaptation(name)
    entry = session.project.section("adaptations")[name]
    longest = replace(session.project.evaluations[name], tasks=entry.tasks, inner_steps=max(*entry.inner_steps, 1))
    trained = session.trained(name, longest, arguments.seed)
    path = settings.ADAPTATION.format(evaluation=name, seed=arguments.seed)

    def compute(kept: StudyFile) -> None:
        tasks = trained.problem, trained.checkpoint, trained.draws
        rows = probes.along(*tasks, entry.inner_steps, progress.shown, kept)
        run = session.run_information(kept.seconds) | trained.digests
        session.write(path, probes.ADAPTATION_COLUMNS, rows, run, resolved)
        unfinished.drop_checkpoint(session.root, session.project, longest.training, arguments.seed)

    depends = {"settings": resolved, **trained.digests, "engine": trained.problem.engine.name}
    return _resumable(session, path, depends, compute)


@verb("compute", argument("evaluation"), SEED, DEVICE)
def alphabets(arguments: Arguments) -> int:
    """Count confusions between alphabets in an evaluation, by params.yaml's section `alphabets`."""
    from firstorder.data import packs
    from firstorder.records import unfinished
    from firstorder.studies import probes

    session, name = Session.of(arguments), arguments.evaluation
    project = session.project
    resolved = project.settings_of_alphabets(name)
    chosen = replace(project.evaluations[name], tasks=project.section("alphabets")[name].tasks)
    dataset = project.trainings[chosen.training].dataset
    names = packs.meta_test_names(session.load_pack(dataset).pack, project.datasets[dataset], arguments.seed)
    of_classes = [known.rpartition("/")[0] for known in names]
    trained = session.trained(name, chosen, arguments.seed)
    path = settings.ALPHABETS.format(evaluation=name, seed=arguments.seed)

    def compute(kept: StudyFile) -> None:
        tasks = trained.problem, trained.checkpoint, trained.draws
        rows = probes.by_alphabet(*tasks, of_classes, progress.shown, kept)
        run = session.run_information(kept.seconds) | trained.digests
        session.write(path, probes.ALPHABET_COLUMNS, rows, run, resolved)
        unfinished.drop_checkpoint(session.root, project, chosen.training, arguments.seed)

    depends = {"settings": resolved, **trained.digests, "engine": trained.problem.engine.name}
    return _resumable(session, path, depends, compute)


@verb("compute")
def manifolds(arguments: Arguments) -> None:
    """Compute Figure 2: Reptile's iterates between two curves in the plane."""
    from firstorder.records import provenance
    from firstorder.studies import manifolds as module

    start, session = time.monotonic(), Session.of(arguments)
    resolved = session.project.settings_of_manifolds()
    rows = module.simulate(session.project.section("manifolds"))
    run = provenance.run_information(time.monotonic() - start, "cpu, 1 thread")  # no torch
    session.write(settings.MANIFOLD_POINTS, module.COLUMNS, rows, run, resolved)


@verb("compute")
def sine(arguments: Arguments) -> int:
    """Compute Figure 1: meta-train on sine waves, adapt to new ones, write losses and fits."""
    from firstorder.studies import sine as module

    session = Session.of(arguments)
    resolved = session.project.settings_of_sine()

    def compute(kept: StudyFile) -> None:
        losses, fits = module.simulate(session.project.section("sine"), progress.shown, kept)
        run = session.run_information(kept.seconds) | {"numerics_version": resolved["numerics_version"]}
        session.write(settings.SINE_LOSSES, module.LOSS_COLUMNS, losses, run, resolved)
        session.write(settings.SINE_FITS, module.FIT_COLUMNS, fits, run, resolved)

    return _resumable(session, "sine", {"settings": resolved}, compute)


@verb("compute")
def theory(arguments: Arguments) -> None:
    """Compute section 5: E[g] of MAML, FOMAML and Reptile over all mini-batch orders, and its expansion."""
    from firstorder.studies import theory as module

    start, session = time.monotonic(), Session.of(arguments)
    resolved = session.project.settings_of_theory()
    assert session.device.type == "cpu"  # opens the device, which configures torch
    rows = module.expand(session.project.section("theory").expansion, progress.shown)
    run = session.run_information(time.monotonic() - start) | {"numerics_version": resolved["numerics_version"]}
    session.write(settings.EXPANSION, module.COLUMNS, rows, run, resolved)


@verb("compute", argument("training"), SEED, DEVICE)
def inner_products(arguments: Arguments) -> int:
    """Measure inner products of a task's gradients during a training and its joint counterpart."""
    from firstorder.studies import inner_products as module

    session, name = Session.of(arguments), arguments.training
    resolved = session.project.settings_of_theory(name)
    chosen = session.project.section("theory").inner_products
    (problem,) = session.problems(name, [arguments.seed])
    engine = session.choice(name).name
    made_of = {
        "numerics_version": resolved["numerics_version"],
        "data_digest": session.load_pack(problem.settings.dataset).digest,
    }
    path = settings.INNER_PRODUCTS.format(training=name, seed=arguments.seed)

    def compute(kept: StudyFile) -> None:
        rows = module.compare(problem, chosen, progress.shown, kept)
        session.write(path, module.COLUMNS, rows, session.run_information(kept.seconds, engine) | made_of, resolved)

    return _resumable(session, path, {"settings": resolved, **made_of, "engine": engine}, compute)
