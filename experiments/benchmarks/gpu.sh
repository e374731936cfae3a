#!/usr/bin/env bash
# All that is to be known of a GPU, in under 8 minutes: bash experiments/benchmarks/gpu.sh [--smoke]
# A part that takes longer than its limit is ended, and the next one begins. --smoke: tiny sizes, on any platform.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
smoke=${1:-}
export TF_CPP_MIN_LOG_LEVEL=3
deterministic="--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"

part() { # LIMIT TITLE COMMAND...
    local limit=$1 title=$2
    shift 2
    printf '\n== %s (%s s)\n' "$title" "$SECONDS"
    timeout "$limit" "$@" || echo "ended with exit code $?"
}

if [ "$smoke" = --smoke ]; then
    part 300 "LeNet, batch 500" "$python" -m experiments.benchmarks lenet_b500 --quick
    part 600 "ResNet-18 and lanes" "$python" -m experiments.benchmarks.gpu --smoke
else
    part 100 "LeNet, batch 500" "$python" -m experiments.benchmarks lenet_b500 --rounds 1
    part 120 "ResNet-18 and lanes" "$python" -m experiments.benchmarks.gpu
    # These flags are for a GPU only; others refuse them.
    part 120 "the same, deterministic" env XLA_FLAGS="${XLA_FLAGS:-} $deterministic" "$python" -m experiments.benchmarks.gpu
    part 140 "the tests of the operations" env JAX_PLATFORMS=cuda,cpu "$python" -m pytest -n 4 tests/ops
fi
printf '\n== done (%s s)\n' "$SECONDS"
