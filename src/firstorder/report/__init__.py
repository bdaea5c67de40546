"""Turn records and curves into tables, figures and pages.

Nothing here imports torch or opens a data set, so a clone can write all of it again in seconds. Every `write` takes
`root`, the folder of params.yaml, reads the records below it and refuses stale ones. An accuracy is a fraction in
every frame and CSV file; percent appears only in print.
"""

# What the report writes, relative to the folder that holds params.yaml.
ACCURACIES = "results/accuracies.csv"
METRICS = "results/metrics.json"
TABLE = "results/tables/{name}.{suffix}"
CLAIMS = "results/claims.{suffix}"
FIGURE = "results/figures/{name}.{suffix}"
PAGE = "results/report.html"
