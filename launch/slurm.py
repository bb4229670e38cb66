"""A SLURM job's batch script, a pure function of config and recipe."""

import shlex
from collections.abc import Sequence
from importlib import resources
from pathlib import PurePath
from string import Template

from launch.container import check_seen, srun_options, wrapped
from launch.plan import Job, Plan, check_environment, check_single_lines, exports
from launch.slurm_variables import caches, dump_file, flight_recorder
from pipeline.config.cluster import HealthCheck, SlurmCluster
from pipeline.errors import UnhealthyError
from pipeline.runtime.signals import EXIT_REQUEUE
from pipeline.runtime.watchdog import EXIT_HANG

WAIT_SECONDS = 120

_PORT = "$((15000 + SLURM_JOB_ID % 15000))"
"""Below the ports that systems give out themselves."""

_DEATHS = (134, 135, 136, 137, 138, 139, 142)
"""Exit statuses of a rank that was killed or died of a signal."""

_PARALLEL = """\
# One task per GPU. On USR1 or TERM the ranks stop after the same step, save and exit with {status};
# given again, the same job goes on from its checkpoint."""

_SINGLE = "# One task of one process. It knows no early stop: USR1 and TERM end it."

_HEALTH = """
# Every node is measured first. {unhealthy}: some are not fit; they are left out from then on. srun's status may be that
# of a rank which died, so it is the list of nodes that counts.
bad_nodes={bad_nodes}-"$SLURM_JOB_ID"
rm -f "$bad_nodes-now"
run_tasks {task_log} {wait_seconds} \\
  {command} \\
  --hosts "${{hosts//$'\\n'/,}}" --bad-nodes "$bad_nodes-now"
[ "$asked" = false ] || status={status}
[ ! -s "$bad_nodes-now" ] || status={unhealthy}
[ "$status" = 0 ] &&"""

_REQUEUE = """\
# {status}: asked to stop, and saved. {hang}: a rank hung. From 134 on: one was killed or died of a signal, 138: of USR1
# that came before Python ran.
again=false
case "$status" in
  {status}) again=true ;;
  {statuses}) [ "${{SLURM_RESTART_COUNT:-0}}" -lt {most} ] && again=true ;;
esac
if [ "$again" = true ] && [ "$ended_by_slurm" = false ]; then
  trap '' TERM  # which SLURM sends to all that is left of a job that it requeues
  scontrol requeue "$SLURM_JOB_ID"
fi"""

_LEAVE_OUT = """
if [ -s "$bad_nodes-now" ]; then
  cat "$bad_nodes-now" >> "$bad_nodes"
  scontrol update JobId="$SLURM_JOB_ID" ExcNodeList={exclude}"$(sort -u "$bad_nodes" | paste -sd,)"
fi"""


def plan_slurm(cluster: SlurmCluster, job: Job, python: str) -> Plan:
    """The plan for a cluster: `sbatch` with a script on its standard input.

    A stage that is one process gets one task: all cores of a node's share, and one GPU if it runs a model. It knows
    no early stop, so it gets no signal before the time limit.

    Args:
        cluster: The cluster.
        job: What to run.
        python: The interpreter to use when the cluster's `setup` does not choose one.
    """
    check_environment(cluster.environment)
    check_seen(cluster.container, {"output": job.output, "cluster.log_dir": cluster.log_dir})
    tasks = cluster.nodes * cluster.gpus_per_node if job.is_parallel else 1
    cores = cluster.cpus_per_task if job.is_parallel else cluster.cpus_per_task * cluster.gpus_per_node
    variables = {"OMP_NUM_THREADS": str(cores), **cluster.environment}
    if job.is_parallel:
        variables = flight_recorder(cluster) | variables
    script = _template().substitute(
        directives="\n".join(f"#SBATCH {line}" for line in _directives(cluster, job, cores)),
        about=_PARALLEL.format(status=EXIT_REQUEUE) if job.is_parallel else _SINGLE,
        setup="\n".join(["", *cluster.setup]) if cluster.setup else "",
        exports="\n".join(["", *exports(variables), *(dump_file(cluster) if job.is_parallel else ()), ""]),
        master_port=cluster.master_port or _PORT,
        num_tasks=tasks,
        cpus_per_task=cores,
        wait_seconds=WAIT_SECONDS,
        stop_status=EXIT_REQUEUE,
        task_log=_task_log(cluster),
        caches=caches(cluster),
        make_cache='mkdir -p \\"\\$TMPDIR\\"; ' if cluster.cache_dir else "",
        container=srun_options(cluster.container, [*variables, "MASTER_ADDR", "MASTER_PORT"]),
        health=_health(cluster, job, python) if job.is_parallel else "",
        command=_command(cluster, python, job.arguments, job.runs_a_model),
        requeue=_requeue(cluster, job),
    )
    return Plan(("sbatch", "--parsable"), {}, script, tasks)


