rule train:
    """Meta-train one training for one seed; an interrupted one goes on where it stopped."""
    input:
        # Time stamps of data mean nothing after a clone or a pull: content is checked by digest instead.
        pack=lambda wildcards: data_to_train(wildcards.training, wildcards.seed),
    output:
        model=settings.MODEL,
        curve=settings.CURVE,
    log:
        "logs/train/{training}/seed-{seed}.log",
    conda:
        "../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        settings=lambda wildcards: PROJECT.settings_of_training(wildcards.training),
    shell:
        "python -m firstorder train {wildcards.training} --seed {wildcards.seed} 2>&1 | tee {log}"


rule sine:
    """Figure 1: meta-train on sine waves by Reptile and MAML, then adapt to new waves."""
    output:
        losses=settings.SINE_LOSSES,
        fits=settings.SINE_FITS,
    log:
        "logs/train/sine.log",
    conda:
        "../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        settings=lambda wildcards: PROJECT.settings_of_sine(),
    shell:
        "python -m firstorder sine 2>&1 | tee {log}"
