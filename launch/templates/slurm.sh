#!/bin/bash
$directives

$about

# srun takes TERM as an order to kill, so both signals go to the ranks as USR1.
# TERM comes when SLURM ends the job; it has then itself decided whether the job comes back.
srun_pid=
asked=false
ended_by_slurm=false
forward() { asked=true; [ -z "$$srun_pid" ] || kill -s USR1 "$$srun_pid"; }
trap forward USR1
trap 'ended_by_slurm=true; forward' TERM
$setup
$exports
# The compiled operators of one host may be illegal on another that shares the home folder, so these are set per task.
caches='$caches'
ranks='RANK="$$SLURM_PROCID" LOCAL_RANK="$$SLURM_LOCALID" WORLD_SIZE="$$SLURM_NTASKS"'
hosts="$$(scontrol show hostnames "$$SLURM_JOB_NODELIST")"
export MASTER_ADDR="$${hosts%%$$'\n'*}" MASTER_PORT=$master_port

# Runs a command as all tasks, which log to the file $$1; its exit status is in $$status. The first task to end has
# $$2 s for the others to follow: killing them at once, which may be a site's default, would hide its exit status behind
# theirs. A trapped signal ends `wait` early, so it is asked until srun is gone, and once more for its status.
run_tasks() {
  status=$stop_status
  [ "$$asked" = false ] || return
  srun --ntasks=$num_tasks --cpus-per-task=$cpus_per_task --kill-on-bad-exit=0 --wait="$$2" \
    --open-mode=append --output="$$1" \
$container    /bin/bash -c "export $$ranks $$caches; ${make_cache}exec \"\$$@\"" task "$${@:3}" &
  srun_pid=$$!
  [ "$$asked" = false ] || kill -s USR1 "$$srun_pid"  # it may have come when there was no srun yet
  while kill -s 0 "$$srun_pid" 2>/dev/null; do wait "$$srun_pid"; done
  wait "$$srun_pid"
  status=$$?
  srun_pid=
}
$health
run_tasks $task_log $wait_seconds \
  $command
$requeue
exit "$$status"
