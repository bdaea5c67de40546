rule evaluate:
    """Adapt to new tasks and record both modes; adaptation is the same for them, so it is done once."""
    input:
        pack=lambda wildcards: ancient(pack_of(training_of(wildcards.evaluation))),
        model=lambda wildcards: model_of(wildcards.evaluation, wildcards.seed),
    output:
        **{mode: settings.RECORD.replace("{mode}", mode) for mode in settings.MODES},
    log:
        "logs/evaluate/{evaluation}/seed-{seed}.log",
    conda:
        "../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        settings=lambda wildcards: PROJECT.settings_of_evaluation(wildcards.evaluation),
    shell:
        "python -m firstorder evaluate {wildcards.evaluation} --seed {wildcards.seed} 2>&1 | tee {log}"
