"""The plan for this machine: DeepSpeed's launcher, kept to it."""

from launch.plan import Job, Machine, Plan, num_ranks, plan_single, variables
from pipeline.config.cluster import LocalCluster
from pipeline.errors import RunError

QUIET = ("-m", "deepspeed.launcher.runner", "--log_level", "critical")
"""DeepSpeed's launcher without its usual chatter: else it calls every exit status an error, also an orderly stop's."""


def plan_local(cluster: LocalCluster, job: Job, machine: Machine) -> Plan:
    """The plan for this machine. Raises RunError if there are fewer GPUs than ranks asked for."""
    if not job.is_parallel:
        return plan_single(cluster, job, machine)
    ranks = num_ranks(cluster.processes, cluster, machine, "cluster.processes")
    launcher = _deepspeed(machine, ranks, cluster.master_port or machine.free_port)
    command = (*launcher, "--module", "pipeline.cli", *job.arguments)
    return Plan(command, variables(cluster, machine, ranks), num_ranks=ranks, ranks_here=ranks)


def _deepspeed(machine: Machine, ranks: int, port: int) -> tuple[str, ...]:
    """DeepSpeed's launcher.

    `--hostfile /dev/null`: a /job/hostfile, which some containers have, would make it a multi-node job over ssh.
    `--no_local_rank`: else `--local_rank=N` is put before the sub-command.
    """
    return (
        *(machine.python, *QUIET, "--hostfile", "/dev/null"),
        *_devices(machine, ranks),
        *("--master_port", str(port), "--no_local_rank"),
    )


def _devices(machine: Machine, ranks: int) -> tuple[str, str]:
    """`--num_gpus N` takes the first N devices whatever CUDA_VISIBLE_DEVICES says, so chosen ones are spelled out."""
    visible = machine.environment.get("CUDA_VISIBLE_DEVICES", "")
    if not machine.gpus or not visible:
        return "--num_gpus", str(ranks)
    chosen = [device.strip() for device in visible.split(",")]
    if not all(device.isdigit() for device in chosen):
        raise RunError(
            f"CUDA_VISIBLE_DEVICES ({visible}) must hold device numbers, DeepSpeed's launcher needs them; give numbers"
        )
    return "--include", f"localhost:{','.join(chosen[:ranks])}"
