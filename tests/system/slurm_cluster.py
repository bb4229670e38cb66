"""A real SLURM of two nodes on this machine, in a scratch folder, for tests that run as root.

`with slurm_cluster() as slurm:` starts it; `slurm.environment` lets SLURM's commands find it. Partitions: `debug` (the
default), and `low`, whose jobs `high` preempts. Each node has 8 CPUs, 4,000 MB and 4 GPUs that are only device files.
"""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.distributed.jobs import free_port

PACKAGES = ("slurm-wlm", "munge")
NODES = ("n1", "n2")
NUM_GPUS = 4
WAIT_SECONDS = 120

_SLURM_CONF = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
RequeueExit=85
SlurmdTimeout=15
KillWait=5
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
{node_lines}
PartitionName=DEFAULT Nodes={nodes} State=UP
PartitionName=debug Default=YES
PartitionName=low PriorityTier=1 GraceTime=2
PartitionName=high PriorityTier=10 PreemptMode=OFF
"""
_NODE = "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=4000 Gres=gpu:{gpus}"
_GRES = "NodeName={nodes} Name=gpu File={folder}/dev/nvidia[0-{last}] Flags=nvidia_gpu_env\n"
_AS_LOCALHOST = ("unshare", "--uts", "sh", "-c", 'hostname localhost && exec "$@"', "sh")
"""SLURM asks for the address of the machine's name, which may have none, or one that is not the loopback's."""
_KNOWING_NODES = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')
"""Jobs find nodes by name; only what the daemons start sees these names."""


class SlurmCluster:
    """Daemons of one cluster, each known by its pid file."""

    def __init__(self, folder: Path) -> None:
        """Write the configuration of a cluster that lives in `folder`, which must be short: sockets lie in it."""
        self.folder = folder
        self.environment: Mapping[str, str] = {"SLURM_CONF": str(folder / "slurm.conf")}
        """Variables for whatever calls SLURM's commands."""
        for name in ("run", "log", "state", "dev", *(f"spool.{node}" for node in NODES)):
            (folder / name).mkdir()
        self._write_configuration()

    def _write_configuration(self) -> None:
        folder, nodes = self.folder, ",".join(NODES)
        node_lines = "\n".join(_NODE.format(name=name, port=free_port(), gpus=NUM_GPUS) for name in NODES)
        conf = _SLURM_CONF.format(port=free_port(), folder=folder, nodes=nodes, node_lines=node_lines)
        (folder / "slurm.conf").write_text(conf)
        (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(NODES)}\n")
        (folder / "gres.conf").write_text(_GRES.format(nodes=nodes, folder=folder, last=NUM_GPUS - 1))
        for number in range(NUM_GPUS):  # regular files would leave CUDA_VISIBLE_DEVICES empty
            os.mknod(folder / "dev" / f"nvidia{number}", stat.S_IFCHR | 0o600, os.makedev(1, 3))

    def start(self) -> None:
        """Start all daemons and wait until both nodes are idle."""
        self._start_munge()
        self._start("slurmctld", "-c")  # without the state of an earlier cluster
        for name in NODES:
            self.start_node(name)
        self.wait_until(lambda: self.node_states() == dict.fromkeys(NODES, "idle"), "the nodes are idle")

    def _start_munge(self) -> None:
        run, key = self.folder / "run", self.folder / "munge.key"
        subprocess.run(["mungekey", "--create", f"--keyfile={key}"], check=True)
        places = {"socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        options = [f"--{option}={run / name}" for option, name in places.items()]
        log = self.folder / "log" / "munged.log"
        self._start("munged", f"--key-file={key}", f"--log-file={log}", *options)

    def _start(self, *command: str) -> None:
        environment = {**os.environ, **self.environment}
        with open(self.folder / "log" / "start.log", "ab") as log:
            subprocess.run(
                [*_KNOWING_NODES, str(self.folder / "hosts"), *_AS_LOCALHOST, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )

    def start_node(self, name: str) -> None:
        """Start the daemon of one node."""
        self._start("slurmd", "-N", name)

    def start_controller(self) -> None:
        """Start the controller again, with the jobs that it knew."""
        self._start("slurmctld")

    def stop_controller(self) -> None:
        """Let nobody answer; what runs goes on."""
        self._end("slurmctld", signal.SIGTERM)

    def kill_node(self, name: str) -> None:
        """Let one node die, with everything that runs on it; SLURM notices within about half a minute."""
        self._end(f"slurmd.{name}", signal.SIGKILL)
        on_node = {"SLURMD_NODENAME": name, **self.environment}.items()
        processes = [one for one in psutil.process_iter() if on_node <= _environment_of(one).items()]
        steps = [step for one in processes for step in one.parents() if step.name().startswith("slurmstepd")]
        for process in (*steps, *processes):  # a step that outlived its processes would report their death
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self) -> None:
        """Cancel all jobs, then end each daemon by its pid file."""
        with suppress(subprocess.CalledProcessError):  # the controller may never have come up
            self.run("scancel", "--user=root")
            self.wait_until(lambda: not self.run("squeue", "--noheader"), "the queue is empty")
        for name in (*(f"slurmd.{node}" for node in NODES), "slurmctld", "munged"):
            self._end(name, signal.SIGTERM)

    def _end(self, daemon: str, signum: signal.Signals) -> None:
        """Send a signal to a daemon and wait until it is gone."""
        try:
            pid = int((self.folder / "run" / f"{daemon}.pid").read_text())
            os.kill(pid, signum)
        except (FileNotFoundError, ProcessLookupError):
            return
        self.wait_until(lambda: not _is_alive(pid), f"{daemon} has ended")

    def run(self, *command: str) -> str:
        """Standard output of one of SLURM's commands."""
        environment = {**os.environ, **self.environment}
        words = [*_AS_LOCALHOST, *command]
        return subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    def node_states(self) -> dict[str, str]:
        """State of each node, such as `idle` or `down`."""
        return dict(line.split() for line in self.run("sinfo", "--noheader", "--Node", "--partition=debug",
                                                      "--format=%N %t").splitlines())  # fmt: skip

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something that the cluster does by itself; fails with its logs if it does not."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {WAIT_SECONDS} s until {what}\n{self.logs()}")
            time.sleep(0.2)

    def logs(self) -> str:
        """The end of every log."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in self.folder.glob("log/*"))


@contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A running cluster; its packages are installed if they are missing."""
    install()
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.chmod(0o755)  # munged refuses a socket that others cannot reach
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


def install() -> None:
    """Install SLURM and munge from the distribution if they are missing."""
    if all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", *words], env=environment, check=True)


def _environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
