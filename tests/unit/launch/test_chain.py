"""Chains, with a stand-in for sbatch where SLURM would be."""

from pathlib import Path

import pytest
import yaml

from pipeline.errors import ConfigError, CorpusError, RunError
from tests.unit.launch.test_launch_cli import GOLDEN, cluster, install_program, tarmac
from tests.unit.small import LLAMA

RECIPES = {
    "prep": {"stage": "prep", "output": "corpus", "sources": [{"name": "s", "reader": {"type": "stdlib"}}],
             "tokenizer": {"type": "train", "vocab_size": 300}},
    "train": {
        "stage": "pretrain", "output": "run", "model": LLAMA,
        "data": {"type": "corpus", "sources": [{"corpus": "corpus", "source": "s"}], "sequence_length": 32},
        "batch": {"global_size": 2, "micro_size": 1}, "duration": {"steps": 3},
        "optimizer": {"type": "adamw", "lr": 1e-3},
    },
    "tune": {
        "stage": "finetune", "output": "tuned", "model": {"type": "checkpoint", "run": "run"},
        "data": {"type": "instruct", "train": "corpus/pairs/train.jsonl", "validation": "corpus/pairs/v.jsonl",
                 "sequence_length": 32},
        "batch": {"global_size": 2, "micro_size": 1}, "duration": {"steps": 3},
        "optimizer": {"type": "adamw", "lr": 1e-3},
    },
    "export": {"stage": "export", "run": "tuned", "output": "exported"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name, recipe in RECIPES.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(recipe))


def chain(*steps: dict[str, object]) -> str:
    Path("chain.yaml").write_text(yaml.safe_dump({"chain": list(steps)}))
    return "chain.yaml"


def whole() -> str:
    return chain(*({"recipe": f"{name}.yaml"} for name in RECIPES))


def launch(path: str, *words: str, where: str = "slurm") -> int:
    return tarmac("launch", path, "--cluster", cluster(where), *words)


COUNTING = """
number=$(ls submitted-* 2>/dev/null | wc -l)
echo "$@" > "submitted-$number"; cat > "script-$number"; echo "$((100 + number))"
"""


def submitted() -> list[str]:
    return [path.read_text().strip() for path in sorted(Path().glob("submitted-*"))]


def test_each_job_waits_for_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_program(tmp_path, "sbatch", COUNTING)
    assert launch(whole()) == 0
    assert submitted() == [
        "--parsable",
        *(f"--parsable --dependency=afterok:{job} --kill-on-invalid-dep=yes" for job in (100, 101, 102)),
    ]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "chain chain.yaml:"
    assert [line.split() for line in printed[2:]] == [
        ["prep", "100", "–", "tarmac", "prep", "prep.yaml"],
        ["train", "101", "prep", "tarmac", "train", "train.yaml"],
        ["tune", "102", "train", "tarmac", "finetune", "tune.yaml"],
        ["export", "103", "tune", "tarmac", "export", "export.yaml"],
    ]
    assert "pipeline.cli finetune tune.yaml\n" in Path("script-2").read_text()


def test_steps_may_wait_for_others_than_the_one_before(tmp_path: Path) -> None:
    install_program(tmp_path, "sbatch", COUNTING)
    steps = [
        {"recipe": "prep.yaml"},
        {"recipe": "train.yaml", "name": "small", "overrides": ["output=small"]},
        {"recipe": "train.yaml", "name": "large", "after": ["prep"]},
        {"recipe": "export.yaml", "after": ["small", "large"], "overrides": ["run=small"]},
        {"recipe": "prep.yaml", "name": "other", "after": [], "overrides": ["output=other"]},
    ]
    assert launch(chain(*steps)) == 0
    waits = [words.partition("afterok:")[2].partition(" ")[0] for words in submitted()]
    assert waits == ["", "100", "100", "101:102", ""]


def test_dry_run_is_the_golden_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(whole(), "--dry-run") == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ---")]
    assert "\n".join(shown) + "\n" == (GOLDEN / "chain-slurm.txt").read_text()


def test_nothing_is_left_in_the_queue_if_slurm_refuses_a_step(tmp_path: Path) -> None:
    install_program(tmp_path, "sbatch", COUNTING + '[ "$number" -lt 2 ] || { echo "error: no account" >&2; exit 1; }')
    install_program(tmp_path, "scancel", 'echo "$@" > cancelled')
    said = (
        r"^step tune: sbatch refused the job \(error: no account\); .*; the jobs of the steps before it were cancelled$"
    )
    with pytest.raises(RunError, match=said):
        launch(whole())
    assert Path("cancelled").read_text() == "100 101\n"


def test_without_a_step_before_it_nothing_is_said_of_cancelling(tmp_path: Path) -> None:
    install_program(tmp_path, "sbatch", 'echo "error: no account" >&2; exit 1')
    with pytest.raises(RunError, match=r"^step prep: sbatch refused the job .* --dry-run shows the script$"):
        launch(whole())


def test_jobs_that_could_not_be_cancelled_are_named(tmp_path: Path) -> None:
    install_program(tmp_path, "sbatch", COUNTING + '[ "$number" -lt 2 ] || exit 1')
    install_program(tmp_path, "scancel", 'echo "no controller" >&2; exit 1')
    with pytest.raises(RunError, match=r"may still be queued, as scancel failed \(no controller\): scancel 100 101$"):
        launch(whole())


def test_a_log_folder_that_cannot_be_made_leaves_no_half_of_a_chain(tmp_path: Path) -> None:
    install_program(tmp_path, "sbatch", COUNTING)
    install_program(tmp_path, "scancel", 'echo "$@" > cancelled')
    Path("file").touch()
    slurm = yaml.safe_load(Path(cluster("slurm")).read_text())
    slurm["cluster"]["log_dir"] = "file"
    Path("other.yaml").write_text(yaml.safe_dump(slurm))
    with pytest.raises(RunError, match=r"^step train: cluster\.log_dir \(file\) cannot be made: File exists; choose"):
        launch(chain({"recipe": "prep.yaml"}, {"recipe": "train.yaml", "cluster": "other.yaml"}))
    assert Path("cancelled").read_text() == "100\n"


def test_an_interrupted_submission_leaves_no_half_of_a_chain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_program(tmp_path, "sbatch", COUNTING + '[ "$number" -lt 1 ] || { kill -s INT "$PPID"; sleep 5; }')
    install_program(tmp_path, "scancel", 'echo "$@" > cancelled')
    with pytest.raises(KeyboardInterrupt):
        launch(whole())
    assert Path("cancelled").read_text() == "100\n"
    said = "tarmac: step train was not submitted; the jobs of the steps before it were cancelled\n"
    assert capsys.readouterr().err == said


def test_what_evaluations_and_exports_read_may_be_made_by_steps_before_them(tmp_path: Path) -> None:
    install_program(tmp_path, "sbatch", COUNTING)
    sets = {"s": {"type": "corpus", "corpus": "corpus"}, "t": {"type": "instruct", "path": "corpus/pairs/v.jsonl"}}
    recipe = {"stage": "evaluate", "output": "figures.json", "models": {"a": "run"}, "sets": sets}
    Path("eval.yaml").write_text(yaml.safe_dump(recipe))
    steps = [{"recipe": f"{name}.yaml"} for name in ("prep", "train", "eval")]
    assert launch(chain(*steps)) == 0
    with pytest.raises(RunError, match=r"^step eval: run gone does not exist"):
        launch(chain(*steps[:2], {"recipe": "eval.yaml", "overrides": ["models.a=gone"]}))
    assert len(submitted()) == 3


@pytest.mark.parametrize("where", ["slurm", "local"])
def test_what_no_step_makes_is_told_before_anything_starts(where: str, tmp_path: Path) -> None:
    install_program(tmp_path, "sbatch", "touch called; exit 1")
    with pytest.raises(CorpusError, match=r"^step train: corpus corpus has no manifest"):
        launch(chain({"recipe": "train.yaml"}, {"recipe": "tune.yaml"}), where=where)
    steps = [
        {"recipe": "prep.yaml"},
        {"recipe": "train.yaml"},
        {"recipe": "tune.yaml", "overrides": ["model.run=gone"]},
    ]
    with pytest.raises(RunError, match=r"^step tune: run gone does not exist"):
        launch(chain(*steps), where=where)
    assert not Path("called").exists()
    assert not Path("corpus").exists()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"recipe": "prep.yaml"}, {"recipe": "prep.yaml"}], r"chain\.1 is the second step called 'prep'; give it"),
        ([{"recipe": "prep.yaml", "after": ["x"]}], r"chain\.0: after names 'x', and the steps above are: none"),
        ([{"recipe": "train.yaml", "overrides": ["batchsize=1"]}], r"^step train: train\.yaml: unknown key batchsize"),
        ([{"recipe": "prep.yaml", "cluster": cluster("local")}, {"recipe": "train.yaml"}],
         r"prep runs on local and others on SLURM; let SLURM run all or none"),
        ([{"recipe": "prep.yaml", "clusters": "x"}], r"unknown key chain\.0\.clusters; did you mean cluster"),
        ([], "chain"),
    ],
)  # fmt: skip
def test_a_wrong_chain_is_refused(steps: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        launch(chain(*steps))


def test_what_one_command_cannot_start_is_refused() -> None:
    with pytest.raises(ConfigError, match="prep is started by hand on each machine; a chain needs SLURM, ssh or one"):
        launch(whole(), where="torchrun")
    with pytest.raises(ConfigError, match=r"'a\.b=1' replaces a recipe's key; put it into a step's overrides"):
        launch(whole(), "a.b=1")
    with pytest.raises(ConfigError, match="--node-rank is for one recipe"):
        launch(whole(), "--node-rank", "1")


def test_here_the_first_failure_ends_the_chain(capfd: pytest.CaptureFixture[str]) -> None:
    absent = "sources.0.reader={type: jsonl, paths: [absent.jsonl]}"
    steps = [{"recipe": "prep.yaml", "name": "bad", "overrides": [absent]}, {"recipe": "prep.yaml"}]
    assert launch(chain(*steps), where="local") == 2
    said = capfd.readouterr().err
    assert "tarmac: step 1 of 2, bad: tarmac prep prep.yaml 'sources.0" in said
    assert said.endswith("tarmac: step bad ended with 2; mend what it says, then the same command goes on from there\n")
    assert not Path("corpus").exists()
