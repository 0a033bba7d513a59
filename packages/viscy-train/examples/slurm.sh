#!/usr/bin/env bash
# Train on SLURM, and resume in the same job after a time limit, a preemption or the failure of a node:
#
#     sbatch slurm.sh config.yaml
#
# One process per GPU. Request what your cluster has; the number of processes may change when a run is resumed.
#SBATCH --job-name=viscy-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Five minutes before the time limit, which is enough to finish a step and save a checkpoint.
#SBATCH --signal=USR1@300
set -uo pipefail

config=${1:?"usage: sbatch slurm.sh CONFIG"}

# Process 0 exits with code 75 if the run was stopped on request. This must not kill the other processes, which exit by
# themselves. If one of them fails, the others cannot continue and are killed after a minute.
srun --kill-on-bad-exit=0 --wait=60 viscy-train fit --config "$config" --ckpt_path last \
  --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE"
code=$?

# scancel also ends this script, so a canceled job is not requeued.
if [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
