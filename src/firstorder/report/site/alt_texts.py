"""What is seen in a figure, in words made from the numbers behind it: for those who cannot see the picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from firstorder.report import FIGURE
from firstorder.report.figures.alphabets import rates
from firstorder.report.figures.theory_figure import ONE_TASK
from firstorder.report.read import csv_frames
from firstorder.report.text.formatting import algorithm_label, percent, training_label

_TRAINED = "trained"  # mini-batches as they are used in training
NOTHING = "An empty figure: nothing is recorded yet."


def of_figure(root: Path, name: str, kind: str) -> str:
    """Describe the figure `name` of a kind from its CSV file, in one or two sentences."""
    describe, columns = _KINDS[kind]
    frame = csv_frames.read(root / FIGURE.format(name=name, suffix="csv"), columns)
    return describe(frame) if len(frame) else NOTHING


def _curves(frame: pd.DataFrame) -> str:
    parts = []
    for training, lines in frame.dropna(subset="accuracy").groupby("training", sort=False):
        shown = lines[(lines["pool"] == "meta-test") & (lines["mode"] == "inductive")].sort_values("outer_step")
        if len(shown):
            parts.append(f"{training_label(str(training))} {_from_to(shown['accuracy'])}")
    if not parts:
        return NOTHING
    return f"Inductive accuracy on meta-test classes against outer steps: {'; '.join(parts)}.{_missing(frame)}"


def _accuracies(frame: pd.DataFrame) -> str:
    stated = frame[frame["paper_accuracy_fraction"].notna()]
    if stated.empty:
        run = frame.dropna(subset="accuracy_fraction")
        found = ", ".join(f"{line.row} {line.column} {percent(line.accuracy_fraction)} %" for line in run.itertuples())
        return f"Our accuracies as points: {found or 'none is run'}."
    run = stated[stated["accuracy_fraction"].notna()]
    if run.empty:
        return f"The paper's {len(stated)} accuracies as points with intervals; none of ours is run."
    differences = (run["accuracy_fraction"] - run["paper_accuracy_fraction"]) * 100
    return (
        f"The paper's {len(stated)} accuracies as points with intervals, and ours beside {len(run)} of them: "
        f"{int((differences > 0).sum())} of ours are higher, by at most {max(differences.max(), 0):.2f} points, and "
        f"{int((differences < 0).sum())} lower, by at most {max(-differences.min(), 0):.2f}."
    )


def _combinations(frame: pd.DataFrame) -> str:
    end = frame[(frame["panel"] == "end") & frame["accuracy"].notna()]
    if end.empty:
        return NOTHING
    words = {"sum": "their sum", "mean": "their mean", "last": "the last one", "first": "the first one"}
    parts = []
    for follows, lines in end.groupby("follows", sort=False):
        found = ", ".join(f"k = {line.k}: {percent(line.accuracy)} %" for line in lines.itertuples())
        parts.append(f"{words.get(str(follows), str(follows))} ({found})")
    of_all = frame[frame["panel"] == "end"]
    return f"Final accuracy by which of the k gradients the outer step follows: {'; '.join(parts)}.{_missing(of_all)}"


def _sweeps(frame: pd.DataFrame) -> str:
    parts = []
    for varied, lines in frame.groupby("sweep", sort=False):
        found = lines.dropna(subset="accuracy")
        best = found.loc[found["accuracy"].idxmax()] if len(found) else None
        what = (
            "nothing run"
            if best is None
            else f"best {percent(best['accuracy'])} % ({best['label']} at {best['value']:g})"
        )
        parts.append(f"{str(varied).replace('-', ' ')}: {what}")
    return f"Final accuracy while one hyper-parameter varies. {'; '.join(parts)}.{_missing(frame)}"


def _adaptation(frame: pd.DataFrame) -> str:
    parts = []
    for (evaluation, mode), lines in frame.dropna(subset="accuracy").groupby(["evaluation", "mode"], sort=False):
        parts.append(
            f"{training_label(str(evaluation))}, {mode}, {_from_to(lines.sort_values('inner_steps')['accuracy'])}"
        )
    missing = frame[frame["accuracy"].isna()]["evaluation"].nunique()
    rest = f" Not run: {missing} of {frame['evaluation'].nunique()} evaluations." if missing else ""
    return f"Accuracy against inner steps, from none to the most: {'; '.join(parts)}.{rest}" if parts else NOTHING


def _alphabets(frame: pd.DataFrame) -> str:
    parts = []
    for evaluation, lines in frame.groupby("evaluation", sort=False):
        shares = rates(lines).sum(axis=1)
        worst = ", ".join(f"{str(name).replace('_', ' ')} {percent(share)} %" for name, share in shares.head(3).items())
        none = int((shares == 0).sum())
        parts.append(f"{training_label(str(evaluation))}: most in {worst}; none in {none} of {len(shares)} alphabets")
    return f"Bars of wrong answers by alphabet, and a map of which alphabet was answered. {'. '.join(parts)}."


def _sine(frame: pd.DataFrame) -> str:
    parts = []
    for algorithm, lines in frame[frame["panel"] == "loss"].groupby("algorithm", sort=False):
        ordered = lines.sort_values("x")
        first, last = ordered.iloc[0], ordered.iloc[-1]
        parts.append(
            f"{algorithm_label(str(algorithm))} from {first['y']:.2f} to {last['y']:.3g} ({last['x']:g} steps)"
        )
    drawn = frame[frame["panel"] == "fit"]["task"].nunique()
    fits = f"{drawn} sine waves with each network's prediction before and after adapting."
    return f"{fits} Below, the mean squared error against inner steps: {'; '.join(parts)}." if parts else fits


def _manifolds(frame: pd.DataFrame) -> str:
    path = frame[frame["what"] == "iterate"].sort_values("outer_step")
    first, last = path.iloc[0], path.iloc[-1]
    return (
        f"Two curves in a plane and Reptile's path between them, {last['outer_step']:g} outer steps: "
        f"from ({first['x']:.2f}, {first['y']:.2f}) to ({last['x']:.2f}, {last['y']:.2f}), close to both curves."
    )


def _theory(frame: pd.DataFrame) -> str:
    coefficients = frame[frame["panel"].isin(["average", "inner"])]
    parts = []
    if len(coefficients):
        most = ((coefficients["y"] - coefficients["stated"]).abs()).max()
        parts.append(f"Measured coefficients lie on the paper's lines: none is further away than {most:.1g}")
    cosine = frame[(frame["panel"] == "cosine") & (frame["pairs"] == ONE_TASK) & (frame["mini_batches"] == _TRAINED)]
    for (training, algorithm), lines in cosine.groupby(["training", "algorithm"], sort=False):
        means = lines.groupby("x")["y"].mean()
        parts.append(
            f"cosine of two mini-batches' gradients, {algorithm_label(str(algorithm))} with the settings of "
            f"{training_label(str(training))}: "
            f"{means.iloc[0]:.3f} at the start, {means.iloc[-1]:.3f} at the end"
        )
    return f"{'; '.join(parts)}." if parts else NOTHING


def _from_to(accuracies: pd.Series) -> str:
    return f"from {percent(accuracies.iloc[0])} to {percent(accuracies.iloc[-1])} %"


def _missing(frame: pd.DataFrame) -> str:
    """Say how many of the figure's trainings have no accuracy."""
    run = frame["accuracy"].notna().groupby(frame["training"]).any()
    return "" if run.all() else f" {int(run.sum())} of {len(run)} trainings are run."


_KINDS: dict[str, tuple[Callable[[pd.DataFrame], str], tuple[str, ...]]] = {
    "curves": (_curves, ("training", "pool", "mode", "outer_step", "accuracy")),
    "accuracies": (_accuracies, ("row", "column", "paper_accuracy_fraction", "accuracy_fraction")),
    "combinations": (_combinations, ("panel", "training", "follows", "k", "accuracy")),
    "sweeps": (_sweeps, ("sweep", "label", "value", "training", "accuracy")),
    "adaptation": (_adaptation, ("evaluation", "mode", "inner_steps", "accuracy")),
    "alphabets": (_alphabets, ("evaluation", "alphabet", "answered", "queries", "offered", "errors")),
    "sine": (_sine, ("panel", "task", "algorithm", "x", "y")),
    "manifolds": (_manifolds, ("what", "outer_step", "x", "y")),
    "theory": (_theory, ("panel", "training", "algorithm", "mini_batches", "pairs", "x", "y", "stated")),
}
