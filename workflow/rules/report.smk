# The reporting part of the pipeline: it needs neither torch nor data, and takes seconds.
PUBLISHED = str(REPOSITORY / "paper/published.csv")
# A study with claims of its own is judged by those alone.
CLAIMS = "claims.yaml" if os.path.exists("claims.yaml") else str(REPOSITORY / "paper/claims.yaml")
CAPTIONS = str(REPOSITORY / "workflow/report")
# A figure refuses a missing or incomplete curve, unless it is to be drawn from the existing results.
WHOLE = "" if config.get("records", "all") == "existing" else "--whole"
# --config stale=marked shows stale results with a mark instead of refusing them.
MARK = "--allow-stale" if config.get("stale", "refused") == "marked" else ""


rule accuracies:
    """Collect the records of all cells in one tidy table."""
    input:
        records=lambda wildcards: shown("results/accuracies.csv", shown_cells()),
    output:
        # `update`: the old files stay if the new ones are refused.
        accuracies=update("results/accuracies.csv"),
        metrics=update("results/metrics.json"),
    log:
        "logs/report/accuracies.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=500,
    params:
        shown=lambda wildcards: shown_cells(),
    shell:
        f"python -m firstorder accuracies {MARK}" " > {log:q} 2>&1 || (cat {log:q}; exit 1)"


rule table:
    """Write one table, with the paper's numbers beside ours."""
    input:
        records=lambda wildcards: shown(f"results/tables/{wildcards.table}.csv", cells_of_table(wildcards.table)),
        published=ancient(PUBLISHED),
        claims=ancient(CLAIMS),
    output:
        csv=report(
            update("results/tables/{table}.csv"),
            caption="../caption.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        markdown=update("results/tables/{table}.md"),
        latex=update("results/tables/{table}.tex"),
    log:
        "logs/report/table-{table}.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=500,
    params:
        caption=lambda wildcards: caption_of(wildcards.table),
        length=lambda wildcards: PROJECT.length,
        shown=lambda wildcards: cells_of_table(wildcards.table),
        settings=lambda wildcards: settings_of(PROJECT.tables, wildcards.table),
    shell:
        f"python -m firstorder table {{wildcards.table:q}} --published={{input.published:q}} {MARK}"
        " > {log:q} 2>&1 || (cat {log:q}; exit 1)"


rule claims:
    """Judge the paper's claims about the results of params.yaml."""
    input:
        recorded=lambda wildcards: shown("results/claims.csv", judged()),
        published=ancient(PUBLISHED),
        claims=ancient(CLAIMS),
    output:
        csv=report(
            update("results/claims.csv"),
            caption="../caption.rst",
            category="Claims",
        ),
        markdown=update("results/claims.md"),
    log:
        "logs/report/claims.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=500,
    params:
        caption=caption_of("claims"),
        shown=lambda wildcards: judged(),
        length=lambda wildcards: PROJECT.length,
    shell:
        f"python -m firstorder claims --published={{input.published:q}} {MARK}"
        " > {log:q} 2>&1 || (cat {log:q}; exit 1)"


rule figure:
    """Draw one figure and write its data as CSV."""
    input:
        recorded=lambda wildcards: shown(f"results/figures/{wildcards.figure}.png", inputs_of_figure(wildcards.figure)),
        published=ancient(PUBLISHED),
        claims=ancient(CLAIMS),
    output:
        png=report(
            update("results/figures/{figure}.png"),
            caption="../caption.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf=update("results/figures/{figure}.pdf"),
        csv=update("results/figures/{figure}.csv"),
    log:
        "logs/report/figure-{figure}.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=500,
    params:
        caption=lambda wildcards: caption_of(wildcards.figure),
        shown=lambda wildcards: inputs_of_figure(wildcards.figure),
        settings=lambda wildcards: settings_of(PROJECT.figures, wildcards.figure),
    shell:
        f"python -m firstorder figure {{wildcards.figure:q}} --published={{input.published:q}} {WHOLE} {MARK}"
        " > {log:q} 2>&1 || (cat {log:q}; exit 1)"


rule page:
    """Write the HTML page with all tables and figures."""
    input:
        shown=[path for path in wanted_report() if not path.endswith((".html", "accuracies.csv"))],
        accuracies=rules.accuracies.output.accuracies,
    output:
        html=update("results/report.html"),
    log:
        "logs/report/page.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=500,
    params:
        captions=CAPTIONS,
    shell:
        f"python -m firstorder page --captions={{params.captions:q}} {MARK}" " > {log:q} 2>&1 || (cat {log:q}; exit 1)"
