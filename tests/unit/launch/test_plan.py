import base64
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.hostfile import plan_deepspeed, read_hosts
from launch.local import plan_local
from launch.plan import Job, Machine
from launch.slurm import plan_slurm
from launch.torchrun import plan_torchrun
from pipeline.config.cluster import Container, DeepSpeedCluster, LocalCluster, SlurmCluster, TorchrunCluster
from pipeline.config.load import validate
from pipeline.errors import ConfigError, RunError

GOLDEN = Path(__file__).parent / "golden"
TRAIN = Job(
    "pretrain", "configs/pretrain/demo.yaml", ("optimizer.lr=3e-4", "output=runs/it's mine"), output="runs/it's mine"
)
EXPORT = Job("export", "configs/export/demo.yaml")
PREP = Job("prep", "configs/data_prep/stdlib.yaml")
MACHINE = Machine("/opt/python", gpus=0, cores=8, free_port=41000, extensions="/cache/ops", environment={}, launch="a1")
HOSTS = {"first": 2, "second": 4}
LOCAL = LocalCluster(type="local")
SLURM = SlurmCluster(
    type="slurm",
    nodes=2,
    gpus_per_node=4,
    cpus_per_task=6,
    time="1-00:00:00",
    partition="gpu",
    constraint="a100&ib",
    setup=("module load cuda/12", "source .venv/bin/activate"),
    environment={"WANDB_PROJECT": "it's $HOME"},
    log_dir="runs/slurm logs",
)


IMAGE = {"image": "my images/tarmac.sqsh", "mounts": ("/data:/data:ro", "/scratch:/scratch"), "python": "/opt/python",
         "options": ("--writable-tmpfs",)}  # fmt: skip


def in_container(container: Container) -> SlurmCluster:
    changes = {"container": container, "setup": (), "cache_dir": "/scratch/$USER/tarmac", "flight_recorder": 0}
    return SLURM.model_copy(update=changes)


def assert_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    assert text == path.read_text(), f"{path} differs; if the change is meant, write the new text there"


@pytest.mark.parametrize(
    ("name", "job", "machine"),
    [
        ("local-cpu.txt", TRAIN, MACHINE),
        ("local-gpu.txt", TRAIN, replace(MACHINE, gpus=4)),
        ("local-export.txt", EXPORT, MACHINE),
    ],
)
def test_local_plan_is_the_golden_one(name: str, job: Job, machine: Machine) -> None:
    assert_golden(name, plan_local(LOCAL, job, machine).shown())


def hostfile(**changes: Any) -> DeepSpeedCluster:
    return DeepSpeedCluster.model_validate({"type": "deepspeed", "hostfile": "my hosts", **changes})


def torchrun(**changes: Any) -> TorchrunCluster:
    return TorchrunCluster.model_validate({"type": "torchrun", **changes})


@pytest.mark.parametrize(
    ("name", "cluster", "job", "node_rank"),
    [
        ("hostfile-ssh.txt", hostfile(ssh_port=2222, environment={"WANDB_PROJECT": "it's $HOME"}), TRAIN, None),
        ("hostfile-each.txt", hostfile(ssh=False), TRAIN, 1),
        ("hostfile-export.txt", hostfile(), EXPORT, None),
    ],
)
def test_plan_for_a_hostfile_is_the_golden_one(
    name: str, cluster: DeepSpeedCluster, job: Job, node_rank: int | None
) -> None:
    plan = plan_deepspeed(cluster, job, MACHINE, HOSTS, node_rank)
    assert_golden(name, plan.shown())
    assert plan.num_ranks == (6 if job.is_parallel else 0)


def test_what_goes_over_ssh_is_one_word_that_comes_back_as_it_was() -> None:
    plan = plan_deepspeed(hostfile(environment={"A": "it's 100% $HOME"}), TRAIN, MACHINE, HOSTS, None)
    assert shlex.quote(plan.command[-1]) == plan.command[-1]
    content = json.loads(base64.urlsafe_b64decode(plan.command[-1]))
    assert content["arguments"] == TRAIN.arguments
    assert content["environment"] == {"A": "it's 100% $HOME", "OMP_NUM_THREADS": "2", "TARMAC_LAUNCH": "a1"}


