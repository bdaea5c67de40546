"""Each number in the README's prose is that of a record, a claim or a benchmark, or is known to be no result.

A sentence with measured numbers stands here once more as a template, with the function that gets its numbers from the
results in Git. So a number that is no longer true fails here, and so does a number without a source. What stands
between markers is written by `firstorder readme`, and is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from firstorder.report.claims.paper import Paper
from firstorder.settings import Project, checks

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

Values = dict[str, str]


@cache
def prose() -> str:
    """Return the README in one line, without generated sections, code, commands, and targets of links."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for pattern in (
        r"<!-- firstorder:begin (\S+) -->.*?<!-- firstorder:end \1 -->",
        r"^```.*?^```",
        r"^\| `make .*?$",
        r"`[^`]*`",
        r"\]\([^)]*\)",
    ):
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
    return " ".join(text.replace("|", " ").replace("**", "").split())


@cache
def csv(path: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / path)


@cache
def project(folder: str = ".") -> Project:
    return checks.load(ROOT / folder / "params.yaml")


def claim(name: str, folder: str = ".") -> Any:
    (line,) = csv(f"{folder}/results/claims.csv").query("id == @name").itertuples()
    return line


def span(values: pd.Series, form: str) -> tuple[str, str]:
    return format(values.min(), form), format(values.max(), form)


def reptile() -> Values:
    ours = csv("results/tables/table-2.csv").query("algorithm == 'reptile'")
    assert len(ours) == 8
    assert ours["difference_fraction"].abs().max() < 0.002
    (five,) = ours[ours["column"].str.startswith("omniglot-5way")]["seeds"].unique()
    (twenty,) = ours[ours["column"].str.startswith("omniglot-20way")]["seeds"].unique()
    return {"points": "0.2", "five": f"{five:.0f}", "twenty": f"{twenty:.0f}"}


def ceiling() -> Values:
    paper = Paper.of(ROOT, ROOT / "paper/published.csv")
    near = paper.claims.near_ceiling
    assert near is not None
    ours = csv("results/tables/table-2.csv").query("algorithm == 'reptile' and column == 'omniglot-5way/5shot'")
    low, high = span(100 - 100 * ours["paper_accuracy_fraction"], ".1f")
    return {"low": low, "high": high, "ratio": f"{near.error_ratio:g}"}


def above() -> Values:
    found = csv("results/tables/table-2.csv").query("algorithm in ['maml', 'fomaml']").dropna(subset="seeds")
    low, high = span(100 * found["difference_fraction"], ".1f")
    return {"low": low, "high": high}


def tuned_alike() -> Values:
    losses = csv("studies/sine/equal-budget/results/tables/sine.csv")
    last = losses[losses["inner_steps"] == losses["inner_steps"].max()].set_index("algorithm")
    folder = "studies/sine/equal-budget"
    no_worse = claim("equal-budget/reptile-is-no-worse", folder)
    assert no_worse.verdict == "holds"
    assert claim("equal-budget/maml-is-no-worse", folder).verdict == "inconclusive"
    shares = {name: 100 * claim(f"equal-budget/{name}-adapts", folder).judged_fraction for name in ("reptile", "maml")}
    return {
        "seeds": f"{last.loc['reptile', 'seeds']}",
        "reptile": f"{shares['reptile']:.1f}",
        "maml": f"{shares['maml']:.1f}",
        "bound": f"{100 * no_worse.bound:g}",
    }


def figure_3() -> Values:
    ends = csv("results/figures/figure-3.csv").query("panel == 'end'").set_index("training")
    joint = ends.pop("accuracy").mul(100)
    low, high = span(joint.drop("joint/omniglot-5way-g1"), ".0f")
    assert claim("figure-3/more-mini-batches-help-sums").verdict.startswith("holds")
    assert claim("figure-3/sums-gain-more").verdict.startswith("holds")
    (seeds,) = ends["seeds"].unique()
    return {"seeds": f"{seeds}", "joint": f"{joint['joint/omniglot-5way-g1']:.0f}", "low": low, "high": high}


def interval(line: Any) -> str:
    """Return points with their interval as the README has them."""
    judged, low, high = (100 * value for value in (line.judged_fraction, line.low_fraction, line.high_fraction))
    return f"{judged:+.2f} [{low:+.2f}, {high:+.2f}]"


