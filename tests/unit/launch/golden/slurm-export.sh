#!/bin/bash
#SBATCH --job-name=tarmac-demo
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=24
#SBATCH --time=1-00:00:00
#SBATCH --partition=gpu
#SBATCH --constraint='a100&ib'
#SBATCH --open-mode=append
#SBATCH --output='runs/slurm logs/%x-%j.log'
#SBATCH --no-requeue

# One task of one process. It knows no early stop: USR1 and TERM end it.

# srun takes TERM as an order to kill, so both signals go to the ranks as USR1.
# TERM comes when SLURM ends the job; it has then itself decided whether the job comes back.
srun_pid=
asked=false
ended_by_slurm=false
forward() { asked=true; [ -z "$srun_pid" ] || kill -s USR1 "$srun_pid"; }
trap forward USR1
trap 'ended_by_slurm=true; forward' TERM


export OMP_NUM_THREADS=24
export WANDB_PROJECT='it'"'"'s $HOME'

# The compiled operators of one host may be illegal on another that shares the home folder, so these are set per task.
caches='TORCH_EXTENSIONS_DIR="${TORCH_EXTENSIONS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tarmac/torch_extensions/$(hostname)}"'
ranks='RANK="$SLURM_PROCID" LOCAL_RANK="$SLURM_LOCALID" WORLD_SIZE="$SLURM_NTASKS"'
hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
export MASTER_ADDR="${hosts%%$'\n'*}" MASTER_PORT=$((15000 + SLURM_JOB_ID % 15000))

# Runs a command as all tasks, which log to the file $1; its exit status is in $status. The first task to end has
# $2 s for the others to follow: killing them at once, which may be a site's default, would hide its exit status behind
# theirs. A trapped signal ends `wait` early, so it is asked until srun is gone, and once more for its status.
run_tasks() {
  status=85
  [ "$asked" = false ] || return
  srun --ntasks=1 --cpus-per-task=24 --kill-on-bad-exit=0 --wait="$2" \
    --open-mode=append --output="$1" \
    /bin/bash -c "export $ranks $caches; exec \"\$@\"" task "${@:3}" &
  srun_pid=$!
  [ "$asked" = false ] || kill -s USR1 "$srun_pid"  # it may have come when there was no srun yet
  while kill -s 0 "$srun_pid" 2>/dev/null; do wait "$srun_pid"; done
  wait "$srun_pid"
  status=$?
  srun_pid=
}

run_tasks 'runs/slurm logs/%x-%j-%t.log' 120 \
  /opt/python -m pipeline.cli export configs/export/demo.yaml

exit "$status"
