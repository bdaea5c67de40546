rule evaluate:
    """Evaluate one training, shot and seed in both modes, which share the adaptation to each task."""
    input:
        pack=lambda wildcards: unless_fresh(cell_of(wildcards), ancient(pack_of(training_of(wildcards.evaluation)))),
        model=lambda wildcards: unless_fresh(cell_of(wildcards), model_of(wildcards)),
    output:
        **{mode: update(settings.RECORD.replace("{mode}", mode)) for mode in settings.MODES},
    log:
        "logs/evaluate/{evaluation}/seed-{seed}.log",
    conda:
        "../envs/compute.yaml"
    threads: lambda wildcards: threads_each("evaluate")
    resources:
        mem_mb=2000,
        gpu=GPUS,
        device=DEVICE,
    params:
        settings=lambda wildcards: PROJECT.settings_of_evaluation(wildcards.evaluation),
    shell:
        "OMP_NUM_THREADS=1 python -m firstorder evaluate {wildcards.evaluation:q} --seed {wildcards.seed:q} --threads {threads} --device {resources.device} "
        f"{LOGGED}"


rule adaptation:
    """Measure accuracy along the inner steps of an evaluation, on fewer tasks."""
    input:
        pack=lambda wildcards: unless_fresh(
            settings.ADAPTATION.format(**wildcards), ancient(pack_of(training_of(wildcards.evaluation)))
        ),
        model=lambda wildcards: unless_fresh(settings.ADAPTATION.format(**wildcards), model_of(wildcards)),
    output:
        accuracies=update(settings.ADAPTATION),
    log:
        "logs/adaptation/{evaluation}/seed-{seed}.log",
    conda:
        "../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=GPUS,
        device=DEVICE,
    params:
        settings=lambda wildcards: PROJECT.settings_of_adaptation(wildcards.evaluation),
    shell:
        "python -m firstorder adaptation {wildcards.evaluation:q} --seed {wildcards.seed:q} --device {resources.device} "
        f"{LOGGED}"


rule alphabets:
    """Count confusions between alphabets in an evaluation, on fewer tasks."""
    input:
        pack=lambda wildcards: unless_fresh(
            settings.ALPHABETS.format(**wildcards), ancient(pack_of(training_of(wildcards.evaluation)))
        ),
        model=lambda wildcards: unless_fresh(settings.ALPHABETS.format(**wildcards), model_of(wildcards)),
    output:
        counts=update(settings.ALPHABETS),
    log:
        "logs/alphabets/{evaluation}/seed-{seed}.log",
    conda:
        "../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=GPUS,
        device=DEVICE,
    params:
        settings=lambda wildcards: PROJECT.settings_of_alphabets(wildcards.evaluation),
    shell:
        "python -m firstorder alphabets {wildcards.evaluation:q} --seed {wildcards.seed:q} --device {resources.device} "
        f"{LOGGED}"
