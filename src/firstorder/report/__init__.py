"""Below the line between computing and reporting: records and curves in, tables, figures and pages out.

Nothing here imports torch or opens a data set, so everything it writes can be written again from a clone in
seconds. Every `write` takes `root`, the folder of params.yaml, reads the records below it anew, and refuses
stale ones. An accuracy is a fraction in every frame and CSV; percent appears only in print.
"""

# What the report writes, relative to the folder that holds params.yaml.
ACCURACIES = "results/accuracies.csv"
METRICS = "results/metrics.json"
TABLE = "results/tables/{name}.{suffix}"
CLAIMS = "results/claims.{suffix}"
FIGURE = "results/figures/{name}.{suffix}"
PAGE = "results/report.html"
