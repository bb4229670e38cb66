"""Every `tarmac` line of the README's shell blocks runs, in order, made small by overrides."""

import re
import shlex
import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT

SMALL_TRAINING = [
    "batch.global_size=8", "batch.micro_size=4", "duration.steps=4", "engine.compile=false", "schedule.warmup_steps=1",
    "evaluation.max_sequences=8", "checkpoints.every_steps=2",
]  # fmt: skip
SMALL_MODEL = ["model.hidden_size=32", "model.intermediate_size=64", "model.num_layers=1"]
SMALL = {
    "prep": ["tokenizer.vocab_size=2048", "validation_share=0.3"],
    "pretrain": [*SMALL_TRAINING, *SMALL_MODEL, "model.num_heads=2", "model.num_key_value_heads=2"],
    "finetune": SMALL_TRAINING,
    "evaluate": ["max_sequences=32", "checks=[]"],
    "export": [],
}


def commands() -> list[list[str]]:
    """The words after `tarmac` of every such line, in the README's order."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == "tarmac"]


def shrink(words: list[str], corpus_text: Path) -> list[str]:
    """The same command at a size for a test."""
    config = next((word for word in words[1:] if word.endswith(".yaml")), None)
    if "--dry-run" in words or config is None or words[0] == "init":
        return words
    stage = re.search(r"^stage: (\w+)", Path(config).read_text(), re.MULTILINE)[1]
    overrides = list(SMALL[stage])
    if stage == "prep":
        overrides.append(f"sources.0.reader={{type: text, paths: ['{corpus_text}/*.py']}}")
    return [*words, *overrides]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """An empty folder with the recipes, as after a clone."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "text").mkdir()
    for module in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:150]:
        shutil.copy(module, folder / "text" / module.name)
    return folder


def test_readme_commands_run_in_order(place, tarmac, monkeypatch):
    monkeypatch.chdir(place)
    lines = commands()
    assert {line[0] for line in lines} >= {"prep", "launch", "eval", "generate", "export", "report", "init"}
    for words in lines:
        tarmac(*shrink(words, place / "text"), folder=place)
    assert (place / "runs" / "demo" / "report.html").is_file()


def test_readme_names_only_files_that_exist():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:configs|docs|tests|launch|pipeline|data_prep)/[\w./-]+\w", text))
    made = ("docs/demo",)
    missing = [name for name in named if not (ROOT / name).exists() and not name.startswith(made)]
    assert not missing
