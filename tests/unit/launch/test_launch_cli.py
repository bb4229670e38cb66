import socket
from pathlib import Path

import pytest
import yaml

from launch.cli import add_launch
from pipeline.config.cluster import ClusterConfig, DeepSpeedCluster, LocalCluster, SlurmCluster, TorchrunCluster
from pipeline.config.load import load
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError, RunError, TarmacError
from pipeline.runtime.arguments import ArgumentParser
from pipeline.runtime.journal import Journal
from pipeline.stages.check import check_inputs
from pipeline.stages.plan import print_memory
from pipeline.stages.run_folder import make_run_folder, open_run
from tests.unit.small import LLAMA, small_corpus, small_texts, small_tokenizer

CLUSTERS = Path(__file__).parents[3] / "configs" / "cluster"

GOLDEN = Path(__file__).parent / "golden"
PREP = """
stage: prep
output: {output}
sources: [{{name: s, reader: {{type: stdlib}}}}]
tokenizer: {{type: train, vocab_size: 300}}
"""
EXPORT = "stage: export\nrun: runs/a\noutput: {output}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "export.yaml"
    path.write_text(EXPORT.format(output=tmp_path / "out"))
    return str(path)


@pytest.fixture
def preparation(tmp_path: Path) -> str:
    """A recipe that names nothing which could be missing."""
    path = tmp_path / "prep.yaml"
    path.write_text(PREP.format(output=tmp_path / "corpus"))
    return str(path)


@pytest.fixture
def pretraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe in the working folder, with its corpus and a run that was made by it."""
    monkeypatch.chdir(tmp_path)
    small_corpus(tmp_path / "corpus", small_tokenizer(tmp_path / "tokenizer"), small_texts(5), small_texts(3))
    config = {
        "stage": "pretrain", "output": "run", "model": LLAMA,
        "data": {"type": "corpus", "sources": [{"corpus": "corpus", "source": "small"}], "sequence_length": 32},
        "batch": {"global_size": 2, "micro_size": 1}, "duration": {"steps": 3},
        "optimizer": {"type": "adamw", "lr": 1e-3},
    }  # fmt: skip
    Path("pretrain.yaml").write_text(yaml.safe_dump(config))
    recipe = load(RunConfig, "pretrain.yaml")
    make_run_folder(recipe)
    open_run(recipe)
    Journal("run").note("start", step=0)
    return "pretrain.yaml"


def tarmac(*words: str) -> int:
    parser = ArgumentParser(prog="tarmac")
    parser.set_defaults(check=check_inputs, show_memory=print_memory)
    add_launch(parser.add_subparsers(required=True))
    arguments = parser.parse_args(words)
    return int(arguments.run(arguments))


def cluster(name: str) -> str:
    return str(CLUSTERS / f"{name}.yaml")


def test_shipped_cluster_files_are_valid() -> None:
    assert isinstance(load(ClusterConfig, cluster("local")).cluster, LocalCluster)
    assert isinstance(load(ClusterConfig, cluster("slurm")).cluster, SlurmCluster)
    assert isinstance(load(ClusterConfig, cluster("hosts")).cluster, DeepSpeedCluster)
    assert isinstance(load(ClusterConfig, cluster("torchrun")).cluster, TorchrunCluster)
    assert len(list(CLUSTERS.glob("*.yaml"))) == 4


@pytest.mark.parametrize("late", [False, True])
def test_overrides_may_stand_before_or_after_options(
    recipe: str, late: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cluster", cluster("slurm"), "--dry-run"]
    words = ["dtype=fp32", "step=3"]
    assert tarmac("launch", recipe, *(options + words if late else words + options)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("#!/bin/bash\n#SBATCH --job-name=tarmac-export\n")
    assert f"-m pipeline.cli export {recipe} dtype=fp32 step=3\n" in printed


def test_dry_run_here_prints_one_command(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tarmac("launch", recipe, "--cluster", cluster("local"), "--dry-run") == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert printed.endswith(f" -m pipeline.cli export {recipe}\n")


def test_a_wrong_recipe_is_refused_before_anything_starts(recipe: str) -> None:
    with pytest.raises(ConfigError, match="unknown key dtpe; did you mean dtype"):
        tarmac("launch", recipe, "--cluster", cluster("local"), "dtpe=fp32")
    cloud = Path(recipe).with_name("cloud.yaml")
    cloud.write_text("cluster: {type: cloud}")
    with pytest.raises(ConfigError, match=r"cluster\.type is 'cloud'"):
        tarmac("launch", recipe, "--cluster", str(cloud))


def test_submitting_without_slurm_is_one_sentence(
    preparation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="sbatch was not found; run this on a machine of the SLURM cluster"):
        tarmac("launch", preparation, "--cluster", cluster("slurm"))


def install_program(folder: Path, name: str, body: str) -> None:
    """Put a shell script into a folder."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_submitting_prints_the_job_and_makes_the_log_folder(
    preparation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    install_program(tmp_path, "sbatch", 'cat > submitted; echo "4711;east"')
    assert tarmac("launch", preparation, "--cluster", cluster("slurm")) == 0
    assert capsys.readouterr().out == "4711\n"
    assert (tmp_path / "submitted").read_text().startswith("#!/bin/bash\n#SBATCH")
    assert (tmp_path / "runs" / "slurm").is_dir()


