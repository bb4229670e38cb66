"""Two real ranks: whatever the data go through, a run that was killed reads what the one that never stopped reads."""

import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.corpus.corpus import Corpus
from pipeline.data.phases import DamagedChunk, Past, Phase
from tests.faults.runs import Job, events, ledger, losses, rows
from tests.unit.small import LLAMA, small_corpus, small_texts, small_tokenizer

TIMEOUT_SECONDS = 240
STEPS = 30

PHASES: dict[str, Any] = {
    "phases": [
        {"at_step": 3, "sequence_length": 24},
        {"at_step": 5, "sources": {"web": 1, "code": 3}},
        {"at_step": 8, "global_size": 6, "packing": "best_fit"},
        {"at_step": 10, "sequence_length": 20, "packing": "concat"},
    ],
    "skip": [[4, 7], [9, 11]],
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    folder = tmp_path_factory.mktemp("corpora")
    tokenizer = small_tokenizer(folder / "tokenizer")
    return {name: small_corpus(folder / name, tokenizer, small_texts(number, first), small_texts(4, 900))
            for name, number, first in (("web", 120, 0), ("code", 50, 300))}  # fmt: skip


def recipe(folder: Path, corpora: dict[str, Corpus], name: str, **data: Any) -> Path:
    """A tiny pre-training recipe in a folder of its own."""

    def sources(shares: dict[str, int]) -> list[dict[str, Any]]:
        return [
            {"corpus": str(corpora[key].folder), "source": "small", "weight": share} for key, share in shares.items()
        ]

    phases = [{**phase, **({"sources": sources(phase["sources"])} if "sources" in phase else {})}
              for phase in data.pop("phases", [])]  # fmt: skip
    values = {
        "stage": "pretrain", "output": str(folder / name), "seed": 5, "model": {**LLAMA, "max_positions": 64},
        "data": {"type": "corpus", "sources": sources({"web": 2, "code": 1}), "sequence_length": 16, "phases": phases,
                 **data},
        "batch": {"global_size": data.pop("global_size", 8), "micro_size": 2}, "duration": {"steps": STEPS},
        "optimizer": {"type": "adamw", "lr": 1e-3},
        "engine": {"zero_stage": 0, "precision": "fp32", "compile": False, "timeout_seconds": 60},
        "checkpoints": {"every_steps": 2, "keep_last": 20}, "evaluation": {"every_steps": 1000, "max_sequences": 4},
        "tracking": {"log_every_steps": 1, "wandb": {"mode": "disabled"}},
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def train(path: Path, world_size: int = 2, status: int = 0, folders: Sequence[Path] = ()) -> str:
    """What all ranks said."""
    with Job(path, world_size, folders=folders) as job:
        assert job.wait(TIMEOUT_SECONDS) == [status] * world_size, job.said()
    return job.said()


def train_and_kill(path: Path, step: int) -> None:
    """Kill rank 1 once a step is logged."""
    with Job(path) as job:
        job.wait_until(lambda: any(row["step"] >= step for row in rows(job.run / "metrics.jsonl")))
        job.send(signal.SIGKILL, 1)
        assert all(job.wait(TIMEOUT_SECONDS))


def committed(run: Path) -> list[Phase]:
    """The phase table of the last checkpoint."""
    newest = max((run / "checkpoints").glob("step-*"))
    return list(Past.from_json(json.loads((newest / "COMMIT.json").read_text())["state"]["data"]).phases)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, corpora: dict[str, Corpus]) -> Path:
    """A run through all phases that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train(recipe(folder, corpora, "run", **PHASES))
    return folder / "run"


def test_a_killed_run_goes_on_bit_by_bit_through_phases_that_were_added_later(
    tmp_path: Path, corpora: dict[str, Corpus], whole: Path
) -> None:
    """It begins with what is known at step 0, is killed between two phases, and is told the rest when it resumes."""
    known = {"phases": PHASES["phases"][:2], "skip": PHASES["skip"][:1]}
    train_and_kill(recipe(tmp_path, corpora, "run", **known), 6)
    train(recipe(tmp_path, corpora, "run", **PHASES))
    for rank in (0, 1):
        assert ledger(tmp_path / "run", rank) == ledger(whole, rank)
        assert losses(tmp_path / "run") == losses(whole)
        assert sorted(ledger(whole, rank)) == list(range(1, STEPS + 1))
    assert committed(tmp_path / "run") == committed(whole)
    assert [phase.first_step for phase in committed(whole)] == [0, 3, 4, 5, 8, 9, 10]
    assert len(events(tmp_path / "run", "resume")) == 1


def test_the_journal_tells_each_phase(whole: Path) -> None:
    assert [row["phase"] for row in events(whole, "phase")] == [phase.to_json() for phase in committed(whole)]
    told = [(row["step"], sorted(row["changed"]), row["skipped_samples"]) for row in events(whole, "phase")]
    assert told == [
        (0, [], 0), (3, ["sequence_length"], 0), (4, [], 24), (5, ["sources"], 0), (8, ["global_size", "packing"], 0),
        (9, [], 12), (10, ["packing", "sequence_length"], 0),
    ]  # fmt: skip


def test_a_contradiction_is_refused_and_the_run_stays_as_it_was(tmp_path: Path, corpora: dict[str, Corpus]) -> None:
    path = recipe(tmp_path, corpora, "run", **PHASES)
    text = path.read_text().replace(f"steps: {STEPS}", "steps: 6")
    path.write_text(text)
    train(path, world_size=1)
    before = (tmp_path / "run" / "config.yaml").read_text()
    wrong = path.read_text().replace("sequence_length: 24", "sequence_length: 32")
    path.write_text(wrong)
    said = train(path, world_size=1, status=2)
    assert "data.sequence_length was 24, is 32 from step 3 on; restore that" in said
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_ranks_that_would_leave_out_other_documents_do_not_begin(tmp_path: Path, corpora: dict[str, Corpus]) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / "ids").write_text(f"{number:032x}\n")
    path = recipe(tmp_path, corpora, "run", withdrawn="ids")
    said = train(path, status=2, folders=folders)
    assert "rank 1 reads another manifest or file of withdrawn documents than rank 0; give the same" in said
    assert not (tmp_path / "run" / "withdrawn").exists()


def test_one_rank_reads_what_two_read(tmp_path: Path, corpora: dict[str, Corpus], whole: Path) -> None:
    """Whole steps have the same samples, so the same losses; the phase table knows nothing of ranks."""
    train(recipe(tmp_path, corpora, "run", **PHASES), world_size=1)
    assert committed(tmp_path / "run") == committed(whole)
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), rel=1e-4)


def damage(corpus: Corpus, copy: Path) -> Corpus:
    """A copy of a corpus with one bit of its training tokens flipped."""
    shutil.copytree(corpus.folder, copy)
    [path] = (copy / "shards" / "small").glob("*.tar")
    reader = Corpus(copy).open_shard("train", "small", 0)
    content = bytearray(path.read_bytes())
    place = content.index(reader.tokens(0, 64).tobytes())
    content[place + 9] ^= 4
    path.write_bytes(content)
    return Corpus(copy)


def test_a_damaged_chunk_is_left_out_by_all_ranks_and_for_good(tmp_path: Path, corpora: dict[str, Corpus]) -> None:
    """The run is killed after that, and its corpus repaired: what was left out stays so."""
    broken = {**corpora, "code": damage(corpora["code"], tmp_path / "code")}
    runs = [tmp_path / name for name in ("whole", "killed")]
    train(recipe(tmp_path, broken, "whole", on_damage="skip"))
    train_and_kill(recipe(tmp_path, broken, "killed", on_damage="skip"), 6)
    train(recipe(tmp_path, corpora, "killed", on_damage="skip"))
    for rank in (0, 1):
        assert ledger(runs[0], rank) == ledger(runs[1], rank)
    assert committed(runs[0]) == committed(runs[1])
    first, left_out = committed(runs[0])
    assert first.setting.holes.quarantined == ()
    assert left_out.setting.holes.quarantined == (DamagedChunk("small#1", 0, 0),)
    _, event = events(runs[0], "phase")
    assert event["changed"] == {"quarantined": [[], [["small#1", 0, 0]]]}
    assert event["step"] == left_out.first_step


@pytest.mark.parametrize("split", ["shards", "validation"])
def test_all_ranks_say_what_one_of_them_cannot_read(tmp_path: Path, corpora: dict[str, Corpus], split: str) -> None:
    """Each node has its own copy of the corpus, and one lacks a shard."""
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        shutil.copytree(corpora["web"].folder, folder / "web")
    [path] = (folders[1] / "web" / split / "small").glob("*.tar")
    path.unlink()
    sources = [{"corpus": "web", "source": "small"}]
    path = recipe(tmp_path, corpora, "run", sources=sources, on_damage="skip")
    said = train(path, status=2, folders=folders)
    assert f"shard web/{split}/small/" in said
    assert "another rank ended" not in said


def test_a_run_ends_in_order_where_its_data_end(tmp_path: Path, corpora: dict[str, Corpus]) -> None:
    (tmp_path / "ids").write_text(f"{7:032x}\n{3:032x}\n")
    path = recipe(tmp_path, corpora, "run", at_end="stop", sequence_length=64, withdrawn=str(tmp_path / "ids"))
    train(path)
    [end] = events(tmp_path / "run", "end")
    assert 2 < end["step"] < STEPS
    assert end["reason"].startswith("end of data: the next step would repeat small")
    train(path)
    assert len(events(tmp_path / "run", "start")) == 1
    assert not events(tmp_path / "run", "resume")
    [copy] = (tmp_path / "run" / "withdrawn").iterdir()
    assert copy.stem == committed(tmp_path / "run")[0].setting.holes.withdrawn
    assert copy.read_text() == f"{3:032x}\n{7:032x}\n"
