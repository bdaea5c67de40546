# Functions and names shared by the rules; no rules. Settings come from firstorder.settings, so that the params that
# Snakemake compares are those that the command line computes with and that each record's digest covers. Whether a
# result is fresh is decided by firstorder.records.freshness, as for `firstorder stale`.
import functools
from pathlib import Path

from snakemake.io import IOFile

from firstorder import settings
from firstorder.errors import UserError
from firstorder.records import freshness
from firstorder.report.text import captions
from firstorder.settings import checks
from firstorder.upkeep import locks, passing, without_times

PROJECT = checks.load("params.yaml")
without_times.tell_once(logger, Path())
# The repository, with paper/ and workflow/report/, relative to the working folder.
REPOSITORY = Path(os.path.relpath(Path(workflow.main_snakefile).parent))

# The device of the rules that train and evaluate, and the cards that each of their jobs has to itself. The profiles for
# GPUs say --config device=cuda; make does so where there are GPUs.
DEVICE = config.get("device", "cpu")
GPUS = 1 if DEVICE == "cuda" else 0
# Whether one job trains all missing seeds of a training side by side (--config seeds=together). On a GPU that takes about
# as long as one seed. On a cluster each seed is a job of its own, since the node does not know what else is missing.
TOGETHER = config.get("seeds") == "together" and GPUS


# A job writes to the terminal and to its log. A signal for all processes at once (Ctrl-C, a batch system) must not end
# what passes its last lines on: the shell waits for the job, and tee for the end of its input.
shell.prefix("set -euo pipefail; trap : INT TERM HUP; ")  # the first is what Snakemake itself sets
LOGGED = "2>&1 | (trap '' INT TERM HUP; exec tee {log:q})"


wildcard_constraints:
    seed=r"\d+",
    dataset="|".join(map(re.escape, PROJECT.datasets)),
    training="|".join(map(re.escape, PROJECT.trainings)),
    evaluation="|".join(map(re.escape, PROJECT.evaluations)),
    table="|".join(map(re.escape, [*PROJECT.tables, "sine", "theory"])),
    figure="|".join(map(re.escape, PROJECT.figures)),


def record(evaluation, mode, seed):
    return settings.RECORD.format(evaluation=evaluation, mode=mode, seed=seed)


def wanted_cells():
    """Records of every cell, and the results of the studies in params.yaml.

    With --config algorithms=reptile+untrained only the cells of those algorithms.
    """
    if "algorithms" in config:
        algorithms = PROJECT.algorithms_named(config["algorithms"])
        return [record(*cell) for cell in PROJECT.cells() if cell[0].split("/")[0] in algorithms]
    cells = [record(*cell) for cell in PROJECT.cells()]
    return cells + simulations() + expansions() + inner_products() + probes()


def simulations():
    """Results of Figures 1 and 2, if params.yaml has their sections."""
    sine = [settings.SINE_LOSSES, settings.SINE_FITS] if PROJECT.sine else []
    return sine + ([settings.MANIFOLD_POINTS] if PROJECT.manifolds else [])


def probes():
    """Results of probes: accuracy along the inner steps of evaluations, and errors by alphabet."""
    return [
        path.format(evaluation=name, seed=seed)
        for path, names in ((settings.ADAPTATION, PROJECT.adaptations), (settings.ALPHABETS, PROJECT.alphabets))
        for name in names or {}
        for seed in PROJECT.seeds
    ]


def judged_curves():
    """Learning curves that claims are judged by: those of Figures 3 and 4."""
    kinds = ("combinations", "sweeps")
    figures = [name for name, figure in PROJECT.figures.items() if figure.kind in kinds]
    return list(dict.fromkeys(curve for name in figures for curve in curves_of_figure(name)))


def curves_of_figure(figure):
    """Learning curves that a figure shows."""
    names = PROJECT.trainings_of_figure(figure)
    return [settings.CURVE.format(training=name, seed=seed) for name in names for seed in PROJECT.seeds]


def expansions():
    """Result of section 5's expansion, if params.yaml has a section `theory`."""
    return [settings.EXPANSION] if PROJECT.theory else []


