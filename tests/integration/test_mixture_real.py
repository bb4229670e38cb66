"""Three sources of real text through all that a plan can say of data: two ranks, two kills, each step explained."""

import json
import signal
from collections import Counter
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from pipeline.cli import main
from pipeline.config.load import load
from pipeline.config.run import RunConfig
from pipeline.data.cuts import Cuts
from pipeline.data.order import Order
from pipeline.data.stateful import Source, StatefulLoader
from pipeline.stages.data.plan import planned
from pipeline.stages.explain.document import DocumentTimes, explain_document
from pipeline.stages.explain.run import open_explained
from pipeline.stages.explain.step import Row, StepRows, explain_step
from pipeline.stages.ingredients import open_data
from tests.faults.runs import Job
from tests.integration.conftest import TIMEOUT_SECONDS, Command, rows, write_recipe
from tests.integration.mixture_story import KILLS, STEPS, mixture, original_text, prep_config, run_data, withdraw
from tests.integration.recorded import Given, Place, Texts, pieces, recorded
from tests.integration.test_training import events, figures, ledger, losses

pytestmark = [pytest.mark.realdata, pytest.mark.timeout(600)]


class Story(NamedTuple):
    """Two runs by the same plan."""

    corpus: Path
    whole: Path
    killed: Path
    told: dict[int, StepRows]
    """What was said of each step after the first kill, when the checkpoint was that of step 10."""
    told_of: dict[str, DocumentTimes]
    """And of some documents."""


def read_by(run: Path) -> dict[Place, Given]:
    return recorded(run.with_suffix(".records"))


def train(recipe: Path, kill: str = "") -> None:
    """Each of two ranks writes down what its model is given, up to a kill, if there is to be one."""
    records = recipe.with_suffix(".records")
    records.mkdir(exist_ok=True)
    with Job(recipe, call="tests.integration.recording_rank:train", more=[str(records), kill]) as job:
        statuses = job.wait(TIMEOUT_SECONDS)
    assert (-signal.SIGKILL in statuses) == (statuses != [0, 0]) == bool(kill), job.said()


def tell(run: Path, documents: list[str]) -> tuple[dict[int, StepRows], dict[str, DocumentTimes]]:
    opened = open_explained(run)
    steps = {step: explain_step(opened, step) for step in range(1, STEPS + 1)}
    return steps, {one: explain_document(opened, one, times=1000) for one in documents}


@pytest.fixture(scope="module")
def story(realdata: Path, tmp_path_factory: pytest.TempPathFactory, tarmac: Command) -> Story:
    folder = tmp_path_factory.mktemp("mixture")
    (folder / "prep.yaml").write_text(yaml.safe_dump(prep_config(realdata, folder / "corpus")))
    tarmac("prep", folder / "prep.yaml")
    data = run_data(folder / "corpus", withdraw(folder / "corpus", folder / "withdrawn"))
    whole, killed = (
        write_recipe(
            folder / f"{name}.yaml", folder / "corpus", folder / name, data=data, duration={"steps": STEPS},
            batch={"global_size": 8, "micro_size": 4}, checkpoints={"every_steps": 5, "keep_last": 8},
            evaluation={"every_steps": 1000, "max_sequences": 4},
            tracking={"log_every_steps": 1, "wandb": {"mode": "disabled"}},
        )
        for name in ("whole", "killed")
    )  # fmt: skip
    train(whole)
    train(killed, kill=KILLS[0])
    told = tell(folder / "killed", sorted(Texts(folder / "corpus").documents)[::40])
    train(killed, kill=KILLS[1])
    train(killed)
    return Story(folder / "corpus", folder / "whole", folder / "killed", *told)


@pytest.fixture(scope="module")
def texts(story: Story) -> Texts:
    return Texts(story.corpus)


def test_twice_killed_equals_uninterrupted(story: Story) -> None:
    assert events(story.killed).count("resume") == 2
    assert events(story.killed).count("start") == 1
    resumed = [row["step"] for row in rows(story.killed / "journal.jsonl") if row["event"] == "resume"]
    assert resumed == [10, 20]
    assert figures(story.killed) == figures(story.whole)
    assert sorted(losses(story.whole)) == list(range(1, STEPS + 1))
    for rank in (0, 1):
        assert ledger(story.killed, rank) == ledger(story.whole, rank)
        assert sorted(ledger(story.whole, rank)) == list(range(1, STEPS + 1))
    assert read_by(story.killed) == read_by(story.whole)


