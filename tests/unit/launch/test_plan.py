import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launch.plan import Job, Machine, plan_local
from launch.slurm import plan_slurm
from pipeline.config.cluster import LocalCluster, SlurmCluster
from pipeline.errors import ConfigError, RunError

GOLDEN = Path(__file__).parent / "golden"
TRAIN = Job(
    "pretrain", "configs/pretrain/demo.yaml", ("optimizer.lr=3e-4", "output=runs/it's mine"), output="runs/it's mine"
)
EXPORT = Job("export", "configs/export/demo.yaml")
PREP = Job("prep", "configs/data_prep/stdlib.yaml")
MACHINE = Machine("/opt/python", gpus=0, cores=8, free_port=41000, extensions="/cache/ops", environment={})
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


@pytest.mark.parametrize(
    ("name", "cluster", "job"),
    [
        ("slurm-train.sh", SLURM, TRAIN),
        ("slurm-export.sh", SLURM.model_copy(update={"setup": (), "requeue": False, "signal_seconds": 0}), EXPORT),
        ("slurm-prep.sh", SLURM, PREP),
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
    with pytest.raises(RunError, match=r"cluster.processes \(3\) must be at most the number of GPUs \(2\)"):
        plan_local(LocalCluster(type="local", processes=3), TRAIN, machine)
    cpu = LocalCluster(type="local", processes=3, environment={"DS_ACCELERATOR": "cpu"})
    assert plan_local(cpu, TRAIN, machine).num_ranks == 3


def test_bad_variable_names_and_line_breaks_are_refused() -> None:
    with pytest.raises(ConfigError, match="name 'A B'"):
        plan_local(LocalCluster(type="local", environment={"A B": "c"}), TRAIN, MACHINE)
    with pytest.raises(ConfigError, match=r"cluster\.partition is"):
        plan_slurm(SLURM.model_copy(update={"partition": "a\n#SBATCH --nodes=99"}), TRAIN, "python")


def test_shown_plan_survives_a_shell() -> None:
    machine = replace(MACHINE, python=sys.executable)
    cluster = LocalCluster(type="local", environment={"A": 'it\'s "$HOME" `x`'})
    words = shlex.split(plan_local(cluster, Job("export", "a b.yaml", ("c='d'",)), machine).shown())
    assert 'A=it\'s "$HOME" `x`' in words
    assert words[-2:] == ["a b.yaml", "c='d'"]


@pytest.mark.parametrize("text", ["plain", "it's $HOME", "two\nlines", '`x` "y" \\'])
def test_script_sets_variables_and_words_exactly(text: str, tmp_path: Path) -> None:
    """The generated script is run with a stand-in for srun that only starts its command, as srun does for one task."""
    cluster = SLURM.model_copy(
        update={"health": None, "environment": {"VALUE": text}, "setup": (f"PATH={shlex.quote(str(tmp_path))}:$PATH",)}
    )
    programs = {
        "srun": 'while [[ $1 == --* ]]; do shift; done\nSLURM_PROCID=3 SLURM_LOCALID=1 SLURM_NTASKS=8 exec "$@"',
        "python": 'printf "%s\\0" "$VALUE" "$RANK" "$LOCAL_RANK" "$WORLD_SIZE" "$MASTER_ADDR" "${@: -1}"; exit 7',
        "scontrol": "echo first; echo second",
    }
    for name, content in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{content}\n")
        (tmp_path / name).chmod(0o755)
    plan = plan_slurm(cluster, Job("pretrain", "r.yaml", (f"a={text}",)), "unused")
    result = subprocess.run(["bash"], input=plan.script, capture_output=True, text=True, timeout=30)
    assert result.stdout.split("\0")[:-1] == [text, "3", "1", "8", "first", f"a={text}"], result.stderr
    assert result.returncode == 7
