"""Reporting works where torch cannot be imported and there is no data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.report.test_published import PUBLISHED
from tests.synthetic_records import ONE_SHOT, make_project, store_curve, store_record, store_sine

PROGRAM = """
import sys
from pathlib import Path

sys.modules["torch"] = None  # from here on `import torch` fails

from firstorder.report.claims import claim_tables
from firstorder.report.figures import figures
from firstorder.report.read import accuracies
from firstorder.report.site import site
from firstorder.report.text import page, readme, tables, why
from firstorder.settings import checks
from firstorder.upkeep import plan, plan_text

root, published, captions = (Path(argument) for argument in sys.argv[1:])
project = checks.load(root / "params.yaml")
accuracies.write(root, project)
for name in tables.names(project):
    tables.write(root, project, name, published)
for name in project.figures:
    figures.write(root, project, name, published)
claim_tables.write(root, project, published)
page.write(root, project, captions)
paths = {"published": published, "captions": captions, "benchmarks": root / "results/bench"}
request = site.Request(projects={root: project}, published_files={}, **paths)
site.write(request, root / "site")
assert why.explain(root, project, f"{next(iter(project.evaluations))}/inductive", (0,), published)
assert plan_text.describe(plan.make(root, plan.Device("cpu", "here")))
readme.update(root / "README.md", [root], published)
rooms = ("firstorder.data.", "firstorder.engines.", "firstorder.records.checkpoints")
loaded = {name for name in sys.modules if name.startswith(rooms)}
assert not loaded, loaded
"""


def test_everything_is_written_without_torch_or_data(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: [0, 0, 0, 0, 50, 50]})
    store_curve(tmp_path, 0, {0: 0.2, 500: 0.8})
    store_sine(tmp_path)
    markers = "<!-- firstorder:begin table-2 -->\n<!-- firstorder:end table-2 -->\n"
    (tmp_path / "README.md").write_text(markers, encoding="utf-8")
    captions = PUBLISHED.parents[1] / "workflow" / "report"
    arguments = [sys.executable, "-W", "error", "-c", PROGRAM, tmp_path, PUBLISHED, captions]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "data").exists()
    written = {path.relative_to(tmp_path / "results").as_posix() for path in tmp_path.glob("results/**/*.*")}
    assert (tmp_path / "site/index.html").exists()
    assert {
        "accuracies.csv",
        "tables/table-2.tex",
        "tables/sine.md",
        "claims.csv",
        "figures/figure-1.pdf",
        "report.html",
    } <= written