@pytest.mark.parametrize("change", [{"folder": "/my runs"}, {"python": "/it's/python"}, {"folder": "/100%n"}])
def test_a_path_that_does_not_survive_ssh_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(RunError, match=r"is .*, and DeepSpeed's launcher sends it over ssh without quotes; use a path"):
        plan_deepspeed(hostfile(), TRAIN, replace(MACHINE, **change), HOSTS, None)  # type: ignore[arg-type]
    plan_deepspeed(hostfile(ssh=False), TRAIN, replace(MACHINE, **change), HOSTS, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "cluster", "job", "node_rank"),
    [
        ("torchrun-one.txt", torchrun(), TRAIN, None),
        ("torchrun-static.txt", torchrun(nodes=3, endpoint="[::1]:29400", processes=4), TRAIN, 2),
        ("torchrun-c10d.txt", torchrun(nodes=3, endpoint="first:29400", processes=4), TRAIN, None),
        ("torchrun-prep.txt", torchrun(nodes=3, endpoint="first:29400"), PREP, None),
    ],
)
def test_plan_for_torchrun_is_the_golden_one(
    name: str, cluster: TorchrunCluster, job: Job, node_rank: int | None
) -> None:
    assert_golden(name, plan_torchrun(cluster, job, MACHINE, node_rank).shown())


def test_a_host_is_found_by_its_name() -> None:
    on_second = replace(MACHINE, name="second.cluster.example")
    assert "--node_rank 1" in plan_deepspeed(hostfile(ssh=False), TRAIN, on_second, HOSTS, None).shown()
    with pytest.raises(RunError, match=r"my hosts has first, second, not this machine \(localhost\); give --node-rank"):
        plan_deepspeed(hostfile(ssh=False), TRAIN, MACHINE, HOSTS, None)


