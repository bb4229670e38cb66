"""What checkpoints are foretold to take is what they take; the interval is Young's; nothing is left behind."""

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError, RunError
from pipeline.stages.doctor import examine
from pipeline.stages.doctor.checkpoints import GPU_HOURS_PER_FAILURE, Cost, young_seconds
from tests.distributed.jobs import run_job
from tests.unit.small import LLAMA, small_corpus, small_texts, small_tokenizer

CASES: list[dict[str, Any]] = [
    {"zero_stage": 2, "precision": "bf16"},
    {"zero_stage": 0, "precision": "fp32", "optimizer": {"type": "muon", "lr": 0.02}},
    {"zero_stage": 3, "precision": "bf16", "adapter": True},
    {"zero_stage": 1, "precision": "bf16", "optimizer": {"type": "lion", "lr": 1e-3}, "ema": {"decay": 0.9}},
]


def test_a_checkpoint_is_as_large_as_foretold(tmp_path: Path) -> None:
    [found] = run_job("tests.unit.stages.doctor_body:sizes", 1, tmp_path, cases=CASES)
    assert [one["weights"] + one["moments"] for one in found] == [one["saved"] for one in found]
    adamw, muon, lora, lion = found
    assert adamw["moments"] == 2 * adamw["weights"]
    assert muon["weights"] == adamw["weights"] < muon["moments"] < adamw["moments"]
    assert lion["weights"] == 2 * adamw["weights"] == 2 * lion["moments"]
    assert 0 < lora["weights"] < adamw["weights"]


BILLION = LLAMA | {"hidden_size": 2048, "intermediate_size": 8192, "num_layers": 16}


def config_for(output: Path, model: dict[str, Any] = LLAMA, **changes: Any) -> RunConfig:
    return validate(RunConfig, {
        "stage": "pretrain", "output": str(output), "model": model,
        "data": {"type": "corpus", "sources": [{"corpus": str(output.parent / "corpus"), "source": "small"}],
                 "sequence_length": 32},
        "batch": {"global_size": 2, "micro_size": 1}, "duration": {"steps": 100},
        "optimizer": {"type": "adamw", "lr": 1e-3}, "checkpoints": changes,
    }, "test")  # fmt: skip


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """Figure and reason by what they are of."""
    lines = capsys.readouterr().out.splitlines()[1:]
    rows = [re.split(r"\s{2,}", line.strip(), maxsplit=2) for line in lines]
    return {what: (figure, because) for what, figure, because in rows}


def seconds(words: str) -> float:
    """A figure that was printed."""
    return float(re.sub(r"[^\d.]", "", words))


def test_memory_stage_and_time_are_foretold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examine(config_for(tmp_path / "run", BILLION), 8, device="H100")
    rows = said(capsys)
    lasting = [seconds(rows[name][0]) for name in ("parameters", "gradients", "optimizer")]
    assert lasting == pytest.approx([lasting[0], 2 * lasting[0] / 8, 6 * lasting[0] / 8], rel=1e-3)  # ZeRO 2, of bf16
    assert seconds(rows["memory"][0]) > lasting[0] + lasting[2] + seconds(rows["activations"][0])
    assert rows["memory"][1].endswith("of 80.000 GB")
    assert rows["ZeRO stage"] == ("1", "the lowest that fits; the config says 2")
    assert rows["micro batch"][1] == "at most, by memory; a rank's share of a step is 1, the config says 1"
    assert int(rows["micro batch"][0]) > 100
    flops = 6 * seconds(rows["parameters"][0]) / 2 * 1e9 * 2 * 32 * 100
    assert seconds(rows["time"][0]) == pytest.approx(flops / (8 * 0.4 * 989e12) / 3600, abs=0.05)
    examine(config_for(tmp_path / "run", BILLION | {"num_layers": 40}), 1, device="A10")
    rows = said(capsys)
    assert rows["ZeRO stage"][0] == "none"
    with pytest.raises(ConfigError, match=r"^--device B999 is not known; choose one of H200, H100"):
        examine(config_for(tmp_path / "run"), 1, device="B999")


def test_the_interval_is_youngs() -> None:
    """A save of 50 s, a failure an hour: 600 s, by hand."""
    assert young_seconds(1.0, Cost(1, 1, save_seconds=9e9, wait_seconds=50.0)) == pytest.approx(600.0)


def test_young_loses_the_least_time() -> None:
    """Time lost a second: waiting once in an interval, and half an interval in each time to a failure."""
    cost = Cost(1, 1, save_seconds=7.0, wait_seconds=7.0)
    best = young_seconds(5.0, cost)

    def lost(interval: float) -> float:
        return cost.wait_seconds / interval + interval / 2 / (5.0 * 3600)

    assert all(lost(best) < lost(best * factor) for factor in (0.5, 0.9, 1.1, 2.0))


def test_a_plan_is_examined_and_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    examine(config_for(output, keep_last=2, keep_best=1, keep_every_steps=25, every_steps=50), 4)
    rows = said(capsys)
    assert "32,768 words assumed" in rows["checkpoint"][1]
    assert str(tmp_path) in rows["writing"][1]
    assert rows["room"][1].startswith("the config keeps up to 7 and writes one more")
    assert rows["time to a failure"][0] == f"{GPU_HOURS_PER_FAILURE / 4:,.1f} h"
    assert "the config says every 50 steps" in rows["interval"][1]
    assert "copy of a rank's part into host memory" in rows["training waits"][1]
    assert list(tmp_path.iterdir()) == []


def test_the_corpus_gives_the_vocabulary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_corpus(tmp_path / "corpus", small_tokenizer(tmp_path / "words"), small_texts(5), small_texts(3))
    examine(config_for(tmp_path / "run"), 1)
    parameters = 2 * 400 * 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    figure, parts = said(capsys)["checkpoint"]
    assert seconds(figure) == pytest.approx(12 * parameters / 1e9, abs=5e-4)
    assert "assumed" not in parts


def test_a_synchronous_save_is_waited_for_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examine(config_for(tmp_path / "run", asynchronous=False, every_tokens=5000, every_minutes=7.5), 2, mttf_hours=30)
    rows = said(capsys)
    assert rows["training waits"] == (rows["save"][0], "checkpoints.asynchronous is false: for the whole save")
    assert rows["time to a failure"] == ("30.0 h", "--mttf-hours")
    expected = young_seconds(30, Cost(1, 1, 0, seconds(rows["save"][0]))) / 60
    assert seconds(rows["interval"][0]) == pytest.approx(expected, rel=0.2)
    assert "every 5,000 tokens, 7.5 minutes" in rows["interval"][1]


def test_no_save_begins_in_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where failures come faster than a copy pays, the interval is a whole save: of 12 GB here."""
    examine(config_for(tmp_path / "run", BILLION), 1, mttf_hours=1e-9)
    rows = said(capsys)
    assert seconds(rows["save"][0]) > 3
    assert rows["interval"][1].startswith("no save begins in another")
    assert seconds(rows["interval"][0]) == pytest.approx(seconds(rows["save"][0]) / 60, abs=0.06)


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^output .*/file/run cannot be written: Not a directory; choose another"):
        examine(config_for(tmp_path / "file" / "run"), 1)


@pytest.mark.parametrize("words", [["--mttf-hours", "0"], ["--mttf-hours", "inf"], ["--world-size", "0"],
                                   ["--world-size", "two"]])  # fmt: skip
def test_figures_that_make_no_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "configs/pretrain/demo.yaml", *words])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_another_stages_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "configs/export/huggingface.yaml"]) == 2
    assert "this command takes pretrain, finetune" in capsys.readouterr().err
