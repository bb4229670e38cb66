"""Explained as far as it is trained, by the checkpoint's phases: whatever the config says of what comes."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.corpus import Corpus
from pipeline.data.corpora import Corpora
from pipeline.engine.checkpoint.commit import Commit, begin, commit
from pipeline.errors import RunError
from pipeline.stages.explain.document import explain_document
from pipeline.stages.explain.find import find_document
from pipeline.stages.explain.run import Explained, open_explained
from pipeline.stages.explain.step import explain_step
from pipeline.stages.seal import STATE_KEY, seal
from tests.unit.corpus.build import write_corpus
from tests.unit.stages.test_explain import STEPS, WITHDRAWN, opened, run

__all__ = ["opened", "run"]

TRAINED = 12


@pytest.fixture(scope="module")
def trained(opened: Explained, tmp_path_factory: pytest.TempPathFactory) -> Explained:
    """The run after a checkpoint, with a phase that the config did not have before."""
    folder = tmp_path_factory.mktemp("trained")
    text = (opened.folder / "config.yaml").read_text()
    last = "  - at_step: 20\n"
    changed = text.replace(last, f"  - at_step: 14\n    packing: concat\n    sequence_length: 40\n{last}")
    assert changed != text
    (folder / "config.yaml").write_text(changed)
    (folder / "model.json").write_text("{}")
    (folder / "tokenizer").symlink_to(opened.folder.parent / "tokenizer")
    (folder / "journal.jsonl").write_text((opened.folder / "journal.jsonl").read_text())
    state = {"data": opened.order.past(TRAINED).to_json(), STATE_KEY: seal(folder)}
    commit(begin(folder / "checkpoints", TRAINED), Commit(TRAINED, 1, 0, {}, state, ()))
    return open_explained(folder)


def test_steps_up_to_the_checkpoint_are_trained(opened: Explained, trained: Explained) -> None:
    for step in (1, TRAINED, TRAINED + 1, 14):
        found, before = explain_step(trained, step), explain_step(opened, step)
        assert found.rows == before.rows
        assert found.is_trained == (step <= TRAINED)
        assert not before.is_trained
        assert (found.sequence_length, found.global_size) == ((48, 10) if step <= 9 else (64, 7))
        assert found.world_size == (2 if step <= 12 else 3)
    assert explain_step(trained, 15).sequence_length == 40


def test_pieces_of_several_documents_are_told_in_their_order(trained: Explained) -> None:
    """Of a shard that is cut anew: each row's documents have just its tokens, and none is empty."""
    for step in range(15, 20):
        found = explain_step(trained, step)
        for row in found.rows:
            assert all(one.first_token < one.last_token for one in row.documents)
            assert sum(one.last_token - one.first_token for one in row.documents) <= 40
        assert any(len(row.documents) > 2 for row in found.rows)


@pytest.mark.parametrize("document", range(0, 150, 6))
def test_documents_are_followed_over_all_steps(trained: Explained, document: int) -> None:
    expected = [
        (step, step <= TRAINED, row.rank, row.micro_batch, row.row, row.source, step > 20 and document in WITHDRAWN)
        for step, rows in steps_of(trained).items()
        for row in rows
        if any(one.position == document for one in row.documents)
    ]
    found = explain_document(trained, f"{document:032x}", 999)
    assert [
        (one.step, one.is_trained, one.rank, one.micro_batch, one.row, one.source, one.is_withdrawn)
        for one in found.seen
    ] == expected
    assert found.num_trained == TRAINED
    coming = sum(step > TRAINED for step, *_ in expected)
    for times in (0, coming - 1, coming, coming + 1):
        few = explain_document(trained, f"{document:032x}", max(0, times))
        assert few.seen == found.seen[: len(expected) - coming + max(0, times)]
        assert few.is_complete == (max(0, times) >= coming)
    alone = explain_document(trained, f"{document:032x}", 999, world_size=1, micro_size=16).seen
    assert {(one.rank, one.micro_batch) for one in alone} <= {(0, 0)}


_STEPS: dict[Path, Any] = {}


def steps_of(trained: Explained) -> dict[int, Any]:
    """Rows of every step, worked out once."""
    if trained.folder not in _STEPS:
        _STEPS[trained.folder] = {step: explain_step(trained, step).rows for step in range(1, STEPS + 1)}
    found: dict[int, Any] = _STEPS[trained.folder]
    return found


def test_there_is_no_step_0(trained: Explained) -> None:
    with pytest.raises(RunError, match=r"--step \(0\) must be in \[1, 24\]"):
        explain_step(trained, 0)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Origins with umlauts, in two shards: the same documents in both."""
    return write_corpus(tmp_path, {"web": [[range(9)], [range(9), range(7), range(5)]]})


def test_a_document_is_found_by_its_origin_wherever_it_lies(corpus: Corpus) -> None:
    source = Corpora({"web": (corpus, "web")}, "train")
    for number, shards in ((0, [0, 1]), (2, [1])):
        by_id = find_document(source, f"{number:032x}")
        assert [one.shard for one in by_id] == shards
        assert find_document(source, f"ordner/ä {number}.py#{number}") == by_id
    for name in ("ordner/ä 0.py#2", "ordner/ä 0.py", "ordner/ä 0.py#x", "#0", "nowhere.py#0"):
        with pytest.raises(RunError, match="is in none of the run's 2 shards"):
            find_document(source, name)
