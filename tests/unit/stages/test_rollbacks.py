"""Runs that go back: nothing that an abandoned branch saw comes again, and every later start knows the same order."""

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.data import InstructData
from pipeline.corpus.corpus import Corpus
from pipeline.data.conversations import Conversations
from pipeline.data.corpora import Corpora
from pipeline.data.loader import Loader, Share
from pipeline.data.order import Order, Sample
from pipeline.data.phases import Past
from pipeline.errors import CheckpointError, ConfigError, RunError
from pipeline.runtime.journal import Journal
from pipeline.stages.data.plan import order_after
from pipeline.stages.data.rollbacks import ROLLBACK, Rollback, in_force, read_rollbacks, rolled_back
from pipeline.stages.data.table import data_table
from tests.unit.corpus.build import write_corpus
from tests.unit.stages.test_data_plan import NOTHING, SHARDS, config_of, grown, source_of
from tests.unit.tokenizer.models import trained

PAD = 60_000
Read = Counter[tuple[str, int, int, int]]
"""Source, epoch, shard and place of what is read."""


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Corpus]:
    """A corpus, and the same with another shard in web."""
    folder = tmp_path_factory.mktemp("corpora")
    return [write_corpus(folder / "corpus", SHARDS), grown(folder / "more")]


def read_of(order: Order, batches: Sequence[Sequence[Sample]]) -> Read:
    found = Read()
    for sample in (sample for batch in batches for sample in batch):
        starts, stops, _ = order.cuts.pieces(sample.at).of(np.array([sample.sequence]))
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            found.update((*sample.at[:3], place) for place in range(start, stop))
    return found


def passed_over(order: Order, last: int) -> Read:
    """What is skipped up to a step: what would have come of the phases before, had they gone on."""
    found, table = Read(), order.phases(last)
    for number, phase in enumerate(table):
        steps = range(phase.first_step, phase.first_step + phase.skipped_steps)
        before = Order(order.cuts, 0, table[:number])
        found += read_of(before, [before.batch(step) for step in steps])
    return found


class Left(NamedTuple):
    """What a rollback left behind, which is not to come again."""

    rollback: Rollback
    read: Read


class Story:
    """A run of many starts: a folder with a journal, and of each checkpoint what it holds of the data."""

    def __init__(self, folder: Path, corpora: Sequence[Corpus], data: dict[str, Any]) -> None:
        self.folder, self.corpora, self.data = folder, list(corpora), data
        self.checkpoints = {0: NOTHING}
        self.made: list[list[Sample]] = []
        self.left: list[Left] = []
        self.kill()

    def order_after(self, past: Past) -> Order:
        """What a start computes from config, journal and checkpoint."""
        config, source = config_of(self.corpora[0], **deepcopy(self.data)), source_of(self.corpora[0])
        return order_after(config, source, past, read_rollbacks(self.folder))

    @property
    def step(self) -> int:
        return len(self.made)

    def kill(self) -> None:
        """And go on from the newest checkpoint."""
        newest = max(self.checkpoints)
        self.order = self.order_after(self.checkpoints[newest])
        del self.made[newest:]

    def go(self, number: int) -> None:
        self.made += [self.order.batch(self.step + more) for more in range(number)]

    def save(self) -> None:
        self.checkpoints[self.step] = Past.from_json(json.loads(json.dumps(self.order.past(self.step).to_json())))

    def lose(self) -> None:
        """The newest checkpoint is damaged."""
        if newest := max(self.checkpoints):
            del self.checkpoints[newest]
        self.kill()

    def back(self, which: int, moment: str) -> None:
        """A rollback to some checkpoint; it is killed at a moment of it."""
        if not (good := sorted(step for step in self.checkpoints if 0 < step < self.step)):
            return
        step, from_step = good[which % len(good)], self.step
        rollback = rolled_back(self.order, step, from_step, read_rollbacks(self.folder))
        younger = [one for one in self.checkpoints if one > step]
        for one in younger[: 1 if moment == "renaming" else None]:
            del self.checkpoints[one]
        if moment == "recorded":
            Journal(self.folder).write(ROLLBACK, **rollback.to_json())
            self.left = [one for one in self.left if one.rollback.step < from_step]  # others had not been reached
            self.left.append(Left(rollback, read_of(self.order, self.made[step:])))
        self.kill()

    def change(self, phases: list[dict[str, Any]], skip: list[list[int]]) -> None:
        """The user decides anew on what comes behind the newest checkpoint."""
        newest = max(self.checkpoints)
        begun = [one for one in self.data["phases"] if one["at_step"] < newest]
        past = [one for one in self.data["skip"] if one[0] < newest]
        self.data = {
            **self.data,
            "phases": begun + [{**one, "at_step": one["at_step"] + newest} for one in phases],
            "skip": past + [[first + newest, last + newest] for first, last in skip],
        }
        self.forget(newest)

    def grow(self) -> None:
        """Shards are appended."""
        self.corpora = self.corpora[-1:]
        self.forget(max(self.checkpoints))

    def forget(self, newest: int) -> None:
        """What comes up to a rollback is another thing than it was; only what is behind it is passed over."""
        self.left = [one for one in self.left if one.rollback.step <= newest]
        self.kill()