def two_step() -> Values:
    found = {
        name: claim(f"learning-curves/two-step-reptile-below-fomaml-{name}", "studies/figure-3/two-step")
        for name in ("throughout", "finally")
    }
    whole, final = found.values()
    assert (whole.verdict, final.verdict) == ("holds", "fails")
    return {
        "seeds": f"{whole.seeds:.0f}",
        "whole": interval(whole),
        "final": interval(final),
        "fewer": f"{final.seeds:.0f}",
    }


def cosines() -> Values:
    """Cosines of Reptile's training for the tables; those of Figure 3's sum are in the report."""
    lines = csv("results/figures/section-5.csv").query(
        "panel == 'cosine' and training == 'reptile/omniglot-5way' and mini_batches == 'trained'"
    )
    each = lines[lines["pairs"] == "one task"].groupby(["algorithm", "seed"])["y"]
    before, after = span(each.first()["reptile"], ".2f"), span(each.last()["reptile"], ".2f")
    joint = each.last()["joint"].mean()
    balanced = csv("results/claims.csv").query(
        "id == 'theory/joint/cosine/balanced' and theory_training == 'reptile/omniglot-5way'"
    )
    assert balanced["verdict"].item() == "fails"
    way = project().trainings["reptile/omniglot-5way"].way
    return {
        "before": "-".join(before),
        "after": "-".join(after),
        "joint": f"{joint:.2f}",
        "counts": f"{-1 / (way - 1):.2f}",
        "balanced": f"{balanced['theory_measured'].item():.2f}",
    }


def side_by_side() -> Values:
    seconds = 0.0
    seeds = project().seeds
    for seed in seeds:
        run = json.loads((ROOT / f"results/curves/fomaml/omniglot-5way-1shot/seed-{seed}.run.json").read_text())
        assert "H200" in run["device"]
        seconds += run["seconds"]
    return {"seeds": f"{len(seeds)}", "time": f"{seconds // 60:.0f} min {seconds % 60:.0f} s"}


BENCHES = {
    "26": "amd-epyc-family-26-model-2-2-cores",
    "25": "amd-epyc-family-25-model-17-2-cores",
    "Xeon": "intel-r-xeon-r-processor-2-cores",
}


@cache
def side_by_side_of(machine: str) -> dict[tuple[str, str], Any]:
    """Return what a benchmark measured side by side, by workload and engine."""
    workloads = json.loads((ROOT / f"results/bench/{BENCHES[machine]}.json").read_text(encoding="utf-8"))["workloads"]
    return {
        (workload, engine): found["side by side"]
        for workload, engines in workloads.items()
        for engine, found in engines["engines"].items()
        if "side by side" in found
    }


def ratios(first: str, second: str) -> list[float]:
    """Return how many times as fast one engine is as another, for each workload and machine that has both."""
    return [
        found["median"] / measured[workload, second]["median"]
        for measured in map(side_by_side_of, BENCHES)
        for (workload, engine), found in measured.items()
        if engine == first and (workload, second) in measured
    ]


def speed() -> Values:
    new, old = (side_by_side_of(machine) for machine in ("26", "25"))
    plain, authors = ratios("native", "plain"), ratios("native", "authors")
    return {
        "ours": f"{new['W1', 'native']['median']:.0f}",
        "torch": f"{new['W1', 'plain']['median']:.0f}",
        "limit": f"{100 * new['W1', 'native']['fraction_of_limit']:.0f}",
        "older": f"{old['W1', 'native']['median']:.0f}",
        "authors": f"{old['W1', 'authors']['median']:.0f}",
        "mini": f"{old['W3', 'native']['median']:.1f}",
        "mini_authors": f"{old['W3', 'authors']['median']:.1f}",
        "plain_low": f"{min(plain):.1f}",
        "plain_high": f"{max(plain):.1f}",
        "authors_low": f"{min(authors):.1f}",
        "authors_high": f"{max(authors):.1f}",
    }


def slower() -> Values:
    """On Omniglot, where the engine is the same in all benchmarks."""
    fast = side_by_side_of("26")
    times = [
        found["median"] / measured["median"]
        for machine in ("25", "Xeon")
        for (workload, engine), measured in side_by_side_of(machine).items()
        if engine == "native" and not workload.startswith(("W3", "W5")) and (found := fast[workload, engine])
    ]
    return {"low": f"{min(times):.1f}", "high": f"{max(times):.1f}"}


