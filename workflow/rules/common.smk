# Lists and names shared by the rules. No rules here; settings come from firstorder.settings alone, so that
# what Snakemake compares (params) is what the command line computes with and every record's digest covers.
import json
from pathlib import Path

from firstorder import params, settings

PROJECT = params.load("params.yaml")
# The repository, where paper/ and workflow/report/ are, seen from the working folder.
REPOSITORY = Path(os.path.relpath(Path(workflow.main_snakefile).parent))


wildcard_constraints:
    seed=r"\d+",
    dataset="|".join(map(re.escape, PROJECT.datasets)),
    training="|".join(map(re.escape, PROJECT.trainings)),
    evaluation="|".join(map(re.escape, PROJECT.evaluations)),
    table="|".join(map(re.escape, [*PROJECT.tables, "sine"])),
    figure="|".join(map(re.escape, PROJECT.figures)),


def record(evaluation, mode, seed):
    return settings.RECORD.format(evaluation=evaluation, mode=mode, seed=seed)


def wanted_cells():
    """Records of every cell and, where params.yaml has a section sine, Figure 1's numbers.

    With --config algorithms=reptile+untrained only the cells of those.
    """
    chosen = config["algorithms"].split("+") if "algorithms" in config else None
    cells = [record(*cell) for cell in PROJECT.cells() if not chosen or cell[0].split("/")[0] in chosen]
    return cells + ([settings.SINE_LOSSES, settings.SINE_FITS] if PROJECT.sine and not chosen else [])


def available(paths):
    """Leave out what is not recorded yet, if the report is to be made from what there is."""
    if config.get("records", "all") == "existing":
        return [path for path in paths if os.path.exists(path)]
    return paths


def shown_cells():
    """Records of every cell that the report is made from."""
    return available([record(*cell) for cell in PROJECT.cells()])


def cells_of_table(table):
    """Records that a table shows."""
    if table == "sine":
        return available([settings.SINE_LOSSES])
    shown = PROJECT.tables[table]
    names = {(f"{row.algorithm}/{column}", row.mode) for row in shown.rows for column in shown.columns}
    return available([record(*cell) for cell in PROJECT.cells() if cell[:2] in names])


def inputs_of_figure(figure):
    """Recorded files that a figure draws."""
    drawn = PROJECT.figures[figure]
    if drawn.kind == "sine":
        return available([settings.SINE_LOSSES, settings.SINE_FITS])
    curves = [
        settings.CURVE.format(training=training, seed=seed) for training in drawn.trainings for seed in PROJECT.seeds
    ]
    return available(curves) + [path for table in drawn.tables for path in cells_of_table(table)]


def wanted_report():
    tables = [*PROJECT.tables, *(["sine"] if PROJECT.sine else [])]
    return (
        [f"results/tables/{table}.csv" for table in tables]
        + [f"results/figures/{figure}.png" for figure in PROJECT.figures]
        + ["results/accuracies.csv", "results/claims.csv", "results/report.html"]
    )


def pack_of(training):
    return PROJECT.pack_path(PROJECT.trainings[training].dataset)


def training_of(evaluation):
    return PROJECT.evaluations[evaluation].training


def is_fresh(evaluation, mode, seed):
    """Say whether a cell is recorded with the very settings that params.yaml has now."""
    path = Path(record(evaluation, mode, seed))
    wanted = settings.digest(PROJECT.settings_of_evaluation(evaluation))
    return path.exists() and json.loads(path.read_text()).get("settings_digest") == wanted


def is_trained(training, seed):
    """Say whether a model lies there that was trained with the very settings that params.yaml has now."""
    names = {"training": training, "seed": seed}
    run = Path(settings.CURVE.format(**names)).with_suffix(".run.json")
    wanted = settings.digest(PROJECT.settings_of_training(training))
    made = Path(settings.MODEL.format(**names)).exists() and run.exists()
    return made and json.loads(run.read_text()).get("settings_digest") == wanted


def data_to_train(training, seed):
    """Pack that a training reads; nothing where it is done.

    Even as ancient input a missing pack, as after pulling a checkpoint, would train again.
    """
    return [] if is_trained(training, seed) else ancient(pack_of(training))


def model_of(evaluation, seed):
    """Model that an evaluation starts from.

    After a clone and a pull its time stamp means nothing, so a fresh record ignores it (ancient). A stale one must
    not: Snakemake looks at no other reason to evaluate once it has decided to train.
    """
    model = settings.MODEL.format(training=training_of(evaluation), seed=seed)
    fresh = all(is_fresh(evaluation, mode, seed) for mode in settings.MODES)
    return ancient(model) if fresh else model


def caption_of(name):
    """Text of a table's or figure's caption, which Snakemake's own report puts under it too."""
    return (REPOSITORY / f"workflow/report/{name}.rst").read_text(encoding="utf-8")


def settings_of(entries, name):
    """Settings of a table or figure as plain values; the sine table has none of its own."""
    return settings.resolved(entries[name]) if name in entries else {}
