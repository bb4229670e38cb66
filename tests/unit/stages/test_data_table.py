import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.config.load import dump, validate
from pipeline.config.run import RunConfig
from pipeline.data.cuts import Cuts
from pipeline.data.order import Order
from pipeline.stages.data.plan import planned
from pipeline.stages.data.table import data_table
from pipeline.stages.ingredients import open_data
from tests.unit.small import LLAMA, small_corpus, small_texts, small_tokenizer


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("table")
    tokenizer = small_tokenizer(folder / "tokenizer")
    sizes = {"one": 150, "other": 40}
    return [
        str(small_corpus(folder / name, tokenizer, small_texts(size), small_texts(2)).folder)
        for name, size in sizes.items()
    ]


def config_of(corpora: list[str], **data: Any) -> RunConfig:
    sources = [
        {"corpus": corpus, "source": "small", "weight": weight} for corpus, weight in zip(corpora, (3, 1), strict=True)
    ]
    values = {
        "stage": "pretrain",
        "output": "runs/table",
        "model": LLAMA,
        "data": {"type": "corpus", "sources": sources, "sequence_length": 32, **data},
        "batch": {"global_size": 10, "micro_size": 2},
        "duration": {"steps": 40},
        "optimizer": {"type": "adamw", "lr": 1e-3},
    }
    return validate(RunConfig, values, "test")


PLANS: dict[str, dict[str, Any]] = {
    "one phase": {},
    "packed": {"packing": "best_fit"},
    "four phases and skips": {
        "skip": [[4, 7], [9, 12]],
        "phases": [
            {"at_step": 9, "sequence_length": 48, "packing": "best_fit", "global_size": 7},
            {"at_step": 20, "temperature": 5},
            {"at_step": 27, "mask_documents": True},
        ],
    },
}


@pytest.mark.parametrize("name", PLANS)
def test_it_counts_what_the_order_gives(corpora: list[str], name: str) -> None:
    """Samples exactly; tokens to within a few sequences, since the short ones of a shard come where they come.

    Where packing begins in the middle of a shard, its rest has parts of documents, and is fuller than other shards.
    """
    share = 0.08 if "phases" in PLANS[name] else 0.03
    config = config_of(corpora, **PLANS[name])
    source = open_data(config).source
    cuts, (first, changes) = Cuts(source.shards, config.seed), planned(config, source)
    order = Order(cuts, config.seed, [first], changes)
    table = data_table(config, source)
    assert [part.first_step for part in table.phases] == sorted({one.first_step for one in order.phases(39)})
    tokens = Counter[str]()
    for part in table.phases:
        sequences = Counter[str]()
        assert part.first_sample == order.first_sample(part.first_step)
        begun = [one for one in order.phases(39) if one.first_step == part.first_step]
        assert part.skipped_steps == sum(one.skipped_steps for one in begun)
        for step in range(part.first_step, part.last_step):
            for sample in order.batch(step):
                starts, stops, _ = cuts.pieces(sample.at).of(np.array([sample.sequence]))
                tokens[sample.at.source] += int((stops - starts).sum())
                sequences[sample.at.source] += 1
        assert {one.name: one.sequences for one in part.sources} == sequences
    for key, number in tokens.items():
        assert table.tokens[key] == pytest.approx(number, rel=share)
    assert table.epochs == pytest.approx(order.epochs(40), rel=share)


def test_a_source_that_is_repeated_is_warned_of(corpora: list[str], tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(dump(config_of(corpora)))
    assert main(["data", str(path)]) == 0
    text = capsys.readouterr().out
    assert "steps 1–40: 10 sequences of 32 tokens, concat" in text
    assert "warning: source small would be gone through" in text
    assert "and then again" in text
    assert main(["data", str(path), "duration.steps=3", "data.at_end=stop", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["warnings"] == []
    assert [one["sequences"] for one in found["phases"][0]["sources"]] == pytest.approx([22.5, 7.5], abs=8)
    assert main(["data", str(path), "data.at_end=stop"]) == 0
    assert "where data.at_end: stop ends the run" in capsys.readouterr().out


def test_what_is_repeated_only_by_a_skip_is_told(corpora: list[str]) -> None:
    """Many epochs are passed over, and what comes behind them takes nothing of the source."""
    last = [{"corpus": corpora[0], "source": "small"}, {"corpus": corpora[1], "source": "small", "weight": 0}]
    config = config_of(corpora, skip=[[5, 900]], phases=[{"at_step": 5, "sources": last}])
    [told] = [one for one in data_table(config, open_data(config).source).warnings if "source small#1" in one]
    assert re.fullmatch(r"source small#1 would be gone through [\d.]+ times, most of which is skipped", told)


def test_a_narrow_terminal_cuts_no_figure(
    corpora: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(dump(config_of(corpora)))
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["data", str(path), "duration.steps=123456789", "batch.global_size=100"]) == 0
    text = capsys.readouterr().out
    assert "…" not in text
    found = re.search(r"small +75\.0% +([\d,]+) +([\d,]+) +0\.00 → ", text)
    assert found
    assert int(found[1].replace(",", "")) == pytest.approx(0.75 * 12_345_678_900, abs=5)
