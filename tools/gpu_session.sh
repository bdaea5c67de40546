#!/usr/bin/env bash
# Spends half an hour of one GPU well: tests, benchmark, then trainings of record. Needs a Python with torch (CUDA),
# numpy, pandas, pyyaml, pillow, safetensors, rich and pytest; neither Snakemake, DVC nor a network.
#
#   tools/gpu_session.sh check                  2-4 min: draws, engine and graphs against the plain path
#   tools/gpu_session.sh bench                  4-6 min: W1 to W5, plain, lanes and graphs
#   tools/gpu_session.sh train NAME [SECONDS]   one training, all seeds side by side, at most SECONDS (default 540);
#                                               exit code 3: not done, the same command goes on
#   tools/gpu_session.sh evaluate NAME          one evaluation, all seeds
#   tools/gpu_session.sh keep FOLDER            states, models and results into FOLDER
#   tools/gpu_session.sh restore FOLDER         and back
#
# Run it in the repository, with the packed data in data/. PARAMS=other/params.yaml takes another folder's settings,
# SEEDS="0 1 2", MORE="--compile" adds options to train and evaluate. For a machine that forgets, `keep` what is done.
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
    # -W default: a library may warn on a GPU where it does not on a CPU.
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
    for part in .work models results; do
        if [ -e "$ROOT/$part" ]; then tar -C "$ROOT" -cf "$2/${part#.}.tar" "$part"; fi
    done
    ls -l "$2"
    ;;
restore)
    for part in "$2"/*.tar; do tar -C "$ROOT" -xf "$part"; done
    ;;
*)
    sed -n '2,15p' "$0"
    ;;
esac