SOURCED: list[tuple[str, Callable[[], Values]]] = [
    (
        "Reptile's eight are within {points} points of the paper: four of 5-way over {five} seeds, and four of 20-way "
        "with {twenty} seed, which",
        reptile,
    ),
    (
        'makes {low} to {high} % of errors, that is not enough for "equivalent": our margin there is {ratio} times',
        ceiling,
    ),
    ("FOMAML and MAML end {low} to {high} points above the paper", above),
    (
        "over {seeds} other seeds Reptile leaves {reptile} % of the loss of predicting 0, MAML {maml} %. Our claim "
        "that Reptile is no worse, up to {bound} %, holds",
        tuned_alike,
    ),
    ("at full length ({seeds} seeds): joint training ends at {joint} %, the others at {low} to {high} %", figure_3),
    (
        "[Over {seeds} paired seeds it depends on when one looks: over the whole curve FOMAML minus Reptile is {whole} "
        "points, in the final evaluation of 10,000 tasks {final} ({fewer} seeds). So the claim holds for the one and "
        "fails for the other",
        two_step,
    ),
    (
        "(cosine from {before} to {after}), which is the paper's explanation of its success. Under joint training the "
        "cosine falls to {joint}; class counts alone would give {counts}. In mini-batches with equally many images of "
        "each class it rises under joint training too (by {balanced})",
        cosines,
    ),
    (
        "Two cores of an AMD EPYC (family 26 model 2) do {ours} outer steps of Omniglot 5-way a second (PyTorch's "
        "autograd: {torch}), which is {limit} % of what their arithmetic allows; of family 25 they do {older}, the "
        "authors' code {authors}. On mini-ImageNet, where Winograd's method saves more than half of the "
        "multiplications, the latter do {mini}, and the authors' code {mini_authors}. By workload and machine the C "
        "engine is {plain_low} to {plain_high} times as fast as PyTorch's autograd, and {authors_low} to "
        "{authors_high} times as fast as the authors' code",
        speed,
    ),
    (
        "On an AMD EPYC of family 25 and on an Intel Xeon with matrix tiles, training on Omniglot takes {low} to "
        "{high} times as long, by their benchmarks",
        slower,
    ),
    ("the {seeds} seeds of FOMAML's 5-way 1-shot took {time} on an H200", side_by_side),
]
# No results: names, settings and arithmetic of the sentence itself.
OTHERS = [
    r"\bPython 3\.11 or newer",
    r"Figures? \d( to \d)?",
    r"[Ss]ection 5",
    r"Table 1",
    r"\d+-(way|shot)",
    r"near 99 %",
    r"Schulman, 2018",
    r"both 12 settings",
    r"2 other trainings",
    r"Reptile in 100 lines",
    r"10,000 tasks",
    r"Times are those on two cores of an AMD EPYC \(family 26 model 2\)",
    r"1 min, once",
    r"along 50 gradient steps",
]


@pytest.mark.parametrize(("template", "values"), SOURCED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_measured_number_is_that_of_the_results(template: str, values: Callable[[], Values]) -> None:
    assert template.format(**values()) in prose()


UNITS = {"s": 1, "min": 60}


def test_the_times_of_commands_are_those_measured() -> None:
    """Within a quarter, on the machine that the README names; what is not measured is not said to be."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| `(make .*?)` \| .* \| (\d+ (?:s|min)) \|$", text, re.MULTILINE))
    lines = csv("results/commands.csv").query("machine.str.contains('family 26 model 2')")
    measured = lines.set_index("command")["seconds"]
    assert set(stated) - set(measured.index) == {"make test", "make try FOLDER=path"}
    for command in stated.keys() & set(measured.index):
        number, unit = stated[command].split()
        assert int(number) * UNITS[unit] == pytest.approx(measured[command], rel=0.25), command
    (set_up,) = re.findall(r"after the set-up \((\d+) min, once\)", text)
    assert int(set_up) * 60 == pytest.approx(measured["set-up"], rel=0.25)
    assert "but for `make test` (about), and `make cell` and `make paper`" in text


def test_each_number_has_a_source() -> None:
    """The number that is left is named with what stands around it."""
    text = prose()
    for template, values in SOURCED:
        text = text.replace(template.format(**values()), " ")
    for pattern in OTHERS:
        assert re.search(pattern, text), f"{pattern} is not needed any more"
        text = re.sub(pattern, " ", text)
    left = [text[max(0, found.start() - 60) : found.end() + 40] for found in NUMBER.finditer(text)]
    assert not left
