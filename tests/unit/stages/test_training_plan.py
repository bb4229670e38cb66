"""`--dry-run` says what it had to guess and what it rounds."""

from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.config.run import RunConfig
from pipeline.stages.plan import print_training_plan

ROOT = Path(__file__).parents[3]


def test_a_guessed_vocabulary_and_a_padded_batch_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    changes = ["batch.global_size=15", "data.sources.0.corpus=nowhere", "duration={tokens: 1_000_000}"]
    print_training_plan(load(RunConfig, ROOT / "configs" / "pretrain" / "demo.yaml", changes))
    printed = capsys.readouterr()
    assert '"train_batch_size": 16' in printed.out
    assert "# batch.global_size is 15; DeepSpeed's batch is 16, 1 of weight 0\n" in printed.out
    assert "a vocabulary of 32,768 is assumed" in printed.err
    assert "2 ranks" in printed.err
