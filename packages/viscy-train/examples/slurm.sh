#!/usr/bin/env bash
# Train on SLURM, and go on in the same job after a time limit, a preemption or the loss of a node:
#
#     sbatch slurm.sh config.yaml
#
# A process for each GPU. Ask for what your cluster has; the number of processes may change between two starts.
#SBATCH --job-name=viscy-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Five minutes before the time is over: long enough to end a step and save.
#SBATCH --signal=USR1@300
set -uo pipefail

config=${1:?"usage: sbatch slurm.sh CONFIG"}

# Process 0 ends with 75 where the run was asked to stop; that must not kill the others, which end by themselves. Where
# one fails, the others cannot go on without it and are killed after a minute.
srun --kill-on-bad-exit=0 --wait=60 viscy-train fit --config "$config" --ckpt_path last \
  --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE"
code=$?

# scancel ends this script, too, so a job that is cancelled stays cancelled.
if [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