def test_a_node_that_is_none_is_refused() -> None:
    with pytest.raises(RunError, match=r"--node-rank \(2\) must be below the number of hosts in my hosts \(2\)"):
        plan_deepspeed(hostfile(ssh=False), TRAIN, MACHINE, HOSTS, 2)
    with pytest.raises(RunError, match=r"--node-rank is for hosts that are not reached over ssh"):
        plan_deepspeed(hostfile(), TRAIN, MACHINE, HOSTS, 1)
    with pytest.raises(RunError, match=r"--node-rank \(3\) must be below cluster\.nodes \(3\)"):
        plan_torchrun(torchrun(nodes=3, endpoint="first:1"), TRAIN, MACHINE, 3)
    with pytest.raises(RunError, match=r"slots of second in my hosts \(4\) must be at most the number of GPUs \(2\)"):
        plan_deepspeed(hostfile(ssh=False), TRAIN, replace(MACHINE, gpus=2), HOSTS, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("first slots=2\nfirst slots=1", "'first slots=1' names a host again"),
        ("first", "'first' is not of the form NAME slots=RANKS"),
        ("first slots=0", "'first slots=0' is not of the form"),
        ("# nobody\n", "names no host"),
    ],
)
def test_a_hostfile_is_checked(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_hosts(text, "my hosts")
    assert read_hosts("# ours\nfirst slots=2\n\nsecond\tslots=4 # new\n", "my hosts") == HOSTS


@pytest.mark.parametrize(
    ("name", "cluster", "job"),
    [
        ("slurm-train.sh", SLURM, TRAIN),
        ("slurm-export.sh", SLURM.model_copy(update={"setup": (), "requeue": False, "signal_seconds": 0}), EXPORT),
        ("slurm-prep.sh", SLURM, PREP),
        ("slurm-pyxis.sh", in_container(Container(runtime="pyxis", **IMAGE)), TRAIN),
        ("slurm-apptainer.sh", in_container(Container(runtime="apptainer", **IMAGE)), TRAIN),
        ("slurm-apptainer-prep.sh", in_container(Container(runtime="apptainer", image="a.sif")), PREP),
    ],
)
def test_slurm_script_is_the_golden_one_and_valid_shell(name: str, cluster: SlurmCluster, job: Job) -> None:
    plan = plan_slurm(cluster, job, "/opt/python")
    assert plan.command == ("sbatch", "--parsable")
    assert_golden(name, plan.shown())
    subprocess.run(["bash", "-n"], input=plan.script, text=True, check=True)


def test_explicit_settings_win() -> None:
    cluster = LocalCluster(
        type="local",
        processes=3,
        threads_per_process=5,
        master_port=1234,
        environment={"OMP_NUM_THREADS": "7", "A": "b"},
    )
    machine = replace(MACHINE, environment={"TORCH_EXTENSIONS_DIR": "/mine"})
    plan = plan_local(cluster, TRAIN, machine)
    assert plan.num_ranks == 3
    assert "--num_gpus 3 --master_port 1234" in " ".join(plan.command)
    assert plan.environment == {"OMP_NUM_THREADS": "7", "A": "b", "DS_ACCELERATOR": "cpu"}


@pytest.mark.parametrize(("cores", "processes", "threads"), [(8, 2, 4), (7, 2, 3), (2, 4, 1)])
def test_cores_are_shared_evenly(cores: int, processes: int, threads: int) -> None:
    plan = plan_local(LocalCluster(type="local", processes=processes), TRAIN, replace(MACHINE, cores=cores))
    assert plan.environment["OMP_NUM_THREADS"] == str(threads)


def test_chosen_devices_are_kept() -> None:
    machine = replace(MACHINE, gpus=2, environment={"CUDA_VISIBLE_DEVICES": "5, 3"})
    assert "--include localhost:5,3" in " ".join(plan_local(LOCAL, TRAIN, machine).command)
    one = LocalCluster(type="local", processes=1)
    assert "--include localhost:5 " in " ".join(plan_local(one, TRAIN, machine).command)


def test_devices_named_by_uuid_are_refused() -> None:
    machine = replace(MACHINE, gpus=1, environment={"CUDA_VISIBLE_DEVICES": "MIG-1"})
    with pytest.raises(RunError, match=r"CUDA_VISIBLE_DEVICES \(MIG-1\) must hold device numbers"):
        plan_local(LOCAL, TRAIN, machine)


def test_more_ranks_than_gpus_are_refused_unless_on_cpu() -> None:
    machine = replace(MACHINE, gpus=2)
    with pytest.raises(RunError, match=r"cluster\.processes \(3\) must be at most the number of GPUs \(2\)"):
        plan_local(LocalCluster(type="local", processes=3), TRAIN, machine)
    cpu = LocalCluster(type="local", processes=3, environment={"DS_ACCELERATOR": "cpu"})
    assert plan_local(cpu, TRAIN, machine).num_ranks == 3


def test_bad_variable_names_and_line_breaks_are_refused() -> None:
    with pytest.raises(ConfigError, match="name 'A B'"):
        plan_local(LocalCluster(type="local", environment={"A B": "c"}), TRAIN, MACHINE)
    with pytest.raises(ConfigError, match=r"cluster\.partition is"):
        plan_slurm(SLURM.model_copy(update={"partition": "a\n#SBATCH --nodes=99"}), TRAIN, "python")


@pytest.mark.parametrize("mount", ["/data", "/a:/b:ro:x", "a:", "/a,/b:/c"])
def test_a_mount_that_is_none_is_refused(mount: str) -> None:
    for runtime in ("pyxis", "apptainer"):
        cluster = in_container(Container(runtime=runtime, image="a", mounts=(mount,)))
        with pytest.raises(ConfigError, match=r"cluster\.container\.mounts has .*; give FROM:TO or FROM:TO:ro"):
            plan_slurm(cluster, TRAIN, "python")


def test_a_cache_folder_must_be_seen_in_the_container() -> None:
    def values(*mounts: str) -> dict[str, Any]:
        container = {"runtime": "pyxis", "image": "a", "mounts": mounts}
        return SLURM.model_dump() | {"cache_dir": "/scratch/$USER/tarmac", "container": container}

    for mounts in ([], ["/scratch:/elsewhere"], ["/scratch/$U:/scratch/$U"]):
        with pytest.raises(ConfigError, match=r"cache_dir \(/scratch/\$USER/tarmac\) is in none of container\.mounts"):
            validate(SlurmCluster, values(*mounts), "cluster.yaml")
    assert validate(SlurmCluster, values("/scratch:/scratch:rw"), "cluster.yaml").cache_dir
    unknown = values("/scratch:/scratch") | {"cache_dir": "$SCRATCH/tarmac"}
    assert validate(SlurmCluster, unknown, "cluster.yaml").cache_dir


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer"])
def test_what_is_written_must_be_seen_outside_of_the_container(runtime: Any) -> None:
    cluster = in_container(Container(runtime=runtime, **IMAGE))
    for place in ("/other/run", "/scratchy/run", "../run"):
        with pytest.raises(ConfigError, match=rf"^output \({place}\) is neither in the working folder nor in one of"):
            plan_slurm(cluster, replace(TRAIN, output=place), "python")
    with pytest.raises(ConfigError, match=r"^cluster\.log_dir \(/logs\) is neither in the working folder"):
        plan_slurm(cluster.model_copy(update={"log_dir": "/logs"}), TRAIN, "python")
    for place in ("/scratch/run", f"{Path.cwd()}/run"):
        plan_slurm(cluster, replace(TRAIN, output=place), "python")


def test_a_cache_folder_that_a_shell_would_misread_is_refused() -> None:
    for folder in ("relative", "/a b", '/a"', "/`x`", "/$(x)"):
        with pytest.raises(ConfigError, match=r"cache_dir"):
            validate(SlurmCluster, SLURM.model_dump() | {"cache_dir": folder}, "cluster.yaml")


def test_shown_plan_survives_a_shell() -> None:
    machine = replace(MACHINE, python=sys.executable)
    cluster = LocalCluster(type="local", environment={"A": 'it\'s "$HOME" `x`'})
    words = shlex.split(plan_local(cluster, Job("export", "a b.yaml", ("c='d'",)), machine).shown())
    assert 'A=it\'s "$HOME" `x`' in words
    assert words[-2:] == ["a b.yaml", "c='d'"]


@pytest.mark.parametrize("text", ["plain", "it's $HOME", "two\nlines", '`x` "y" \\'])
@pytest.mark.parametrize("runtime", [None, "pyxis", "apptainer"])
def test_script_sets_variables_and_words_exactly(text: str, runtime: Any, tmp_path: Path) -> None:
    """The generated script is run with stand-ins for srun and apptainer that only start their command."""
    container = Container(runtime=runtime, image=text, options=(f"--x={text}",)) if runtime else None
    setup = (f"PATH={shlex.quote(str(tmp_path))}:$PATH",)
    cluster = SLURM.model_copy(
        update={"health": None, "environment": {"VALUE": text}, "setup": setup, "container": container}
    )
    programs = {
        "srun": 'while [[ $1 == --* ]]; do shift; done\nSLURM_PROCID=3 SLURM_LOCALID=1 SLURM_NTASKS=8 exec "$@"',
        "python": 'printf "%s\\0" "$VALUE" "$RANK" "$LOCAL_RANK" "$WORLD_SIZE" "$MASTER_ADDR" "${@: -1}"; exit 7',
        "scontrol": "echo first; echo second",
        "apptainer": f'while [[ $1 != {shlex.quote(text)} ]]; do shift; done\nshift\nexec "$@"',
    }
    for name, content in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{content}\n")
        (tmp_path / name).chmod(0o755)
    plan = plan_slurm(cluster, Job("pretrain", "r.yaml", (f"a={text}",)), "unused")
    result = subprocess.run(["bash"], input=plan.script, capture_output=True, text=True, timeout=30)
    assert result.stdout.split("\0")[:-1] == [text, "3", "1", "8", "first", f"a={text}"], result.stderr
    assert result.returncode == 7
