#!/bin/bash
$directives

$about
$setup
$exports
# The compiled operators of one host may be illegal on another that shares the home folder, so this is set per task.
operators='TORCH_EXTENSIONS_DIR="$${TORCH_EXTENSIONS_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/tarmac/torch_extensions/$$(hostname)}"'
ranks='RANK="$$SLURM_PROCID" LOCAL_RANK="$$SLURM_LOCALID" WORLD_SIZE="$$SLURM_NTASKS"'
MASTER_ADDR="$$(scontrol show hostnames "$$SLURM_JOB_NODELIST" | head -n 1)"
export MASTER_ADDR MASTER_PORT=$master_port

# srun takes TERM as an order to kill, so both signals go to the ranks as USR1.
# TERM comes when SLURM ends the job; it has then itself decided whether the job comes back.
srun_pid=
ended_by_slurm=false
forward() { [ -z "$$srun_pid" ] || kill -s USR1 "$$srun_pid"; }
trap forward USR1
trap 'ended_by_slurm=true; forward' TERM

# The first rank to end has $wait_seconds s for the others to follow. Killing them at once, which may be a site's default,
# would hide the exit status $stop_status behind theirs.
srun --ntasks=$num_tasks --cpus-per-task=$cpus_per_task --kill-on-bad-exit=0 --wait=$wait_seconds \
  --open-mode=append --output=$task_log \
  /bin/bash -c "export $$ranks $$operators; exec \"\$$@\"" task \
  $command &
srun_pid=$$!

# A trapped signal ends `wait` early, so it is asked until srun is gone, and once more for srun's own status.
while kill -s 0 "$$srun_pid" 2>/dev/null; do wait "$$srun_pid"; done
wait "$$srun_pid"
status=$$?
$requeue
exit "$$status"
