"""Verbs of the studies: Figures 1 and 2, section 5, and probes of single evaluations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from firstorder import progress, settings
from firstorder.cli import signals
from firstorder.cli.compute import stopped
from firstorder.cli.session import Session, Trained
from firstorder.cli.verbs import DEVICE, EVALUATION, SEED, TRAINING, Arguments, verb
from firstorder.errors import lacks_memory
from firstorder.settings import columns

if TYPE_CHECKING:
    from firstorder.records.freshness import Expected
    from firstorder.records.study_files import StudyFile


def _resumable(session: Session, title: str, depends: dict[str, Any], compute: Callable[[StudyFile], None]) -> int:
    """Let `compute` work; return the exit code. What it keeps serves again as long as `depends` stays the same."""
    from firstorder.records.study_files import StudyFile

    identity = settings.digest({"study": title, "device": session.device.type, **depends})
    with signals.stopping() as stop:
        kept = StudyFile(session.root / f".work/studies/{identity}.safetensors", identity, stop)
        try:
            try:
                compute(kept)
            except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                if not kept.is_resumed or lacks_memory(error):
                    raise
                kept.put_aside(error)  # what was kept is not what this study keeps
                compute(kept)
        except progress.Stopped:
            return stopped(stop, f"{title} stopped")
    kept.discard()
    return 0


def _probe(
    session: Session, trained: Trained, expected: Expected, names: Sequence[str], probe: Callable[..., Any]
) -> int:
    """Probe an evaluation, write the file that is `expected`, with columns `names`, and return the exit code."""
    from firstorder.records import unfinished

    problem, resolved = trained.problem, expected.wanted

    def compute(kept: StudyFile) -> None:
        rows = probe(problem, trained.checkpoint, trained.draws, track=progress.shown, kept=kept)
        whose = {"evaluation": expected.about, "training": problem.name, "seed": problem.seed}
        run = session.run_information(kept.seconds) | trained.digests | whose
        session.write(expected.path, names, rows, run, resolved)
        unfinished.drop_checkpoint(session.root, session.project, problem.name, problem.seed)

    depends = {"settings": resolved, **trained.digests, "engine": problem.engine.name}
    return _resumable(session, expected.path, depends, compute)


@verb("compute", EVALUATION, SEED, DEVICE)
def adaptation(arguments: Arguments) -> int:
    """Measure accuracy along the inner steps of an evaluation, by params.yaml's section `adaptations`."""
    from firstorder.records import freshness
    from firstorder.studies import probes

    session, name = Session.of(arguments), arguments.evaluation
    expected = freshness.adaptation(session.project, name, arguments.seed)
    entry = session.project.section("adaptations")[name]
    longest = replace(session.project.evaluations[name], tasks=entry.tasks, inner_steps=max(*entry.inner_steps, 1))
    trained = session.trained(name, longest, arguments.seed)
    return _probe(session, trained, expected, columns.ADAPTATION, partial(probes.along, inner_steps=entry.inner_steps))


@verb("compute", EVALUATION, SEED, DEVICE)
def alphabets(arguments: Arguments) -> int:
    """Count confusions between alphabets in an evaluation, by params.yaml's section `alphabets`."""
    from firstorder.data import packs
    from firstorder.records import freshness
    from firstorder.studies import probes

    session, name = Session.of(arguments), arguments.evaluation
    project = session.project
    expected = freshness.alphabets(project, name, arguments.seed)
    chosen = replace(project.evaluations[name], tasks=project.section("alphabets")[name].tasks)
    dataset = project.trainings[chosen.training].dataset
    names = packs.meta_test_names(session.load_pack(dataset).pack, project.datasets[dataset], arguments.seed)
    of_classes = [known.rpartition("/")[0] for known in names]
    trained = session.trained(name, chosen, arguments.seed)
    return _probe(session, trained, expected, columns.ALPHABETS, partial(probes.by_alphabet, alphabets=of_classes))


@verb("compute")
def manifolds(arguments: Arguments) -> None:
    """Compute Figure 2: Reptile's iterates between two curves in the plane."""
    from firstorder.records import provenance
    from firstorder.studies import manifolds as module

    start, session = time.monotonic(), Session.of(arguments)
    resolved = session.project.settings_of_manifolds()
    rows = module.simulate(session.project.section("manifolds"))
    run = provenance.run_information(time.monotonic() - start, "cpu, 1 thread")  # no torch
    session.write(settings.MANIFOLD_POINTS, columns.MANIFOLD_POINTS, rows, run, resolved)


@verb("compute")
def sine(arguments: Arguments) -> int:
    """Compute Figure 1: meta-train on sine waves, adapt to new ones, write losses and fits."""
    from firstorder.studies import sine as module

    session = Session.of(arguments)
    resolved = session.project.settings_of_sine()

    def compute(kept: StudyFile) -> None:
        losses, fits = module.simulate(session.project.section("sine"), progress.shown, kept)
        run = session.run_information(kept.seconds) | {"numerics_version": resolved["numerics_version"]}
        session.write(settings.SINE_LOSSES, columns.SINE_LOSSES, losses, run, resolved)
        session.write(settings.SINE_FITS, columns.SINE_FITS, fits, run, resolved)

    return _resumable(session, "sine", {"settings": resolved}, compute)


@verb("compute")
def theory(arguments: Arguments) -> None:
    """Compute section 5: E[g] of MAML, FOMAML and Reptile over all mini-batch orders, and its expansion."""
    from firstorder.studies import theory as module

    start, session = time.monotonic(), Session.of(arguments)
    resolved = session.project.settings_of_theory()
    session.open_device()  # configures torch
    rows = module.expand(session.project.section("theory").expansion, progress.shown)
    run = session.run_information(time.monotonic() - start) | {"numerics_version": resolved["numerics_version"]}
    session.write(settings.EXPANSION, columns.EXPANSION, rows, run, resolved)


@verb("compute", TRAINING, SEED, DEVICE)
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
        whose = {"training": name, "seed": arguments.seed}
        run = session.run_information(kept.seconds, engine) | made_of | whose
        session.write(path, columns.INNER_PRODUCTS, rows, run, resolved)

    return _resumable(session, path, {"settings": resolved, **made_of, "engine": engine}, compute)
