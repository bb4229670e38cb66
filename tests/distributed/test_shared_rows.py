"""A run whose ranks share sequences or layers reads, measures and logs what one does whose ranks share nothing."""

import math
from pathlib import Path

import pytest

from pipeline.stages.explain.run import open_explained
from pipeline.stages.explain.step import explain_step
from tests.faults.runs import Job, ledger, rows, small_corpus_folder, write_recipe

MEASURED = ("train/loss", "train/gradient_norm", "train/tokens", "train/utilisation", "validation/loss",
            "validation/bits_per_byte", "validation/tokens")  # fmt: skip


def figures(run: Path) -> dict[tuple[int, str], float]:
    found = ((row["step"], name, row[name]) for row in rows(run / "metrics.jsonl") for name in MEASURED if name in row)
    return {(step, name): value for step, name, value in found}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus_folder(tmp_path_factory.mktemp("corpus"))


def test_a_run_goes_on_with_ranks_that_share_or_do_not(tmp_path: Path, corpus: Path) -> None:
    settings = {
        "data": {"type": "corpus", "sources": [{"corpus": str(corpus), "source": "small"}], "sequence_length": 32,
                 "mask_documents": True},
        "engine": {"zero_stage": 2, "precision": "fp32", "compile": False},
        "evaluation": {"every_steps": 2, "max_sequences": 7},
        "checkpoints": {"every_steps": 2, "keep_last": 6},
    }  # fmt: skip
    shared, plain = (write_recipe(tmp_path / name, corpus, **settings) for name in ("shared.yaml", "plain.yaml"))
    for recipe, world_size, words in (
        (shared, 2, ("duration.steps=2", "engine.sequence_parallel=2")),
        (shared, 2, ("duration.steps=4", "engine.tensor_parallel=2")),
        (shared, 2, ("duration.steps=6",)),
        (plain, 1, ("duration.steps=6",)),
    ):
        with Job(recipe, world_size, *words) as job:
            job.done()
    found, expected = figures(shared.with_suffix("")), figures(plain.with_suffix(""))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert math.isclose(value, expected[name], rel_tol=1e-5), name
    first, second, alone = (ledger(run.with_suffix(""), rank) for run, rank in ((shared, 0), (shared, 1), (plain, 0)))
    assert all(first[step] == second[step] == alone[step] for step in (1, 2, 3, 4))
    assert first[5] != second[5]
    opened = open_explained(shared.with_suffix(""))
    assert [explain_step(opened, step).world_size for step in (2, 4, 5)] == [1, 1, 2]
