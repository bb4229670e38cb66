"""The plan for the hosts of a hostfile: DeepSpeed's launcher, over ssh, or once on each host without it."""

import base64
import json
import re
import shlex
from collections.abc import Mapping

from launch.local import QUIET
from launch.plan import Job, Machine, Plan, num_ranks, plan_single, variables
from pipeline.config.cluster import DeepSpeedCluster
from pipeline.errors import ConfigError, RunError
from pipeline.runtime.lock import LAUNCH


def read_hosts(text: str, origin: str) -> dict[str, int]:
    """The ranks on each host of a hostfile, in its order. Raises ConfigError if a line is not one of a hostfile."""
    hosts: dict[str, int] = {}
    for line in (line.partition("#")[0].strip() for line in text.splitlines()):
        if not line:
            continue
        found = re.fullmatch(r"(\S+)\s+slots=([1-9]\d*)", line)
        if not found or found[1] in hosts:
            fault = "names a host again" if found else "is not of the form NAME slots=RANKS"
            raise ConfigError(f"hostfile {origin}: {line!r} {fault}; mend it")
        hosts[found[1]] = int(found[2])
    if not hosts:
        raise ConfigError(f"hostfile {origin} names no host; give a line NAME slots=RANKS for each")
    return hosts


def plan_deepspeed(
    cluster: DeepSpeedCluster, job: Job, machine: Machine, hosts: Mapping[str, int], node_rank: int | None
) -> Plan:
    """The plan for the hosts of a hostfile.

    Args:
        cluster: The cluster.
        job: What to run.
        machine: This machine.
        hosts: What the hostfile says.
        node_rank: Which of them this machine is, counted from 0; found by its name if not given.

    Raises:
        RunError: This machine is none of them, or has fewer GPUs than its slots; over ssh, a path needs quotes.
    """
    if not job.is_parallel:
        return plan_single(cluster, job, machine)
    if not cluster.ssh:
        return _on_each(cluster, job, machine, hosts, find_node(hosts, machine, node_rank, cluster.hostfile))
    if node_rank is not None:
        raise RunError(
            "--node-rank is for hosts that are not reached over ssh; leave it out, or set cluster.ssh: false"
        )
    return _over_ssh(cluster, job, machine, hosts)


def _launcher(cluster: DeepSpeedCluster, machine: Machine, hosts: Mapping[str, int]) -> tuple[str, ...]:
    return (
        *(machine.python, *QUIET, "--hostfile", cluster.hostfile, "--no_local_rank"),
        *("--master_addr", cluster.master_addr or next(iter(hosts)), "--master_port", str(cluster.master_port)),
    )


def _on_each(cluster: DeepSpeedCluster, job: Job, machine: Machine, hosts: Mapping[str, int], node: int) -> Plan:
    name, slots = list(hosts.items())[node]
    ranks = num_ranks(slots, cluster, machine, f"slots of {name} in {cluster.hostfile}")
    launcher = (*_launcher(cluster, machine, hosts), "--no_ssh", "--node_rank", str(node))
    command = (*launcher, "--module", "pipeline.cli", *job.arguments)
    return Plan(command, variables(cluster, machine, ranks), num_ranks=sum(hosts.values()), ranks_here=ranks)


def _over_ssh(cluster: DeepSpeedCluster, job: Job, machine: Machine, hosts: Mapping[str, int]) -> Plan:
    """What was found out about this machine stays here: `launch.remote` looks at that of the rank.

    `--force_multi`: a single host of the file may be another one than this.
    """
    _check_unquoted({"the working folder": machine.folder, "Python": machine.python})
    here = variables(cluster, machine, max(hosts.values()))
    there = {name: here[name] for name in ("OMP_NUM_THREADS", *cluster.environment)}
    port = ("--ssh_port", str(cluster.ssh_port)) if cluster.ssh_port else ()
    word = encoded(job, {**there, LAUNCH: machine.launch})
    launcher = (*_launcher(cluster, machine, hosts), *port, "--force_multi", "--launcher", "pdsh")
    command = (*launcher, "--module", "launch.remote", word)
    shown = " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(there.items()))
    about = f"each rank runs: {shown} {shlex.join(['python', '-m', 'pipeline.cli', *job.arguments])}"
    return Plan(command, here, num_ranks=sum(hosts.values()), about=about.replace("\n", "\n# "))


def _check_unquoted(paths: Mapping[str, str]) -> None:
    """Raise RunError if a path is changed on its way: DeepSpeed quotes none, and pdsh fills in what stands behind %."""
    for name, path in paths.items():
        if not re.fullmatch(r"[\w@+=:,./-]+", path):
            raise RunError(
                f"{name} is {path!r}, and DeepSpeed's launcher sends it over ssh without quotes; use a path of letters,"
                " digits and ./_-, or set cluster.ssh: false"
            )


def encoded(job: Job, environment: Mapping[str, str]) -> str:
    """A job's words and variables as one word that no shell on the way changes: DeepSpeed quotes by halves."""
    content = json.dumps({"arguments": job.arguments, "environment": dict(environment)}, sort_keys=True)
    return base64.urlsafe_b64encode(content.encode()).decode()


def find_node(hosts: Mapping[str, int], machine: Machine, node_rank: int | None, origin: str) -> int:
    """Which of the hosts this machine is, by its name if not given. Raises RunError if it is none of them."""
    names = list(hosts)
    if node_rank is None:
        short = machine.name.partition(".")[0]
        found = [number for number, name in enumerate(names) if name in (machine.name, short)]
        if not found:
            raise RunError(f"{origin} has {', '.join(names)}, not this machine ({machine.name}); give --node-rank")
        return found[0]
    if node_rank >= len(names):
        raise RunError(f"--node-rank ({node_rank}) must be below the number of hosts in {origin} ({len(names)})")
    return node_rank
