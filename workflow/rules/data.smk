ARCHIVE = f"{PROJECT.data_folder}/raw/omniglot/images_{{half}}.zip"


# Run where Snakemake runs: the nodes of a cluster often have no network.
localrules:
    download_omniglot,


rule download_omniglot:
    """Download one of Omniglot's archives, or fetch it from DATA_MIRROR (a folder or URL)."""
    output:
        archive=ARCHIVE,
    log:
        "logs/download/omniglot-{half}.log",
    wildcard_constraints:
        half="background|evaluation",
    conda:
        "../envs/compute.yaml"
    resources:
        mem_mb=500,
    params:
        folder=lambda wildcards: os.path.dirname(ARCHIVE),
        name=lambda wildcards: os.path.basename(ARCHIVE).format(**wildcards),
    shell:
        "python -m firstorder download --folder={params.folder:q} {params.name:q} " f"{LOGGED}"


rule pack_omniglot:
    """Decode, check and downscale the 32,460 drawings, and pack them into one npz file."""
    input:
        archives=ancient(expand(ARCHIVE, half=["background", "evaluation"])),
    output:
        pack=f"{PROJECT.data_folder}/omniglot.npz",
    log:
        "logs/pack/omniglot.log",
    conda:
        "../envs/compute.yaml"
    resources:
        mem_mb=1000,
    shell:
        "python -m firstorder pack omniglot " f"{LOGGED}"


rule pack_glyphs:
    """Draw the glyphs, a substitute for Omniglot that needs no download."""
    output:
        pack=f"{PROJECT.data_folder}/glyphs.npz",
    log:
        "logs/pack/glyphs.log",
    conda:
        "../envs/compute.yaml"
    resources:
        mem_mb=1000,
    shell:
        "python -m firstorder pack glyphs " f"{LOGGED}"


# --config mini_imagenet=PATH has the same effect as the environment variable MINI_IMAGENET; likewise
# mini_imagenet_names. The user's copy is neither input nor param, so that moving it later recomputes nothing.
os.environ.update({key.upper(): str(config[key]) for key in ("mini_imagenet", "mini_imagenet_names") if key in config})


rule pack_mini_imagenet:
    """Pack the user's own copy, named by --config mini_imagenet=PATH; docs/data.md lists the supported forms."""
    output:
        pack=f"{PROJECT.data_folder}/mini-imagenet.npz",
        census=f"{PROJECT.data_folder}/mini-imagenet.census.csv",
    log:
        "logs/pack/mini-imagenet.log",
    conda:
        "../envs/compute.yaml"
    resources:
        mem_mb=4000,
    params:
        resize=PROJECT.datasets["mini-imagenet"].resize if "mini-imagenet" in PROJECT.datasets else None,
    shell:
        "python -m firstorder data mini-imagenet " f"{LOGGED}"


rule pack_folder:
    """Pack images of one's own, which lie in data/raw/<data set> or are linked there; docs/data.md."""
    output:
        pack=f"{PROJECT.data_folder}/{{folder}}.npz",
        census=f"{PROJECT.data_folder}/{{folder}}.census.csv",
    log:
        "logs/pack/{folder}.log",
    wildcard_constraints:
        folder="|".join(re.escape(n) for n, d in PROJECT.datasets.items() if d.source == "folder" and not d.pack)
        or "(?!)",
    conda:
        "../envs/compute.yaml"
    resources:
        mem_mb=4000,
    params:
        packing=lambda wildcards: PROJECT.datasets[wildcards.folder].packing,
    shell:
        "python -m firstorder data {wildcards.folder:q} " f"{LOGGED}"
