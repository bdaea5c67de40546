rule download_omniglot:
    """Fetch the official archives, or take them from DATA_MIRROR (a folder or a URL)."""
    output:
        background=f"{PROJECT.data_folder}/raw/omniglot/images_background.zip",
        evaluation=f"{PROJECT.data_folder}/raw/omniglot/images_evaluation.zip",
    log:
        "logs/download/omniglot.log",
    conda:
        "../envs/compute.yaml"
    resources:
        mem_mb=500,
    params:
        folder=lambda wildcards, output: os.path.dirname(output.background),
    shell:
        "python -m firstorder download --folder {params.folder} 2>&1 | tee {log}"


rule pack_omniglot:
    """Decode, check and shrink the 32,460 drawings into one npz."""
    input:
        background=ancient(rules.download_omniglot.output.background),
        evaluation=ancient(rules.download_omniglot.output.evaluation),
    output:
        pack=f"{PROJECT.data_folder}/omniglot.npz",
    log:
        "logs/pack/omniglot.log",
    conda:
        "../envs/compute.yaml"
    resources:
        mem_mb=1000,
    shell:
        "python -m firstorder pack omniglot 2>&1 | tee {log}"


rule pack_glyphs:
    """Draw the embedded stand-in for Omniglot; needs no download."""
    output:
        pack=f"{PROJECT.data_folder}/glyphs.npz",
    log:
        "logs/pack/glyphs.log",
    conda:
        "../envs/compute.yaml"
    resources:
        mem_mb=1000,
    shell:
        "python -m firstorder pack glyphs 2>&1 | tee {log}"