def test_the_plan_was_carried_out(story: Story) -> None:
    told = [row for row in rows(story.whole / "journal.jsonl") if row["event"] == "phase"]
    assert [(row["step"], sorted(row["changed"]), row["skipped_samples"]) for row in told] == [
        (0, [], 0), (3, ["sources"], 0), (6, ["shards", "sources"], 0), (9, ["sequence_length"], 0),
        (12, ["global_size"], 0), (15, [], 36), (18, ["packing"], 0), (21, ["withdrawn"], 0),
        (24, ["mask_documents", "packing", "sequence_length", "shards", "sources"], 0),
    ]  # fmt: skip


def test_explain_says_what_the_model_read(story: Story, texts: Texts) -> None:
    """Of each step and rank: said of steps to come before they were trained, and of all after the end."""
    tokenizer = open_explained(story.whole).data.tokenizer
    given = read_by(story.whole)
    afterwards, _ = tell(story.killed, [])
    for step, told in story.told.items():
        assert told.is_trained == (step <= 10)
        assert told.rows == afterwards[step].rows
        for row in told.rows:
            said = given.pop((step, row.rank, row.micro_batch, row.row))
            _compare(row, said, texts, tokenizer, kept_apart=step > 18)
    assert given
    assert {token for filled in given.values() for token in filled.tokens} == {tokenizer.pad_id}
    assert {label for filled in given.values() for label in filled.labels} == {-100}


def _compare(row: Row, given: Given, texts: Texts, tokenizer: Any, kept_apart: bool) -> None:
    """Each document that a row is said to hold, token by token, and nothing else in it."""
    column = 0
    for one in row.documents:
        document, size = texts.documents[one.id], one.last_token - one.first_token
        tokens = given.tokens[column : column + size]
        to_predict = document[one.first_token + 1 : one.last_token + 1]
        expected = document[one.first_token : one.last_token]
        if one.is_withdrawn:
            expected, to_predict = [tokenizer.pad_id] * size, [-100] * len(to_predict)
        assert tokens == expected
        assert given.labels[column : column + len(to_predict)] == to_predict
        assert one.text == ("" if one.is_withdrawn else tokenizer.decode(tokens))
        assert one.document_tokens == len(document)
        if kept_apart:
            assert given.positions[column : column + size] == list(range(size))
        column += size
    assert set(given.tokens[column:]) <= {tokenizer.pad_id}


def test_documents_are_those_of_the_files(story: Story, realdata: Path, texts: Texts) -> None:
    decode = open_explained(story.whole).data.tokenizer.decode
    for spans in texts.spans.values():
        for one in (span.record for span in spans):
            assert decode(texts.documents[one.id][:-1]) == original_text(realdata, one.origin, one.position)


def test_nothing_comes_twice_in_an_epoch_and_all_phases_and_epochs_are_there(story: Story) -> None:
    seen: Counter[tuple[str, int, str, int]] = Counter()
    for told in story.told.values():
        for row in told.rows:
            for one in row.documents:
                seen.update((row.source, row.epoch, one.id, token) for token in range(one.first_token, one.last_token))
    assert set(seen.values()) == {1}
    assert {(source, epoch) for source, epoch, _, _ in seen} == {("novels", 0), ("wiki", 0), ("web", 0), ("web", 1)}
    assert any(one.is_withdrawn for row in story.told[STEPS].rows for one in row.documents)


def test_a_document_is_named_for_just_the_rows_that_hold_its_tokens(story: Story, texts: Texts) -> None:
    """Where tokens stand in the corpus is searched for; a piece of a few tokens may stand in several places."""
    run = open_explained(story.whole)
    found = [
        (place, texts.occurrences(piece))
        for place, given in read_by(story.whole).items()
        for piece in pieces(given, run.data.tokenizer.pad_id)
    ]
    assert sum(len(stretches) == 1 for _, stretches in found) > 0.95 * len(found)
    surely, maybe = Counter[tuple[str, Place]](), Counter[tuple[str, Place]]()
    for place, stretches in found:
        documents = [set(texts.documents_in(stretch)) for stretch in stretches]
        surely.update((one, place) for one in set.intersection(*documents))
        maybe.update((one, place) for one in set.union(*documents))
    read = sorted({document for document, _ in surely})
    for document in [*read[::2], *story.told_of]:
        times = explain_document(run, document, times=0)
        rows_of = [((one.step, one.rank, one.micro_batch, one.row), one.is_withdrawn) for one in times.seen]
        named = {place for place, is_withdrawn in rows_of if not is_withdrawn}
        assert {place for one, place in surely if one == document} <= named
        assert named <= {place for one, place in maybe if one == document}
        assert all(step > 21 for (step, *_), is_withdrawn in rows_of if is_withdrawn)
        if document in story.told_of:
            told = story.told_of[document].seen
            assert [one.is_trained for one in told] == [one.step <= 10 for one in told]
            assert [replace(one, is_trained=True) for one in told] == list(times.seen)


