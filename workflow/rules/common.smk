# Lists and names shared by the rules. No rules here; settings come from firstorder.settings alone, so that
# what Snakemake compares (params) is what the command line computes with and every record's digest covers.
# What is recorded and how is asked of firstorder.records.freshness, as by `firstorder stale`.
import functools
from pathlib import Path

from snakemake.io import IOFile

from firstorder import settings
from firstorder.errors import UserError
from firstorder.records import freshness
from firstorder.settings import checks
from firstorder.upkeep import locks

PROJECT = checks.load("params.yaml")
# The repository, where paper/ and workflow/report/ are, seen from the working folder.
REPOSITORY = Path(os.path.relpath(Path(workflow.main_snakefile).parent))


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
    """Records of every cell and, where params.yaml has these sections, Figure 1's numbers and section 5's.

    With --config algorithms=reptile+untrained only the cells of those.
    """
    chosen = config["algorithms"].split("+") if "algorithms" in config else None
    cells = [record(*cell) for cell in PROJECT.cells() if not chosen or cell[0].split("/")[0] in chosen]
    others = simulations() + expansions() + inner_products() + beside_evaluations()
    return cells + (others if not chosen else [])


def simulations():
    """Records of Figures 1 and 2, where params.yaml has their sections."""
    sine = [settings.SINE_LOSSES, settings.SINE_FITS] if PROJECT.sine else []
    return sine + ([settings.MANIFOLD_POINTS] if PROJECT.manifolds else [])


def beside_evaluations():
    """Records of accuracy along evaluations, and of errors by alphabet."""
    return [
        path.format(evaluation=name, seed=seed)
        for path, names in ((settings.ADAPTATION, PROJECT.adaptations), (settings.ALPHABETS, PROJECT.alphabets))
        for name in names or {}
        for seed in PROJECT.seeds
    ]


def judged_curves():
    """Curves that claims may be about: those of Figures 3 and 4."""
    kinds = ("combinations", "sweeps")
    figures = [name for name, figure in PROJECT.figures.items() if figure.kind in kinds]
    return list(dict.fromkeys(curve for name in figures for curve in curves_of_figure(name)))


def curves_of_figure(figure):
    """Learning curves that a figure draws."""
    names = PROJECT.trainings_of_figure(figure)
    return [settings.CURVE.format(training=name, seed=seed) for name in names for seed in PROJECT.seeds]


def expansions():
    """Record of the expansion of section 5, where params.yaml has a section theory."""
    return [settings.EXPANSION] if PROJECT.theory else []


def inner_products():
    """Records of the inner products of section 5, where params.yaml has a section theory."""
    trainings = PROJECT.theory.inner_products.trainings if PROJECT.theory else ()
    return [settings.INNER_PRODUCTS.format(training=name, seed=seed) for name in trainings for seed in PROJECT.seeds]


def available(paths):
    """Leave out what is not recorded yet, if the report is to be made from what there is."""
    if config.get("records", "all") == "existing":
        return [path for path in paths if os.path.exists(path)]
    return paths


def shown_cells():
    """Records of every cell that the report is made from."""
    return available([record(*cell) for cell in PROJECT.cells()])


def judged():
    """Recorded files that claims may be about."""
    return shown_cells() + available(expansions() + inner_products() + simulations() + judged_curves())


def cells_of_table(table):
    """Records that a table shows."""
    if table == "sine":
        return available([settings.SINE_LOSSES])
    if table == "theory":
        return available(expansions())
    shown = PROJECT.tables[table]
    names = {(f"{row.algorithm}/{column}", row.mode) for row in shown.rows for column in shown.columns}
    return available([record(*cell) for cell in PROJECT.cells() if cell[:2] in names])


def inputs_of_figure(figure):
    """Recorded files that a figure draws."""
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
    """Recorded files that the figures draw."""
    return [path for figure in PROJECT.figures for path in inputs_of_figure(figure)]


def wanted_report():
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
def recorded():
    """Every file that is computed for params.yaml, by its path."""
    return {item.path: item for item in freshness.everything(PROJECT)}


@functools.cache
def is_fresh(path):
    """Say whether a file, and what is made with it, is recorded with the very settings and data of now.

    One that is to be computed all the same is not fresh.
    """
    forced = getattr(workflow.dag_settings, "forcerun", ())
    together = {path}
    if path.endswith(".json"):  # an evaluation makes its cells of both modes
        evaluation = recorded()[path].about.rpartition("/")[0]
        together = {record(evaluation, mode, recorded()[path].seed) for mode in settings.MODES}
    return all(
        path not in forced and os.path.exists(path) and freshness.difference(Path(), recorded()[path]) is None
        for path in together
    )


@functools.cache
def is_trained(training, seed):
    return freshness.is_trained(Path(), PROJECT, training, int(seed))


def unless_fresh(path, needed):
    """Files that a computation needs; none where what it makes is fresh.

    So a clone without data and models computes nothing: even as ancient input a missing file is made.
    """
    return [] if is_fresh(path) else needed


def cell_of(wildcards):
    """One of the records that an evaluation makes."""
    return record(wildcards.evaluation, settings.MODES[0], wildcards.seed)


def model_of(wildcards):
    """Model that an evaluation starts from. Its time stamp counts: it may be trained in the same run."""
    return settings.MODEL.format(training=training_of(wildcards.evaluation), seed=wildcards.seed)


def shown(output, paths):
    """Recorded files that a table or figure shows.

    Where Snakemake has no memory of it, as in a clone, time stamps tell nothing: only what is computed again then
    draws it again.
    """
    known = not os.path.exists(output) or workflow.persistence.metadata(IOFile(output)) is not None
    return paths if known else [ancient(path) if is_fresh(path) else path for path in paths]


def caption_of(name):
    """Text of a table's or figure's caption, which Snakemake's own report puts under it too."""
    return (REPOSITORY / f"workflow/report/{name}.rst").read_text(encoding="utf-8")


def settings_of(entries, name):
    """Settings of a table or figure as plain values; the sine table has none of its own."""
    return settings.resolved(entries[name]) if name in entries else {}


def claim_the_folder():
    """Take the folder's locks, unless `firstorder hold` has done so; refuse where somebody else has them."""
    if locks.HELD not in os.environ:
        try:
            locks.take(Path(), locks.WHOLE, "snakemake", logger.info, wait=False)
        except UserError as refused:
            raise WorkflowError(str(refused)) from None
