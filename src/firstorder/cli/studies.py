"""Verbs of the studies: Figures 1 and 2, section 5, and probes of single evaluations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from firstorder import progress, settings
from firstorder.cli import signals
from firstorder.cli.compute import stopped
from firstorder.cli.session import Session
from firstorder.cli.verbs import DEVICE, SEED, Arguments, argument, verb

if TYPE_CHECKING:
    from firstorder.method.images import ImagePool
    from firstorder.method.tasks import Draws
    from firstorder.records.study_files import StudyFile
    from firstorder.studies.probes import Model

Rows = list[list[Any]]


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
    from firstorder.studies import probes

    session, name = Session.of(arguments), arguments.evaluation
    resolved = session.project.settings_of_adaptation(name)
    entry = (session.project.adaptations or {})[name]

    def measure(model: Model, pool: ImagePool, draws: Draws, kept: progress.Kept) -> Rows:
        return probes.along(model, pool, draws, entry.inner_steps, progress.shown, kept)

    lengths = {"tasks": entry.tasks, "inner_steps": max(*entry.inner_steps, 1)}
    path = settings.ADAPTATION.format(evaluation=name, seed=arguments.seed)
    return _measure(session, Probe(name, arguments.seed, lengths, measure, path, probes.ADAPTATION_COLUMNS, resolved))


@verb("compute", argument("evaluation"), SEED, DEVICE)
def alphabets(arguments: Arguments) -> int:
    """Count confusions between alphabets in an evaluation, by params.yaml's section `alphabets`."""
    from firstorder.data import packs
    from firstorder.studies import probes

    session, name = Session.of(arguments), arguments.evaluation
    project = session.project
    resolved = project.settings_of_alphabets(name)
    entry = (project.alphabets or {})[name]
    dataset = project.trainings[project.evaluations[name].training].dataset
    names = packs.meta_test_names(session.load_pack(dataset).pack, project.datasets[dataset], arguments.seed)

    def measure(model: Model, pool: ImagePool, draws: Draws, kept: progress.Kept) -> Rows:
        of_classes = [known.rpartition("/")[0] for known in names]
        return probes.by_alphabet(model, pool, draws, of_classes, progress.shown, kept)

    path = settings.ALPHABETS.format(evaluation=name, seed=arguments.seed)
    lengths = {"tasks": entry.tasks}
    return _measure(session, Probe(name, arguments.seed, lengths, measure, path, probes.ALPHABET_COLUMNS, resolved))


@dataclass(frozen=True)
class Probe:
    """A measurement in an evaluation on the first of its tasks; `lengths` replace settings of the evaluation."""

    evaluation: str
    seed: int
    lengths: dict[str, Any]
    measure: Callable[[Model, ImagePool, Draws, progress.Kept], Rows]
    path: str
    columns: Sequence[str]
    resolved: dict[str, Any]


def _measure(session: Session, probe: Probe) -> int:
    """Carry out a probe and write its rows and their run file."""
    from firstorder.records import unfinished
    from firstorder.studies import probes

    chosen = replace(session.project.evaluations[probe.evaluation], **probe.lengths)
    trained = session.trained(probe.evaluation, chosen, probe.seed)
    model = probes.Model(trained.problem.inner, trained.checkpoint)

    def compute(kept: StudyFile) -> None:
        rows = probe.measure(model, trained.problem.pools["meta-test"], trained.draws, kept)
        session.write(
            probe.path, probe.columns, rows, session.run_information(kept.seconds) | trained.digests, probe.resolved
        )
        unfinished.drop_checkpoint(session.root, session.project, chosen.training, probe.seed)

    depends = {"settings": probe.resolved, **trained.digests, "engine": trained.problem.engine.name}
    return _resumable(session, probe.path, depends, compute)


@verb("compute")
def manifolds(arguments: Arguments) -> None:
    """Compute Figure 2: Reptile's iterates between two curves in the plane."""
    from firstorder.records import provenance
    from firstorder.studies import manifolds as module

    start = time.monotonic()
    session = Session.of(arguments)
    resolved = session.project.settings_of_manifolds()
    assert session.project.manifolds is not None  # settings_of_... has refused a params.yaml without it
    rows = module.simulate(session.project.manifolds)
    run = provenance.run_information(time.monotonic() - start, "cpu, 1 thread")  # no torch
    session.write(settings.MANIFOLD_POINTS, module.COLUMNS, rows, run, resolved)


@verb("compute")
def sine(arguments: Arguments) -> int:
    """Compute Figure 1: meta-train on sine waves, adapt to new ones, write losses and fits."""
    from firstorder.studies import sine as module

    session = Session.of(arguments)
    resolved = session.project.settings_of_sine()
    chosen = session.project.sine
    assert chosen is not None  # settings_of_... has refused a params.yaml without it

    def compute(kept: StudyFile) -> None:
        losses, fits = module.simulate(chosen, progress.shown, kept)
        run = session.run_information(kept.seconds) | {"numerics_version": resolved["numerics_version"]}
        session.write(settings.SINE_LOSSES, module.LOSS_COLUMNS, losses, run, resolved)
        session.write(settings.SINE_FITS, module.FIT_COLUMNS, fits, run, resolved)

    return _resumable(session, "sine", {"settings": resolved}, compute)


@verb("compute")
def theory(arguments: Arguments) -> None:
    """Compute section 5: E[g] of MAML, FOMAML and Reptile over all mini-batch orders, and its expansion."""
    from firstorder.studies import theory as module

    start = time.monotonic()
    session = Session.of(arguments)
    resolved = session.project.settings_of_theory()
    assert session.project.theory is not None  # settings_of_... has refused a params.yaml without it
    assert session.device.type == "cpu"  # opens the device, which configures torch
    rows = module.expand(session.project.theory.expansion, progress.shown)
    run = session.run_information(time.monotonic() - start) | {"numerics_version": resolved["numerics_version"]}
    session.write(settings.EXPANSION, module.COLUMNS, rows, run, resolved)


@verb("compute", argument("training"), SEED, DEVICE)
def inner_products(arguments: Arguments) -> int:
    """Measure inner products of a task's gradients during a training and its joint counterpart."""
    from firstorder.studies import inner_products as module

    session, name = Session.of(arguments), arguments.training
    resolved = session.project.settings_of_theory(name)
    section = session.project.theory
    assert section is not None  # settings_of_... has refused a params.yaml without it
    (problem,) = session.problems(name, [arguments.seed])
    engine = session.choice(name).name
    made_of = {
        "numerics_version": resolved["numerics_version"],
        "data_digest": session.load_pack(problem.settings.dataset).digest,
    }
    path = settings.INNER_PRODUCTS.format(training=name, seed=arguments.seed)

    def compute(kept: StudyFile) -> None:
        rows = module.compare(problem, section.inner_products, progress.shown, kept)
        session.write(path, module.COLUMNS, rows, session.run_information(kept.seconds, engine) | made_of, resolved)

    return _resumable(session, path, {"settings": resolved, **made_of, "engine": engine}, compute)
