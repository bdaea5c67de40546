# The whole pipeline, from downloading the data to tables and figures. See `make help` or `snakemake --list`.
# Works in a folder with a params.yaml: this one (full length), or another, such as reduced/ (snakemake --directory).


# The first page of Snakemake's own report (snakemake --report).
report: "workflow/workflow.rst"


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
    """The records of every cell of params.yaml, for every seed."""
    input:
        lambda wildcards: wanted_cells(),


rule computed:
    """All results that the report needs: the records of the cells, and those that only figures show."""
    input:
        lambda wildcards: wanted_cells() + wanted_by_figures(),


rule report:
    """Tables, figures and the HTML page; with --config records=existing from the existing results only."""
    input:
        lambda wildcards: wanted_report(),


# `make` takes the locks before it starts Snakemake (firstorder hold). Plain `snakemake` takes them here, and fails if
# another command holds them.
onstart:
    claim_the_folder()
    passing.pass_on()
