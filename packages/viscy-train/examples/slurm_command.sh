#!/usr/bin/env bash
# Run a command other than `fit` on SLURM. `index` and `pack` use all processors of a task, and the tasks of an array share
# the work; then `index` without an array builds the table from the parts:
#
#     parts=$(sbatch --parsable --array=1-8 slurm_command.sh index config.yaml)
#     sbatch --dependency=afterok:"$parts" slurm_command.sh index config.yaml
#
#     sbatch --array=1-8 slurm_command.sh pack config.yaml
#     sbatch --gpus-per-node=1 slurm_command.sh predict config.yaml
#
# Arrays start at 1. Options after the configuration are passed to viscy-train.
#SBATCH --job-name=viscy-train
#SBATCH --output=%x-%j.out
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=4G
#SBATCH --time=04:00:00
set -euo pipefail

usage="usage: sbatch slurm_command.sh COMMAND CONFIG [OPTION...]"
command=${1:?$usage}
config=${2:?$usage}
options=("${@:3}")

# The environment that viscy-train is installed in. With modules or conda, write their commands here instead.
# shellcheck disable=SC1091
source "${VENV:-.venv}/bin/activate"

case $command in
  index | pack)
    options+=(--processes "$SLURM_CPUS_PER_TASK")
    [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || options+=(--part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT")
    ;;
  predict)
    options+=(--trainer.num_nodes 1 --trainer.devices 1)
    ;;
esac
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" viscy-train "$command" --config "$config" "${options[@]}"