def test_a_refusal_of_sbatch_is_passed_on(preparation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    install_program(tmp_path, "sbatch", 'cat > /dev/null; echo "sbatch: error: invalid\n partition" >&2; exit 1')
    said = r"^sbatch refused the job \(sbatch: error: invalid; partition\); mend the cluster file, --dry-run shows"
    with pytest.raises(RunError, match=said):
        tarmac("launch", preparation, "--cluster", cluster("slurm"))


@pytest.mark.parametrize("where", ["local", "slurm"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.sources.0.corpus=nowhere", "nowhere has no manifest.json"),
        ("data.sources.0.source=web", "source 'web' is not in the corpus; it has small"),
        ("tokenizer=nowhere", "tokenizer nowhere"),
        ("model={type: checkpoint, run: nowhere}", "run nowhere does not exist"),
        ("output=pretrain.yaml", "output pretrain.yaml is a file; choose another folder"),
        ("seed=7", "seed was 0, is 7"),
    ],
)
def test_what_is_not_there_is_told_before_anything_starts(
    pretraining: str, where: str, change: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no sbatch that could take it, no launcher that could start it
    with pytest.raises(TarmacError, match=message):
        tarmac("launch", pretraining, "--cluster", cluster(where), change)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"stage": "export", "run": "gone", "output": "out"}, r"^run gone does not exist"),
        ({"models": {"a": "gone"}, "sets": {"s": {"type": "corpus", "corpus": "corpus"}}}, r"^run gone does not exist"),
        ({"models": {"a": "run"}, "sets": {"s": {"type": "corpus", "corpus": "gone"}}}, r"gone has no manifest"),
        ({"models": {"a": "run"}, "sets": {"s": {"type": "instruct", "path": "x.jsonl"}}},
         r"^sets\.s\.path \(x\.jsonl\) does not exist; give a JSON-lines file"),
    ],
)  # fmt: skip
def test_evaluations_and_exports_are_checked_too(
    pretraining: str, recipe: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    Path("recipe.yaml").write_text(yaml.safe_dump({"stage": "evaluate", "output": "figures.json"} | recipe))
    with pytest.raises(TarmacError, match=message):
        tarmac("launch", "recipe.yaml", "--cluster", cluster("slurm"))


def test_dry_run_tells_the_memory_of_each_rank(pretraining: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tarmac("launch", pretraining, "--cluster", cluster("slurm"), "--dry-run") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("#!/bin/bash")
    assert "16 ranks" in printed.err
    assert "assumed" not in printed.err
    assert tarmac("launch", pretraining, "--cluster", cluster("slurm"), "--dry-run", "data.sources.0.corpus=soon") == 0
    assert "a vocabulary of 32,768 is assumed" in capsys.readouterr().err


def test_recipes_and_cluster_files_are_told_apart(recipe: str) -> None:
    with pytest.raises(ConfigError, match=r"export\.yaml is a recipe of stage export, no cluster file"):
        tarmac("launch", recipe, "--cluster", recipe)
    with pytest.raises(ConfigError, match=r"local\.yaml: stage is missing, so this is no recipe"):
        tarmac("launch", cluster("local"), "--cluster", cluster("local"))


def test_of_several_machines_one_runs_what_is_one_process(
    preparation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts").write_text(f"elsewhere slots=1\n{socket.gethostname()} slots=1\n")
    Path("hosts.yaml").write_text("cluster: {type: deepspeed, hostfile: hosts, ssh: false}")
    assert tarmac("launch", preparation, "--cluster", "hosts.yaml") == 0
    assert "prep is one process, on the machine of --node-rank 0; nothing to do here" in capsys.readouterr().err
    with pytest.raises(RunError, match=r"prep is one process, .* cluster\.nodes \(2\); give --node-rank, 0 where"):
        tarmac("launch", preparation, "--cluster", cluster("torchrun"))


@pytest.mark.parametrize("name", ["local", "slurm"])
def test_a_machines_number_is_refused_where_the_command_is_given_once(recipe: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--node-rank \(1\) is for several machines by hand, and this is {name}"):
        tarmac("launch", recipe, "--cluster", cluster(name), "--node-rank", "1", "--dry-run")


@pytest.mark.parametrize(("changes", "said"), [
    ({"time": "tomorrow"}, r"cluster.time is 'tomorrow'; it must be \[days-\]hours:minutes:seconds"),
    ({"time": "0:02:00", "signal_seconds": 120}, r"signal_seconds \(120\) must be below time \(0:02:00, 120 s\)"),
    ({"master_port": 99999}, "cluster.master_port is 99999; input should be less than or equal to 65535"),
    ({"environment": {"DEBUG": True}}, "cluster.environment.DEBUG is True; input should be a valid string"),
])  # fmt: skip
def test_what_a_cluster_cannot_be_is_told(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    block = {"type": "slurm", "nodes": 1, "gpus_per_node": 1, "cpus_per_task": 1, "time": "1:00:00", **changes}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump({"cluster": block}))
    with pytest.raises(ConfigError, match=said):
        load(ClusterConfig, str(tmp_path / "cluster.yaml"))


def test_variables_may_be_numbers(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("cluster: {type: local, environment: {A: 1, B: 0.5, C: x}}")
    found = load(ClusterConfig, str(tmp_path / "cluster.yaml")).cluster
    assert found.environment == {"A": "1", "B": "0.5", "C": "x"}


def test_a_run_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run .*never does not exist"):
        tarmac("resume", str(tmp_path / "never"))
