#!/bin/bash
#SBATCH --job-name=tarmac-demo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=6
#SBATCH --time=1-00:00:00
#SBATCH --partition=gpu
#SBATCH --constraint='a100&ib'
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
#SBATCH --output='runs/slurm logs/%x-%j.log'
#SBATCH --requeue

# One task per GPU. On USR1 or TERM the ranks stop after the same step, save and exit with 85;
# given again, the same job goes on from its checkpoint.

# srun takes TERM as an order to kill, so both signals go to the ranks as USR1.
# TERM comes when SLURM ends the job; it has then itself decided whether the job comes back.
srun_pid=
asked=false
ended_by_slurm=false
forward() { asked=true; [ -z "$srun_pid" ] || kill -s USR1 "$srun_pid"; }
trap forward USR1
trap 'ended_by_slurm=true; forward' TERM


export OMP_NUM_THREADS=6
export WANDB_PROJECT='it'"'"'s $HOME'

# The compiled operators of one host may be illegal on another that shares the home folder, so these are set per task.
caches='TORCH_EXTENSIONS_DIR="/scratch/$USER/tarmac/torch_extensions" TORCHINDUCTOR_CACHE_DIR="/scratch/$USER/tarmac/torchinductor" TRITON_CACHE_DIR="/scratch/$USER/tarmac/triton" TMPDIR="/scratch/$USER/tarmac"'
ranks='RANK="$SLURM_PROCID" LOCAL_RANK="$SLURM_LOCALID" WORLD_SIZE="$SLURM_NTASKS"'
hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
export MASTER_ADDR="${hosts%%$'\n'*}" MASTER_PORT=$((15000 + SLURM_JOB_ID % 15000))

# Runs a command as all tasks, which log to the file $1; its exit status is in $status. The first task to end has
# $2 s for the others to follow: killing them at once, which may be a site's default, would hide its exit status behind
# theirs. A trapped signal ends `wait` early, so it is asked until srun is gone, and once more for its status.
run_tasks() {
  status=85
  [ "$asked" = false ] || return
  srun --ntasks=8 --cpus-per-task=6 --kill-on-bad-exit=0 --wait="$2" \
    --open-mode=append --output="$1" \
    --container-image='my images/tarmac.sqsh' \
    --container-mounts="$PWD:$PWD",/data:/data:ro,/scratch:/scratch \
    --container-workdir="$PWD" \
    --container-env=MASTER_ADDR,MASTER_PORT,OMP_NUM_THREADS,WANDB_PROJECT \
    --writable-tmpfs \
    /bin/bash -c "export $ranks $caches; mkdir -p \"\$TMPDIR\"; exec \"\$@\"" task "${@:3}" &
  srun_pid=$!
  [ "$asked" = false ] || kill -s USR1 "$srun_pid"  # it may have come when there was no srun yet
  while kill -s 0 "$srun_pid" 2>/dev/null; do wait "$srun_pid"; done
  wait "$srun_pid"
  status=$?
  srun_pid=
}

# Every node is measured first. 87: some are not fit; they are left out from then on. srun's status may be that
# of a rank which died, so it is the list of nodes that counts.
bad_nodes='runs/slurm logs/bad-nodes'-"$SLURM_JOB_ID"
rm -f "$bad_nodes-now"
run_tasks 'runs/slurm logs/%x-%j-%t.log' 520 \
  /opt/python -m pipeline.cli health --folder 'runs/it'"'"'s mine' --matrix-share 0.8 --bandwidth-share 0.5 --free-memory-share 0.9 --clock-seconds 1 --timeout-seconds 100 \
  --hosts "${hosts//$'\n'/,}" --bad-nodes "$bad_nodes-now"
[ "$asked" = false ] || status=85
[ ! -s "$bad_nodes-now" ] || status=87
[ "$status" = 0 ] &&
run_tasks 'runs/slurm logs/%x-%j-%t.log' 120 \
  /opt/python -m pipeline.cli train configs/pretrain/demo.yaml optimizer.lr=3e-4 'output=runs/it'"'"'s mine'
# 85: asked to stop, and saved. 86: a rank hung. From 134 on: one was killed or died of a signal, 138: of USR1
# that came before Python ran.
again=false
case "$status" in
  85) again=true ;;
  86|87|134|135|136|137|138|139|142) [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ] && again=true ;;
esac
if [ "$again" = true ] && [ "$ended_by_slurm" = false ]; then
  trap '' TERM  # which SLURM sends to all that is left of a job that it requeues
  scontrol requeue "$SLURM_JOB_ID"
  if [ -s "$bad_nodes-now" ]; then
    cat "$bad_nodes-now" >> "$bad_nodes"
    scontrol update JobId="$SLURM_JOB_ID" ExcNodeList="$(sort -u "$bad_nodes" | paste -sd,)"
  fi
fi
exit "$status"
