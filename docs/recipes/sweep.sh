#!/usr/bin/env bash
# A sweep on a cluster, a job of Slurm for each of its jobs: pip install 'lenet-jax[slurm]'; PARTITION=gpu bash docs/recipes/sweep.sh
# It waits for them, requeues those that are preempted, and sums up at the end. After an interruption, also of this script:
# lenet-jax resume multirun/slurm
set -euo pipefail
lenet-jax train -m 'seed=range(8)' optimizer.learning_rate=0.03,0.1,0.3 \
    hydra/launcher=submitit_slurm \
    "hydra.launcher.partition=${PARTITION:-gpu}" \
    hydra.launcher.gpus_per_node=1 \
    hydra.launcher.cpus_per_task=4 \
    hydra.launcher.timeout_min=60 \
    hydra.sweep.dir=multirun/slurm "$@"