def inner_products():
    """Results of section 5's inner products, if params.yaml has a section `theory`."""
    trainings = PROJECT.theory.inner_products.trainings if PROJECT.theory else ()
    return [settings.INNER_PRODUCTS.format(training=name, seed=seed) for name in trainings for seed in PROJECT.seeds]


def available(paths):
    """Drop missing results if the report is to be made from the existing ones only."""
    if config.get("records", "all") == "existing":
        return [path for path in paths if os.path.exists(path)]
    return paths


def shown_cells():
    """Records of every cell that the report shows."""
    return available([record(*cell) for cell in PROJECT.cells()])


def judged():
    """Results that claims are judged by."""
    return shown_cells() + available(expansions() + inner_products() + simulations() + judged_curves())


def cells_of_table(table):
    """Results that a table shows."""
    if table == "sine":
        return available([settings.SINE_LOSSES])
    if table == "theory":
        return available(expansions())
    shown = PROJECT.tables[table]
    names = {(f"{row.algorithm}/{column}", row.mode) for row in shown.rows for column in shown.columns}
    return available([record(*cell) for cell in PROJECT.cells() if cell[:2] in names])


def inputs_of_figure(figure):
    """Results that a figure shows."""
    drawn = PROJECT.figures[figure]
    if drawn.kind == "sine":
        return available([settings.SINE_LOSSES, settings.SINE_FITS])
    if drawn.kind == "theory":
        return available(expansions() + inner_products())
    if drawn.kind == "manifolds":
        return available([settings.MANIFOLD_POINTS])
    if drawn.evaluations:
        path = {"adaptation": settings.ADAPTATION, "alphabets": settings.ALPHABETS}[drawn.kind]
        return available(
            [path.format(evaluation=name, seed=seed) for name in drawn.evaluations for seed in PROJECT.seeds]
        )
    return available(curves_of_figure(figure)) + [path for table in drawn.tables for path in cells_of_table(table)]


def wanted_by_figures():
    """Results that the figures show."""
    return [path for figure in PROJECT.figures for path in inputs_of_figure(figure)]


def wanted_report():
    """Every table and figure, the accuracies, the claims and the HTML page."""
    tables = [*PROJECT.tables, *(name for name in ("sine", "theory") if getattr(PROJECT, name))]
    return (
        [f"results/tables/{table}.csv" for table in tables]
        + [f"results/figures/{figure}.png" for figure in PROJECT.figures]
        + ["results/accuracies.csv", "results/claims.csv", "results/report.html"]
    )


def pack_of(training):
    return PROJECT.pack_path(PROJECT.trainings[training].dataset)


def training_of(evaluation):
    return PROJECT.evaluations[evaluation].training


@functools.cache
def expected():
    """Every result that is computed for params.yaml, by its path."""
    return {item.path: item for item in freshness.everything(PROJECT)}


@functools.cache
def is_fresh(path):
    """Say whether a result exists and was computed with the present settings and data.

    A record is fresh only together with that of the other mode, as one evaluation computes both. A result that
    --forcerun names is never fresh.
    """
    forced = getattr(workflow.dag_settings, "forcerun", ())
    together = {path}
    if path.endswith(".json"):
        evaluation = expected()[path].about.rpartition("/")[0]
        together = {record(evaluation, mode, expected()[path].seed) for mode in settings.MODES}
    return all(
        path not in forced and os.path.exists(path) and freshness.difference(Path(), expected()[path]) is None
        for path in together
    )


@functools.cache
def is_trained(training, seed):
    return freshness.is_trained(Path(), PROJECT, training, int(seed))


@functools.cache
def to_do():
    """Results that the workflow will compute: those that are named or, if none is, all that are wanted and not fresh."""
    named = set(workflow.dag_settings.targets)
    wanted = named & set(expected()) or wanted_cells() + ([] if "cells" in named else wanted_by_figures())
    return [expected()[path] for path in set(wanted) if path in expected() and not is_fresh(path)]


