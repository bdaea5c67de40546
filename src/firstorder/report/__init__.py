"""Turn records and curves into tables, figures and pages.

Nothing here imports torch or opens a data set, so a clone can write all of it again in seconds. Every `write` takes
`root`, the folder of params.yaml, reads the records below it and refuses stale ones. An accuracy is a fraction in
every frame and CSV file; percent appears only in print.
"""

from firstorder.files import Kind

# What the report writes, relative to the folder that holds params.yaml.
ACCURACIES = "results/accuracies.csv"
METRICS = "results/metrics.json"
TABLE = "results/tables/{name}.{suffix}"
CLAIMS = "results/claims.{suffix}"
FIGURE = "results/figures/{name}.{suffix}"
PAGE = "results/report.html"
BADGE = "results/badges/{name}.svg"

# What it reads beside records: text by hand, and results of the benchmark.
TEXT_FILE = Kind("a text in UTF-8", 16 << 20, "restore it (git checkout -- {path}) or save it as UTF-8")
FIGURE_FILE = Kind("a figure", 64 << 20, "draw it again: make report", "no such figure; write it first: make report")
FIGURE_NUMBERS = Kind(
    "the numbers of a figure", 64 << 20, "draw it again: make report", "no such file; write it first: make report"
)
BENCH_FILE = Kind("a result of the benchmark", 16 << 20, "restore it (git checkout) or measure again: make bench")