KEYS = st.fixed_dictionaries({}, optional={
    "sequence_length": st.integers(2, 9), "global_size": st.integers(1, 6),
    "packing": st.sampled_from(["concat", "best_fit"]),
    "sources": st.sampled_from([{"web": {}}, {"web": {"weight": 3}, "code": {}}, {"code": {}, "web": {"weight": 5}}]),
})  # fmt: skip


@st.composite
def phases(draw: st.DrawFn) -> list[dict[str, Any]]:
    steps = draw(st.lists(st.integers(1, 15), unique=True, max_size=3).map(sorted))
    return [{"at_step": step, **draw(KEYS)} for step in steps]


@st.composite
def skips(draw: st.DrawFn) -> list[list[int]]:
    firsts = sorted(draw(st.sets(st.integers(0, 12), max_size=2)))
    return [[first, first + draw(st.integers(1, 4))] for first in firsts]


DATA = st.builds(lambda phases, skip: {"phases": phases, "skip": skip}, phases(), skips())
MOMENTS = st.sampled_from(["recorded"] * 4 + ["renaming", "renamed"])
BACK = st.tuples(st.just("back"), st.integers(0, 5), MOMENTS)
KILL = st.tuples(st.sampled_from(["kill", "lose"]))
CHANGE = st.tuples(st.just("change"), phases(), skips()) | st.tuples(st.just("grow"))

Act = tuple[Any, ...]


def chapters(ends: st.SearchStrategy[Act]) -> st.SearchStrategy[list[Act]]:
    """Some steps, perhaps a checkpoint, more steps, and something happens; several times."""
    go = st.integers(1, 4).map(lambda number: [("go", number)])
    chapter = st.tuples(go, st.sampled_from([[("save",)]] * 3 + [[]]), go, ends.map(lambda act: [act])).map(
        lambda parts: [act for part in parts for act in part]
    )
    return st.lists(chapter, min_size=1, max_size=6).map(lambda told: [act for one in told for act in one])


def told(story: Story, acts: Sequence[Act]) -> Story:
    """A story, act by act, and a few steps more than what rollbacks say."""
    for name, *values in acts:
        getattr(story, name)(*values)
    last = max([story.step, *(one.step for one in in_force(read_rollbacks(story.folder)))]) + 6
    story.go(last - story.step)
    return story


def require_nothing_twice(story: Story) -> None:
    """Each position comes once in its epoch or is passed over, and so is all that was left behind."""
    read, passed = read_of(story.order, story.made), passed_over(story.order, story.step - 1)
    assert set((read + passed).values()) == {1}
    for left in story.left:
        assert left.read <= passed


@given(DATA, chapters(BACK | BACK | KILL))
@settings(max_examples=60, deadline=None)
def test_what_was_left_behind_is_passed_over_and_the_journal_tells_it(
    corpora: list[Corpus], data: dict[str, Any], acts: list[Act]
) -> None:
    """Rollbacks in rollbacks, killed anywhere, with phases and skips of the config right where they go back to, too."""
    with tempfile.TemporaryDirectory() as folder:
        story = told(Story(Path(folder), corpora, data), acts)
        require_nothing_twice(story)
        anew = story.order_after(NOTHING)
        assert [anew.batch(step) for step in range(story.step)] == story.made
        assert anew.phases(story.step) == story.order.phases(story.step)
        everything = read_of(anew, story.made) + passed_over(anew, story.step - 1)
        for source, epoch in {(one[0], one[1] - 1) for one in everything if one[1]}:  # behind which another began
            sizes = story.order.cuts.sources[source].num_positions.tolist()
            expected = {(source, epoch, shard, place) for shard, size in enumerate(sizes) for place in range(size)}
            assert {one for one in everything if one[:2] == (source, epoch)} == expected


