# One command from nothing to tables and figures: `make help`, or `snakemake --list`.
# Run in a folder with a params.yaml: the top one (full length), reduced/ or quick/ (snakemake --directory).


rule all:
    default_target: True
    input:
        lambda wildcards: wanted_cells() + wanted_report(),


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule cells:
    """Every cell of params.yaml, for every seed."""
    input:
        lambda wildcards: wanted_cells(),


rule computed:
    """All that the report is made from: cells, and what figures draw beside them."""
    input:
        lambda wildcards: wanted_cells() + wanted_by_figures(),


rule report:
    """Tables, figures and the HTML page; with --config records=existing from what is recorded already."""
    input:
        lambda wildcards: wanted_report(),


# `make` takes the locks before the graph is made (firstorder hold); without it, whoever comes second is refused.
onstart:
    claim_the_folder()
