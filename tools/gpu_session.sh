#!/usr/bin/env bash
# Commands for a short session on a GPU machine: test, benchmark, train, evaluate, save the results. Needs a Python with
# torch (CUDA), numpy, pandas, pyyaml, pillow, safetensors, rich and pytest; no Snakemake, no DVC, no network.
#
#   tools/gpu_session.sh check                  2-4 min: tests of draws, engines and CUDA graphs against the plain engine
#   tools/gpu_session.sh bench                  4-6 min: workloads W1 to W5 with engines plain, lanes and graph
#   tools/gpu_session.sh train NAME [SECONDS]   train all seeds side by side, for at most SECONDS (default 540);
#                                               exit code 3: not finished, the same command resumes
#   tools/gpu_session.sh evaluate NAME          evaluate all seeds
#   tools/gpu_session.sh keep FOLDER            make FOLDER a working folder with these results, checkpoints and states
#   tools/gpu_session.sh restore FOLDER         take over what FOLDER has, as `firstorder collect FOLDER` does anywhere
#
# Run it in the repository, with the packed data in data/. PARAMS=other/params.yaml uses another folder, SEEDS="0 1 2"
# chooses seeds, MORE="--compile" adds options to train and evaluate. If the machine's disk is not kept, use `keep`.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src"
PYTHON=${PYTHON:-python3}
PARAMS=${PARAMS:-params.yaml}
SEEDS=${SEEDS:-0 1 2}
MORE=${MORE:-}
ROOT=$(dirname "$PARAMS")

firstorder() { "$PYTHON" -m firstorder "$@"; }

case "${1:-help}" in
check)
    # -W default: on a GPU, libraries may give warnings that they do not give on a CPU.
    "$PYTHON" -m pytest -q -p no:cacheprovider -W default -m gpu \
        tests/engines
    ;;
bench)
    firstorder bench --params "$PARAMS" --device cuda --rounds 5
    ;;
train)
    # shellcheck disable=SC2086 # seeds and options are words
    firstorder train "$2" --params "$PARAMS" --device cuda --seed $SEEDS --time-limit "${3:-540}" $MORE
    ;;
evaluate)
    for seed in $SEEDS; do
        # shellcheck disable=SC2086
        firstorder evaluate "$2" --params "$PARAMS" --device cuda --seed "$seed" $MORE
    done
    ;;
keep)
    mkdir -p "$2"
    cp "$PARAMS" "$2/params.yaml"
    firstorder collect "$ROOT" --params "$2/params.yaml"
    ;;
restore)
    firstorder collect "$2" --params "$PARAMS"
    ;;
*)
    sed -n '2,14p' "$0"
    ;;
esac