def _command(cluster: SlurmCluster, python: str, words: Sequence[str], has_gpus: bool) -> str:
    if cluster.container is not None:
        python = cluster.container.python
    elif cluster.setup:
        python = "python"
    return wrapped(cluster.container, [python, "-m", "pipeline.cli", *words], has_gpus)


def _task_log(cluster: SlurmCluster) -> str:
    return shlex.quote(f"{cluster.log_dir}/%x-%j-%t.log")


def _health(cluster: SlurmCluster, job: Job, python: str) -> str:
    if cluster.health is None:
        return ""
    words = ["health", "--folder", job.output]
    for name, value in cluster.health.model_dump().items():
        words += [f"--{name.replace('_', '-')}", f"{value:g}"]
    return _HEALTH.format(
        unhealthy=UnhealthyError.exit_code,
        bad_nodes=shlex.quote(f"{cluster.log_dir}/bad-nodes"),
        task_log=_task_log(cluster),
        command=_command(cluster, python, words, has_gpus=True),
        status=EXIT_REQUEUE,
        wait_seconds=_health_seconds(cluster.health),
    )


def _health_seconds(limits: HealthCheck) -> int:
    """How long the last rank may need after the first has ended: three times they wait for each other."""
    return round(4 * limits.timeout_seconds) + WAIT_SECONDS


def _requeue(cluster: SlurmCluster, job: Job) -> str:
    if not cluster.requeue:
        return ""
    checked = cluster.health is not None and job.is_parallel
    statuses = [EXIT_HANG, *([UnhealthyError.exit_code] if checked else []), *_DEATHS]
    script = _REQUEUE.format(
        status=EXIT_REQUEUE, hang=EXIT_HANG, statuses="|".join(map(str, statuses)), most=cluster.max_restarts
    )
    exclude = shlex.quote(f"{cluster.exclude},") if cluster.exclude else ""
    leave_out = _LEAVE_OUT.format(exclude=exclude) if checked else ""
    return script.removesuffix("\nfi") + leave_out.replace("\n", "\n  ") + "\nfi"


def _template() -> Template:
    return Template((resources.files("launch") / "templates" / "slurm.sh").read_text(encoding="utf-8"))


def _directives(cluster: SlurmCluster, job: Job, cores: int) -> list[str]:
    """The options of sbatch, which reads quotes as a shell does."""
    nodes, gpus = (cluster.nodes, cluster.gpus_per_node) if job.is_parallel else (1, int(job.runs_a_model))
    named = {key: getattr(cluster, key) for key in ("partition", "account", "qos", "constraint", "exclude")}
    check_single_lines({**named, "log_dir": cluster.log_dir})
    options = {
        "job-name": job_name(job),
        "nodes": nodes,
        "ntasks-per-node": gpus if job.is_parallel else 1,
        "gpus-per-node": gpus or None,
        "cpus-per-task": cores,
        "time": cluster.time,
        **named,
        "signal": f"B:USR1@{cluster.signal_seconds}" if cluster.signal_seconds and job.is_parallel else None,
        "open-mode": "append",
        "output": f"{cluster.log_dir}/%x-%j.log",
    }
    lines = [f"--{name}={shlex.quote(str(value))}" for name, value in options.items() if value is not None]
    return [*lines, "--requeue" if cluster.requeue else "--no-requeue"]


def job_name(job: Job) -> str:
    """What SLURM calls a job."""
    return f"tarmac-{job.name or PurePath(job.recipe).stem}"
