rule train:
    """Meta-train one training for one seed; an interrupted training continues where it stopped."""
    input:
        # `ancient`: after a clone or pull, time stamps of data mean nothing; its content is compared by digest.
        # A finished training has no input: Snakemake would create a missing pack and then train again, even though
        # the pack is `ancient` (for example after a checkpoint was pulled).
        pack=lambda wildcards: [] if is_trained(**wildcards) else ancient(pack_of(wildcards.training)),
        # With seeds=together the job of the first missing seed trains the others too, which then find it done.
        before=trained_before,
    output:
        # `update`: the old file stays until the new one is complete, and is restored if the job fails.
        model=update(settings.MODEL),
        curve=update(settings.CURVE),
    log:
        "logs/train/{training}/seed-{seed}.log",
    conda:
        "../envs/compute.yaml"
    threads: lambda wildcards: threads_each("train")
    resources:
        mem_mb=2000,
        gpu=GPUS,
        device=DEVICE,
        beside=seeds_beside,
    params:
        settings=lambda wildcards: PROJECT.settings_of_training(wildcards.training),
    shell:
        "OMP_NUM_THREADS=1 python -m firstorder train {wildcards.training:q} --seed {wildcards.seed:q} {resources.beside} --threads {threads} --device {resources.device} "
        f"{LOGGED}"


rule sine:
    """Figure 1: meta-train on sine waves by Reptile, MAML and jointly, then adapt to new waves."""
    output:
        losses=update(settings.SINE_LOSSES),
        fits=update(settings.SINE_FITS),
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
        "python -m firstorder sine " f"{LOGGED}"


rule manifolds:
    """Figure 2: Reptile's iterates between two curves in the plane."""
    output:
        points=update(settings.MANIFOLD_POINTS),
    log:
        "logs/train/manifolds.log",
    conda:
        "../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=500,
    params:
        settings=lambda wildcards: PROJECT.settings_of_manifolds(),
    shell:
        "python -m firstorder manifolds " f"{LOGGED}"


rule theory:
    """Section 5: E[g] of MAML, FOMAML and Reptile over all orders of a task's mini-batches, and its expansion."""
    output:
        expansion=update(settings.EXPANSION),
    log:
        "logs/train/theory.log",
    conda:
        "../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        settings=lambda wildcards: PROJECT.settings_of_theory(),
    shell:
        "python -m firstorder theory " f"{LOGGED}"


rule inner_products:
    """Section 5: inner products of a task's gradients during Reptile's and its joint counterpart's training."""
    input:
        pack=lambda wildcards: unless_fresh(
            settings.INNER_PRODUCTS.format(**wildcards), ancient(pack_of(wildcards.training))
        ),
    output:
        products=update(settings.INNER_PRODUCTS),
    log:
        "logs/train/theory/{training}/seed-{seed}.log",
    conda:
        "../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        gpu=GPUS,
        device=DEVICE,
    params:
        settings=lambda wildcards: PROJECT.settings_of_theory(wildcards.training),
    shell:
        "python -m firstorder inner-products {wildcards.training:q} --seed {wildcards.seed:q} --device {resources.device} "
        f"{LOGGED}"