def test_the_command_says_the_same(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(story.killed), "--step", "20", "--rank", "1", "--json"]) == 0
    told = [asdict(row) for row in story.told[20].rows if row.rank == 1]
    assert json.loads(capsys.readouterr().out)["rows"] == json.loads(json.dumps(told))


def plans(story: Story) -> dict[str, list[str]]:
    """The story's, and one that packs each source from beginning to end."""
    sources = json.dumps(mixture(story.corpus, novels=3, wiki=6, web=1))
    packed = [f"data.sources={sources}", "data.phases=[]", "data.skip=[]", "data.packing=best_fit"]
    packed += ["data.sequence_length=512", "model.max_positions=512", "duration.steps=150"]
    return {"story": [], "packed": packed}


@pytest.mark.parametrize("plan", ["story", "packed"])
def test_data_counts_what_the_order_gives(story: Story, plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Sequences of each source and phase exactly; tokens and epochs but for how full a shard's sequences are."""
    path, overrides = story.whole.with_suffix(".yaml"), plans(story)[plan]
    assert main(["data", str(path), *overrides, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    config = load(RunConfig, path, overrides)
    source = open_data(config).source
    cuts, (first, changes) = Cuts(source.shards, config.seed), planned(config, source)
    order = Order(cuts, config.seed, [first], changes)
    totals = Counter[str]()
    for part in table["phases"]:
        sequences, tokens = Counter[str](), Counter[str]()
        for sample in (one for step in range(part["first_step"], part["last_step"]) for one in order.batch(step)):
            starts, stops, _ = cuts.pieces(sample.at).of(np.array([sample.sequence]))
            sequences[sample.at.source] += 1
            tokens[sample.at.source] += int((stops - starts).sum())
        totals += tokens
        assert {one["name"]: one["sequences"] for one in part["sources"]} == sequences
        before, after = order.epochs(part["first_step"]), order.epochs(part["last_step"] - 1)
        for one in part["sources"]:
            name, is_estimated = one["name"], 0 < one["fill"]["packed_shards"] < one["fill"]["num_shards"]
            assert one["tokens"] == pytest.approx(tokens[name], rel=0.08 if is_estimated else 0.02, abs=128)
            assert one["first_epoch"] == pytest.approx(before[name], rel=0.1)
            assert one["last_epoch"] > after[name] * 0.9
    assert table["tokens"] == pytest.approx(totals, rel=0.08 if plan == "packed" else 0.02)
    assert any("source web would be gone through" in warning for warning in table["warnings"])


def loaders_of(corpus: Path, world_size: int, state: dict[str, Any] | None = None) -> list[StatefulLoader]:
    """One for each rank."""
    sources = [Source(corpus, name, weight) for name, weight in (("novels", 2), ("wiki", 1), ("web", 1))]
    loaders = [
        StatefulLoader(sources, sequence_length=64, global_size=8, micro_size=2, seed=1, rank=rank,
                       world_size=world_size, num_steps=20)
        for rank in range(world_size)
    ]  # fmt: skip
    for loader in loaders if state else ():
        loader.load_state_dict(state)
    return loaders


def read_on(loaders: list[StatefulLoader], number: int) -> list[list[list[int]]]:
    """The global batches of the next steps."""
    steps = zip(*(islice(loader, number) for loader in loaders), strict=True)
    return [
        [row for micro in zip(*(batch.micro_batches for batch in batches), strict=True) for one in micro
         for row in one.input_ids.tolist()]
        for batches in steps
    ]  # fmt: skip


def test_the_loader_alone_goes_on_with_other_ranks(story: Story) -> None:
    loaders = loaders_of(story.corpus, 2)
    read_on(loaders, 10)
    state = json.loads(json.dumps(loaders[0].state_dict()))
    assert state == json.loads(json.dumps(loaders[1].state_dict()))
    assert state["step"] == 10
    assert len(json.dumps(state)) < 4096
    expected = read_on(loaders, 10)
    assert [len(batch) for batch in expected] == [8] * 10
    for world_size in (1, 4):
        assert read_on(loaders_of(story.corpus, world_size, state), 10) == expected
