import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.config.load import dump, validate
from pipeline.config.run import RunConfig
from pipeline.data.loader import Loader, Share
from pipeline.errors import RunError
from pipeline.runtime.files import append_json_line, write_text
from pipeline.stages.explain.document import explain_document
from pipeline.stages.explain.run import Explained, open_explained
from pipeline.stages.explain.step import explain_step
from pipeline.stages.run_folder import read_run
from tests.unit.small import LLAMA, small_corpus, small_texts, small_tokenizer

LENGTH, STEPS = 48, 24
TEXTS = small_texts(150)
WITHDRAWN = range(0, 100, 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora with the same source's name, two phases, a skip; sequences packed in the second phase."""
    folder = tmp_path_factory.mktemp("explained")
    tokenizer = small_tokenizer(folder / "tokenizer")
    corpora = [small_corpus(folder / name, tokenizer, TEXTS, TEXTS[:3]).folder for name in ("one", "other")]
    sources = [
        {"corpus": str(corpus), "source": "small", "weight": weight}
        for corpus, weight in zip(corpora, (3, 1), strict=True)
    ]
    (folder / "withdrawn").write_text("".join(f"{number:032x}\n" for number in WITHDRAWN))
    config = {
        "stage": "pretrain",
        "output": str(folder / "run"),
        "model": LLAMA,
        "data": {
            "type": "corpus",
            "sources": sources,
            "sequence_length": LENGTH,
            "phases": [
                {"at_step": 9, "sequence_length": 64, "packing": "best_fit", "global_size": 7},
                {"at_step": 20, "withdrawn": str(folder / "withdrawn")},
            ],
            "skip": [[4, 6]],
        },
        "batch": {"global_size": 10, "micro_size": 2},
        "duration": {"steps": STEPS},
        "optimizer": {"type": "adamw", "lr": 1e-3},
    }
    (folder / "run").mkdir()
    write_text(folder / "run" / "config.yaml", dump(validate(RunConfig, config, "test")))
    for session in (("start", 0, 2, 2), ("resume", 12, 3, 1)):
        event = dict(zip(("event", "step", "world_size", "micro_size"), session, strict=True))
        append_json_line(folder / "run" / "journal.jsonl", event)
    return folder / "run"


@pytest.fixture(scope="module")
def opened(run: Path) -> Explained:
    return open_explained(run)


def batches(opened: Explained, step: int, world_size: int) -> dict[tuple[int, int, int], list[int]]:
    """What each rank's loader hands to its model, by rank, micro batch and row."""
    pad_id, micro_size = opened.data.tokenizer.pad_id, 2 if step <= 12 else 1
    return {
        (rank, number, row): tokens
        for rank in range(world_size)
        for number, micro in enumerate(
            Loader(opened.data.source, opened.order, Share(rank, world_size, micro_size), pad_id)
            .batch(step - 1)
            .micro_batches
        )
        for row, tokens in enumerate(micro.input_ids.tolist())
    }


@pytest.mark.parametrize("step", [1, 4, 5, 9, 10, 11, 13, STEPS])
def test_it_says_what_each_rank_reads(opened: Explained, step: int) -> None:
    found = explain_step(opened, step)
    assert found.world_size == (2 if step <= 12 else 3)
    decode, pad_id, eos_id = opened.data.tokenizer.decode, opened.data.tokenizer.pad_id, opened.data.tokenizer.eos_id
    read = batches(opened, step, found.world_size)
    for row in found.rows:
        tokens = read.pop((row.rank, row.micro_batch, row.row))
        assert "".join(one.text for one in row.documents) == decode([token for token in tokens if token != pad_id])
        kept = [one.last_token - one.first_token for one in row.documents if not one.is_withdrawn]
        assert sum(kept) == sum(token != pad_id for token in tokens)
        for one in row.documents:
            ids = [*opened.data.tokenizer.encode(TEXTS[one.position]), eos_id]
            assert len(ids) == one.document_tokens
            assert one.is_withdrawn == (step > 20 and one.position in WITHDRAWN)
            assert one.text == ("" if one.is_withdrawn else decode(ids[one.first_token : one.last_token]))
            assert (one.id, one.origin) == (f"{one.position:032x}", "small.txt")
    assert all(set(tokens) == {pad_id} for tokens in read.values())  # what fills the last micro batches up


def test_one_rank_of_any_world(opened: Explained) -> None:
    whole = explain_step(opened, 3, world_size=4, micro_size=1).rows
    parts = [explain_step(opened, 3, rank, world_size=4, micro_size=1).rows for rank in range(4)]
    assert [row.rank for row in whole] == [place % 4 for place in range(10)]
    assert sorted((row for part in parts for row in part), key=lambda row: row.sample) == list(whole)


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_there_are_no_steps_behind_the_end_of_data(run: Path, tmp_path: Path, packing: str) -> None:
    values = read_run(run).model_dump(mode="json")
    values["data"] |= {"at_end": "stop", "packing": packing, "phases": [], "skip": []}
    write_text(tmp_path / "config.yaml", dump(validate(RunConfig, values, "test")))
    opened = open_explained(tmp_path)
    last = next(step for step in range(STEPS) if opened.order.repeated(step + 1))
    assert last > 0
    rows = [(step, row) for step in range(1, last + 1) for row in explain_step(opened, step).rows]
    with pytest.raises(RunError, match=rf"--step \({last + 1}\) must be in \[1, {last}\], the steps of run"):
        explain_step(opened, last + 1)
    times = explain_document(opened, "small.txt#17", 99)
    assert (times.num_steps, times.is_complete) == (last, True)
    expected = [
        (step, row.source, row.sequence) for step, row in rows if any(one.position == 17 for one in row.documents)
    ]
    assert [(one.step, one.source, one.sequence) for one in times.seen] == expected


def command(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert main(["explain", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("document", [0, 17, 149])
def test_a_document_is_found_in_just_the_steps_that_read_it(
    opened: Explained, run: Path, document: int, capsys: pytest.CaptureFixture[str]
) -> None:
    by_id = json.loads(command(capsys, run, "--document", f"{document:032x}", "--times", 99, "--json"))
    by_place = json.loads(command(capsys, run, "--document", f"small.txt#{document}", "--times", 99, "--json"))
    assert by_id == by_place
    assert by_id["is_complete"]
    assert [one["source"] for one in by_id["places"]] == ["small", "small#1"]
    expected = [
        (step, row.rank, row.micro_batch, row.row, row.source, row.epoch, row.shard, row.sequence)
        for step in range(1, STEPS + 1)
        for row in explain_step(opened, step).rows
        if any(one.position == document for one in row.documents)
    ]
    names = ("step", "rank", "micro_batch", "row", "source", "epoch", "shard", "sequence")
    assert [tuple(one[name] for name in names) for one in by_id["seen"]] == expected
    assert len({one["epoch"] for one in by_id["seen"]}) > 1
    few = json.loads(command(capsys, run, "--document", f"small.txt#{document}", "--times", 1, "--json"))
    assert (few["seen"], few["is_complete"]) == (by_id["seen"][:1], False)


def test_people_can_read_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = command(capsys, run, "--step", 2, "--rank", 1)
    assert "step 2 (to come): 10 sequences of 48 tokens; ranks: 2, micro batch: 2" in text
    assert len(re.findall(r"^sample \d+  rank 1", text, re.MULTILINE)) == 4
    assert re.search(r"small\.txt#\d+  [0-9a-f]{32}  tokens \d+–\d+ of \d+", text)
    assert "│ def step_" in text
    whole = command(capsys, run, "--step", 2, "--full")
    assert '│     """It adds the' in whole
    assert "withdrawn: padding is read" in command(capsys, run, "--step", STEPS)
    table = command(capsys, run, "--document", "small.txt#5", "--times", 2)
    assert "to come" in table
    assert "More are to come." in table


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ([], "explain needs either --step N or --document ID"),
        (["--step", "25"], r"--step \(25\) must be in \[1, 24\]"),
        (["--step", "13", "--rank", "3"], r"--rank \(3\) must be in \[0, 3\), the ranks of step 13"),
        (["--step", "1", "--world-size", "0"], r"--world-size \(0\) must be at least 1"),
        (["--document", "small.txt#1", "--times", "-1"], r"--times \(-1\) must be at least 0"),
        (["--document", "small.txt#150"], "is in none of the run's 2 shards; give an id or origin#position"),
    ],
)
def test_what_is_not_there_is_told(
    run: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(run), *options]) == 2
    assert re.search(fault, capsys.readouterr().err)