@given(DATA, chapters(BACK | BACK | KILL | CHANGE))
@settings(max_examples=60, deadline=None)
def test_so_it_is_whatever_the_user_changes_in_between(
    corpora: list[Corpus], data: dict[str, Any], acts: list[Act]
) -> None:
    """Other phases and skips to come, on the branch that was left too, and shards that are appended."""
    with tempfile.TemporaryDirectory() as folder:
        require_nothing_twice(told(Story(Path(folder), corpora, data), acts))


@given(DATA, chapters(BACK), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_ranks_that_start_behind_rollbacks_read_just_that(
    corpora: list[Corpus], data: dict[str, Any], acts: list[Act], world_size: int, micro_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        story = told(Story(Path(folder), corpora, data), acts)
    source = source_of(story.corpora[0])
    shares = [Share(rank, world_size, micro_size) for rank in range(world_size)]
    ranks = [Loader(source, story.order, share, PAD) for share in shares]
    alone = Loader(source, story.order, Share(0, 1, 100), PAD)
    for step in range(max(story.checkpoints), story.step):
        turns = zip(*(rank.batch(step).micro_batches for rank in ranks), strict=True)
        rows = [row for turn in turns for micro in turn for row in micro.input_ids.tolist()]
        expected = alone.batch(step).micro_batches[0].input_ids.tolist()
        number = len(story.made[step])
        assert rows[:number] == expected[:number]
        assert {token for row in rows[number:] for token in row} <= {PAD}


def begun(corpus: Corpus, **data: Any) -> Order:
    return order_after(config_of(corpus, **data), source_of(corpus), NOTHING)


def test_where_nothing_changes_it_is_a_skip_of_the_steps_left(corpora: list[Corpus]) -> None:
    """What comes behind it is what would have come without it, some steps later."""
    [corpus, _], data = corpora, {"skip": [[4, 6]]}
    order = begun(corpus, **data)
    first = rolled_back(order, 3, 9, [])
    assert first.to_json() == {
        "branch": 1, "step": 3, "from_step": 9, "skipped_steps": 8,
        "passed": [{"step": 3, "setting": None, "skipped_steps": 8}],
    }  # fmt: skip
    config, source = config_of(corpus), source_of(corpus)
    gone_back = order_after(config, source, NOTHING, [first])
    assert [gone_back.batch(step) for step in range(12)] == [
        begun(corpus, skip=[[3, 11]]).batch(step) for step in range(12)
    ]
    assert [one.at for one in gone_back.batch(3)] == [one.at for one in order.batch(9)]
    later = rolled_back(gone_back, 2, 7, [first])
    assert (later.branch, later.step, later.skipped_steps) == (2, 2, 5 + 8)
    assert in_force([first, later]) == [later]
    again = rolled_back(gone_back, 5, 7, [first])
    assert (again.branch, again.skipped_steps) == (2, 2)
    assert in_force([first, again]) == [first, again]
    same = rolled_back(gone_back, 3, 7, [first])
    assert same.skipped_steps == 4 + 8
    assert (in_force([first, again, later]), in_force([first, again, same])) == ([later], [same])


def test_what_was_between_the_steps_of_two_rollbacks_stays(corpora: list[Corpus]) -> None:
    """A later one to an earlier step takes the place of the first, and of nothing else."""
    data: Any = {"phases": [{"at_step": 4, "global_size": 2}, {"at_step": 6, "sequence_length": 7}], "skip": [[5, 6]]}
    config, source = config_of(corpora[0], **data), source_of(corpora[0])
    first = rolled_back(order_after(config, source, NOTHING), 7, 9, [])
    then = order_after(config, source, NOTHING, [first])
    second = rolled_back(then, 3, 9, [first])
    for past in (NOTHING, then.past(3)):
        order = order_after(config, source, past, [first, second])
        assert [phase.first_step for phase in order.phases(9)][-4:] == [3, 4, 5, 6]
        settings = [order.phase(step).setting for step in (3, 4, 6)]
        assert [(one.global_batch, one.sequence_length) for one in settings] == [(4, 5), (2, 5), (2, 7)]
        assert [one.at for one in order.batch(3)] != [one.at for one in then.batch(3)]


def test_appended_shards_are_there_at_once(corpora: list[Corpus]) -> None:
    """Of a run that resumes before a step that it went back to, or right at it."""
    config, source = config_of(corpora[1]), source_of(corpora[1])
    order = begun(corpora[0])
    back = rolled_back(order, 6, 9, [])
    for step in (4, 6):
        more = order_after(config, source, order.past(step), [back])
        assert [more.phase(one).setting.sources[0].num_shards for one in (step - 1, step, 9)] == [2, 3, 3]


def test_where_the_batch_grows_steps_are_rounded_up(corpora: list[Corpus]) -> None:
    order = begun(corpora[0], global_size=4, phases=[{"at_step": 5, "global_size": 6}])
    back = rolled_back(order, 3, 8, [])
    assert back.skipped_steps == 7  # 2 steps of 4 sequences and 3 of 6
    assert [one.skipped_steps for one in back.passed] == [2, 3]


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_a_phase_that_began_where_it_goes_back_to_goes_on(corpora: list[Corpus], packing: str) -> None:
    """Its open shards are not cut again: the next steps are those that the other branch would have made.

    But for what the config skips at that step.
    """
    phases = [{"at_step": 5, "sequence_length": 7, "packing": packing, "global_size": 3}]
    for skip, more in ([], 0), ([[5, 7]], 2):
        order = begun(corpora[0], phases=phases, skip=skip)
        config, source = config_of(corpora[0], phases=phases, skip=skip), source_of(corpora[0])
        gone_back = order_after(config, source, NOTHING, [rolled_back(order, 5, 8, [])])
        assert [gone_back.batch(step) for step in range(5, 12)] == [order.batch(step + more) for step in range(8, 15)]


def test_conversations_are_passed_over_as_well(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Yes?"}, {"role": "assistant", "content": "No."}]
    (tmp_path / "chats").write_text((json.dumps({"messages": chat}) + "\n") * 30)
    chats = Conversations(tmp_path / "chats", trained(), 60)
    config = config_of(write_corpus(tmp_path, {"web": [[range(9)]]}), global_size=2).model_copy(update={
        "data": InstructData(type="instruct", train="chats", validation="chats", sequence_length=60),
    })  # fmt: skip
    order = order_after(config, chats, NOTHING)
    back = rolled_back(order, 2, 5, [])
    gone_back = order_after(config, chats, order.past(2), [back])
    seen = [[sample.sequence for sample in order.batch(step)] for step in range(9)]
    assert [[sample.sequence for sample in gone_back.batch(step)] for step in range(6)] == seen[:2] + seen[5:]
    past = Past.from_json(gone_back.past(4).to_json())
    assert order_after(config, chats, past, [back]).batch(5) == gone_back.batch(5)
    with pytest.raises(
        ConfigError, match=r"had a range from step 2 on, .* \(or journal.jsonl a rollback\); put it back"
    ):
        order_after(config, chats, past)


PHASES = [{"at_step": 5, "sequence_length": 7}]


@pytest.fixture
def back(corpora: list[Corpus]) -> Rollback:
    """From step 8 to step 5, at which a phase begins."""
    return rolled_back(begun(corpora[0], phases=PHASES), 5, 8, [])


def after(corpus: Corpus, step: int, rollbacks: Sequence[Rollback], phases: Any = PHASES, **data: Any) -> Past:
    order = order_after(config_of(corpus, phases=deepcopy(phases), **data), source_of(corpus), NOTHING, rollbacks)
    return order.past(step)


SKIP_GONE = r"data.skip had a range from step 5 on, which the config lacks \(or journal.jsonl a rollback\)"
FAULTS: dict[str, tuple[bool, list[dict[str, Any]], list[list[int]], str]] = {
    "journal lost": (True, PHASES, [], SKIP_GONE),
    "checkpoint of the other branch": (
        False, PHASES, [], "data.skip or a rollback in journal.jsonl passes over data at step 5, and steps up to 10 are"
        " trained without it; let it begin at step 10 or later, or set aside checkpoints behind step 5 that are",
    ),
    "phase gone": (True, [], [], "data.sequence_length was 7, is 5 from step 5 on; restore that"),
    "phase changed": (True, [{"at_step": 5, "sequence_length": 8}], [], "data.sequence_length was 7, is 8 from"),
    "skip there": (True, PHASES, [[5, 6]], "data.skip or a rollback in journal.jsonl passes over data at step 5, and"),
    "skip before": (True, PHASES, [[3, 4]], "data.skip begins at step 3, and steps up to 10 are trained without it"),
    "phase behind": (True, [*PHASES, {"at_step": 7, "global_size": 2}], [], "data.phases has one at step 7, and"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_the_past_lacks_or_has_is_told(corpora: list[Corpus], back: Rollback, name: str) -> None:
    with_it, phases, skip, fault = FAULTS[name]
    past = after(corpora[0], 10, [back] if with_it else [])
    now = [] if name == "journal lost" else [back]
    with pytest.raises(ConfigError, match=f"^run runs/one is at step 10: {fault}"):
        order_after(config_of(corpora[0], phases=deepcopy(phases), skip=skip), source_of(corpora[0]), past, now)


def test_another_number_of_skipped_steps_is_told(corpora: list[Corpus], back: Rollback) -> None:
    past = after(corpora[0], 10, [back])
    other = replace(back, passed=(*back.passed[:-1], replace(back.passed[-1], skipped_steps=2)))
    with pytest.raises(
        ConfigError, match=r"data.skip, with rollbacks in journal.jsonl, passed over 3 steps at step 5, "
    ):
        order_after(config_of(corpora[0], phases=PHASES), source_of(corpora[0]), past, [other])


def test_what_is_passed_over_must_be_there(corpora: list[Corpus], tmp_path: Path) -> None:
    """A source that only the branch that was left had; and shards as they were."""
    first: Any = {"sources": {"code": {}}}
    both = {**first, "phases": [{"at_step": 5, "sources": {"code": {}, "web": {}}}]}
    order = begun(corpora[0], **deepcopy(both))
    back, past = rolled_back(order, 3, 8, []), order.past(3)
    without = config_of(corpora[0], **deepcopy(first))
    only = Corpora({"code": (corpora[0], "code")}, "train")
    for known in (past, NOTHING):
        with pytest.raises(
            ConfigError, match="run runs/one went back to step 3 behind steps with source 'web', which the"
        ):
            order_after(without, only, known, [back])
    changed = write_corpus(tmp_path / "changed", {**SHARDS, "web": SHARDS["web"][::-1]})
    with pytest.raises(CheckpointError, match="data of source 'web' changed since step 8; restore it"):
        order_after(config_of(changed, **deepcopy(both)), source_of(changed), past, [back])
    later = {**first, "phases": [{"at_step": 20, "sources": {"code": {}, "web": {"weight": 0}}}]}
    order_after(config_of(corpora[0], **later), source_of(corpora[0]), past, [back]).batch(3)


def test_a_damaged_journal_is_told(tmp_path: Path, back: Rollback) -> None:
    journal = Journal(tmp_path)
    journal.write("start", step=0)
    journal.write(ROLLBACK, **back.to_json())
    assert read_rollbacks(tmp_path) == (back,)
    journal.write(ROLLBACK, **{**back.to_json(), "passed": [{"skipped_steps": 1}]})
    with pytest.raises(
        RunError, match=rf"journal.jsonl of run {tmp_path} has a rollback whose passed.0.step is wrong;"
    ):
        read_rollbacks(tmp_path)
    assert read_rollbacks(tmp_path / "elsewhere") == ()


def test_the_table_of_a_run_s_data_tells_of_rollbacks(corpora: list[Corpus], back: Rollback, tmp_path: Path) -> None:
    config = config_of(corpora[0], phases=PHASES).model_copy(update={"output": str(tmp_path)})
    source = source_of(corpora[0])
    plain = data_table(config, source)
    Journal(tmp_path).write(ROLLBACK, **back.to_json())
    table, order = data_table(config, source), order_after(config, source, NOTHING, [back])
    parts = [(part.first_step, part.skipped_steps, part.first_sample) for part in table.phases]
    assert parts == [(0, 0, 0), (5, 3, order.first_sample(5))]
    assert table.epochs == pytest.approx(order.epochs(40), rel=0.05)
    assert table.epochs["web"] > plain.epochs["web"]