@functools.cache
def to_train():
    """Trainings that the workflow will run, each with its seeds in ascending order."""
    stale = to_do()
    paths = {item.path for item in stale}
    every = [(training, seed) for training in PROJECT.trainings for seed in PROJECT.seeds]
    curves = {each for each in every if settings.CURVE.format(training=each[0], seed=each[1]) in paths}
    found = {}
    for training, seed in sorted(curves | {(item.training, item.seed) for item in stale if item.training}):
        if not is_trained(training, seed):
            found.setdefault(training, []).append(seed)
    return found


def first_seed(wildcards):
    """Return the first missing seed of a training if its job trains the others too, and this is one of them."""
    seeds = to_train().get(wildcards.training, []) if TOGETHER else []
    return seeds[0] if int(wildcards.seed) in seeds else None


def seeds_beside(wildcards):
    """Return the seeds that a job trains beside its own: all other missing ones, if it is that of the first."""
    first = first_seed(wildcards)
    others = [seed for seed in to_train()[wildcards.training] if seed != first] if first is not None else []
    return " ".join(map(str, others)) if first == int(wildcards.seed) else ""


def trained_before(wildcards):
    """Return the checkpoint that a job waits for: that of the first missing seed, whose job trains this one too.

    When it is there, so is that of this job, which then has nothing to compute. It is `ancient`, as this one is not
    made from it.
    """
    first = first_seed(wildcards)
    if first is None or first == int(wildcards.seed):
        return []
    return ancient(settings.MODEL.format(training=wildcards.training, seed=first))


@functools.cache
def threads_each(verb):
    """Return the threads of one job that trains or evaluates (`verb`); engine native has a use for them.

    The cores are shared among the jobs of this kind that the workflow will run: many get one thread each, one gets all.
    Results have the same bytes with any number of threads. On a GPU one is enough, and so it is on a cluster, where
    --set-threads train=N may ask for more.
    """
    if GPUS or not workflow.resource_settings.cores or workflow.remote_exec:
        return 1
    if verb == "train":
        return max(1, workflow.cores // max(1, sum(map(len, to_train().values()))))
    evaluations = {(os.path.dirname(item.about), item.seed) for item in to_do() if item.path.endswith(".json")}
    return max(1, workflow.cores // max(1, len(evaluations)))


def unless_fresh(path, needed):
    """Return the inputs of a computation, or none if its result is fresh.

    Snakemake would create a missing input even if it is `ancient`: a clone without data and checkpoints would compute
    everything again.
    """
    return [] if is_fresh(path) else needed


def cell_of(wildcards):
    """Record of one of the two cells that an evaluation computes."""
    return record(wildcards.evaluation, settings.MODES[0], wildcards.seed)


def model_of(wildcards):
    """Checkpoint that an evaluation starts from. It is not `ancient`, as it may be retrained in the same workflow."""
    return settings.MODEL.format(training=training_of(wildcards.evaluation), seed=wildcards.seed)


def shown(output, paths):
    """Return the results that a table or figure shows, as inputs.

    Time stamps mean nothing after a clone. If Snakemake has no metadata of an existing output, it is redrawn only if
    one of its inputs is recomputed in this workflow.
    """
    known = not os.path.exists(output) or workflow.persistence.metadata(IOFile(output)) is not None
    return paths if known else [ancient(path) if is_fresh(path) else path for path in paths]


def caption_of(name):
    """Text of a table's or figure's caption; Snakemake's own report shows it too."""
    return captions.read(Path(), REPOSITORY / "workflow/report", name)


def settings_of(entries, name):
    """Settings of a table or figure as plain values; empty for `sine` and `theory`, which have no entry."""
    return settings.resolved(entries[name]) if name in entries else {}


def claim_the_folder():
    """Take the folder's locks unless `firstorder hold` has done so; fail if another command holds them."""
    if locks.HELD not in os.environ:
        try:
            locks.take(Path(), locks.WHOLE, "snakemake", logger.info, wait=False)
        except UserError as refused:
            raise WorkflowError(str(refused)) from None
