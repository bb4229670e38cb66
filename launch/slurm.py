"""A SLURM job: the batch script, which is a pure function of config and recipe, and its submission."""

import shlex
import subprocess
from importlib import resources
from pathlib import Path, PurePath
from string import Template

from launch.plan import Job, Plan, check_environment, check_single_lines, exports
from pipeline.config.cluster import SlurmCluster
from pipeline.errors import RunError
from pipeline.runtime.signals import EXIT_REQUEUE
from pipeline.runtime.watchdog import EXIT_HANG

WAIT_SECONDS = 120

_PARALLEL = """\
# One task per GPU. On USR1 or TERM the ranks stop after the same step, save and exit with {status};
# given again, the same job goes on from its checkpoint."""

_SINGLE = "# One task of one process. It knows no early stop: USR1 and TERM end it."

_REQUEUE = """\
# {status}: asked to stop, and saved. {hang}: a rank hung. From 134 on: one was killed or died of a signal, 138: of USR1
# that came before Python ran.
again=false
case "$status" in
  {status}) again=true ;;
  {hang}|134|135|136|137|138|139|142) [ "${{SLURM_RESTART_COUNT:-0}}" -lt {most} ] && again=true ;;
esac
if [ "$again" = true ] && [ "$ended_by_slurm" = false ]; then
  scontrol requeue "$SLURM_JOB_ID"
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
    tasks = cluster.nodes * cluster.gpus_per_node if job.is_parallel else 1
    cores = cluster.cpus_per_task if job.is_parallel else cluster.cpus_per_task * cluster.gpus_per_node
    script = _template().substitute(
        directives="\n".join(f"#SBATCH {line}" for line in _directives(cluster, job, cores)),
        about=_PARALLEL.format(status=EXIT_REQUEUE) if job.is_parallel else _SINGLE,
        setup="\n".join(["", *cluster.setup]) if cluster.setup else "",
        exports="\n".join(["", *exports({"OMP_NUM_THREADS": str(cores), **cluster.environment}), ""]),
        master_port=cluster.master_port,
        num_tasks=tasks,
        cpus_per_task=cores,
        wait_seconds=WAIT_SECONDS,
        stop_status=EXIT_REQUEUE,
        task_log=shlex.quote(f"{cluster.log_dir}/%x-%j-%t.log"),
        command=shlex.join(["python" if cluster.setup else python, "-m", "pipeline.cli", *job.arguments]),
        requeue=_requeue(cluster),
    )
    return Plan(("sbatch", "--parsable"), {}, script, tasks)


def _requeue(cluster: SlurmCluster) -> str:
    if not cluster.requeue:
        return ""
    return _REQUEUE.format(status=EXIT_REQUEUE, hang=EXIT_HANG, most=cluster.max_restarts)


def _template() -> Template:
    return Template((resources.files("launch") / "templates" / "slurm.sh").read_text(encoding="utf-8"))


def _directives(cluster: SlurmCluster, job: Job, cores: int) -> list[str]:
    """The options of sbatch, which reads quotes as a shell does."""
    nodes, gpus = (cluster.nodes, cluster.gpus_per_node) if job.is_parallel else (1, int(job.stage != "prep"))
    named = {key: getattr(cluster, key) for key in ("partition", "account", "qos", "constraint", "exclude")}
    check_single_lines({**named, "log_dir": cluster.log_dir})
    options = {
        "job-name": f"tarmac-{PurePath(job.recipe).stem}",
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


def submit(plan: Plan, log_dir: str) -> str:
    """Hand the script to SLURM and return the job's id. Raises RunError if that fails."""
    assert plan.script is not None
    Path(log_dir).mkdir(parents=True, exist_ok=True)  # SLURM drops a job's output if its folder is absent
    try:
        result = subprocess.run(plan.command, input=plan.script, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RunError(
            "sbatch was not found; run this on a machine of the SLURM cluster, or add --dry-run to see the script"
        ) from error
    if result.returncode:
        reason = "; ".join(line.strip() for line in result.stderr.splitlines() if line.strip())
        raise RunError(f"sbatch refused the job ({reason}); mend the cluster file, --dry-run shows the script")
    return result.stdout.strip().partition(";")[0]
