#!/usr/bin/env bash
# Train on SLURM, and resume in the same job after a time limit, a preemption or the failure of a node:
#
#     sbatch slurm.sh config.yaml                                            # on four GPUs of one node
#     sbatch --ntasks-per-node=1 --gpus-per-node=1 slurm.sh config.yaml      # on one GPU
#     sbatch --array=1-6 --export=ALL,SWEEP=sweep.txt slurm.sh config.yaml   # one job for each line of sweep.txt
#
# Line N of a sweep has the options of task N, each with a directory of its own, such as:
#
#     --out runs/leak-0 --data.sampler.leaky 0
#
# Options after the configuration are passed to viscy-train. One process per GPU. Request what your cluster has; the number
# of processes may change when a run is resumed.
#SBATCH --job-name=viscy-train
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=4G
#SBATCH --time=12:00:00
#SBATCH --requeue
# Five minutes before the time limit, which is enough to finish a step and save a checkpoint.
#SBATCH --signal=USR1@300
set -uo pipefail

config=${1:?"usage: sbatch slurm.sh CONFIG [OPTION...]"}
options=("${@:2}")

# The environment that viscy-train is installed in. With modules or conda, write their commands here instead.
# shellcheck disable=SC1091
source "${VENV:-.venv}/bin/activate" || exit 1

if [ -n "${SWEEP:-}" ]; then
  read -r -a line < <(sed -n "${SLURM_ARRAY_TASK_ID}p" "$SWEEP")
  [ "${#line[@]}" -gt 0 ] || { echo "$SWEEP must have a line $SLURM_ARRAY_TASK_ID" >&2; exit 1; }
  options+=("${line[@]}")
fi

# Since version 22.05, srun does not take the number of processors from sbatch. Process 0 exits with code 75 if the run was
# stopped on request. This must not kill the other processes, which exit by themselves. If one of them fails, the others
# cannot continue and are killed after a minute.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 --wait=60 viscy-train fit --config "$config" \
  --checkpoint last --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" "${options[@]}"
code=$?

# scancel also ends this script, so a canceled job is not requeued.
if [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
