import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.batch import IGNORED
from pipeline.data.mixture import source_names
from pipeline.data.stateful import Source, StatefulLoader
from pipeline.errors import CheckpointError, ConfigError, CorpusError
from tests.unit.corpus.build import write_corpus

DOCUMENT = Path(__file__).parents[3] / "docs" / "loader.md"
PAD = 65_000
SIZES = {"web": [[30, 5, 90], [41, 17]], "code": [[64], [9, 9, 9]]}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora of one source each, whose tokens tell where they are from."""
    folder = tmp_path_factory.mktemp("stateful") / "corpora"
    for number, (name, shards) in enumerate(SIZES.items()):
        documents = [
            [[20_000 * number + 1000 * s + 100 * d + n for n in range(size)] for d, size in enumerate(sizes)]
            for s, sizes in enumerate(shards)
        ]
        write_corpus(folder / name, {name: documents})
    return folder


def build(corpora: Path, rank: int = 0, world_size: int = 1, micro_size: int = 2, **changes: Any) -> StatefulLoader:
    weights = changes.pop("weights", {"web": 2.0, "code": 1.0})
    sources = [Source(corpora / name, name, weight) for name, weight in weights.items()]
    arguments = {"sequence_length": 8, "global_size": 6, "seed": 4, "pad_id": PAD} | changes
    return StatefulLoader(sources, rank=rank, world_size=world_size, micro_size=micro_size, **arguments)


def take(loaders: Sequence[StatefulLoader], number: int, global_size: int = 6) -> list[torch.Tensor]:
    """Inputs and labels of the next global batches of all ranks, in their order."""
    iterators = [iter(loader) for loader in loaders]
    found = []
    for _ in range(number):
        ranks = [next(iterator).micro_batches for iterator in iterators]
        turns = [micro for turn in zip(*ranks, strict=True) for micro in turn]
        both = torch.cat([torch.stack([micro.input_ids, micro.labels], dim=1) for micro in turns])
        assert (both[global_size:, 1] == IGNORED).all()
        found.append(both[:global_size])
    return found


def read(batches: Sequence[torch.Tensor]) -> Counter[int]:
    """How often each token was read; no two of a corpus are the same."""
    counts = Counter(torch.cat([batch[:, 0].flatten() for batch in batches]).tolist()) if batches else Counter()
    del counts[PAD]
    return counts


@given(
    stretches=st.lists(
        st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=6
    ),
    packing=st.sampled_from(["concat", "best_fit"]),
)
@settings(max_examples=20, deadline=None)
def test_global_batches_do_not_depend_on_when_and_where_states_are_loaded(
    corpora: Path, stretches: list[tuple[int, int, int, int]], packing: str
) -> None:
    """Each stretch goes on from the state of any one rank of the last, as JSON, with other ranks and micro sizes."""
    expected = take([build(corpora, packing=packing)], sum(number for number, *_ in stretches))
    found: list[torch.Tensor] = []
    state = None
    for number, world_size, micro_size, keeper in stretches:
        loaders = [build(corpora, rank, world_size, micro_size, packing=packing) for rank in range(world_size)]
        if state is not None:
            for loader in loaders:
                loader.load_state_dict(json.loads(state))
        found += take(loaders, number)
        states = {json.dumps(loader.state_dict()) for loader in loaders}
        assert len(states) == 1
        state = json.dumps(loaders[keeper % world_size].state_dict())
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@given(
    first=st.integers(0, 3),
    ways=st.lists(
        st.tuples(st.integers(1, 20), st.integers(1, 9), st.sampled_from(["concat", "best_fit"])),
        min_size=1, max_size=3,
    ),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_state_goes_on_in_another_way_and_nothing_is_lost_or_repeated(
    corpora: Path, first: int, ways: list[tuple[int, int, str]]
) -> None:
    """One source: whenever one looks, no token has been read two times more than another."""
    loader = build(corpora, weights={"web": 1.0})
    found = take([loader], first)
    for length, global_size, packing in ways:
        state = loader.state_dict()
        loader = build(corpora, weights={"web": 1.0}, sequence_length=length, global_size=global_size, packing=packing)
        loader.load_state_dict(state)
        found += take([loader], 1, global_size)
        assert max(times(found)) - min(times(found)) <= 1
    while max(times(found)) < 3:
        found += take([loader], 1, global_size)
        assert max(times(found)) - min(times(found)) <= 1


def times(batches: Sequence[torch.Tensor]) -> list[int]:
    """How often each token of `web` was read, but for those that end a shard: they have nothing behind them."""
    counts = read(batches)
    return [
        counts[1000 * s + 100 * d + n]
        for s, sizes in enumerate(SIZES["web"])
        for d, size in enumerate(sizes)
        for n in range(size - (d == len(sizes) - 1))
    ]


def test_the_state_counts_what_was_handed_out_and_not_what_was_prepared(corpora: Path) -> None:
    loader = build(corpora)
    assert loader.state_dict() == {"step": 0, "seed": 4, "phases": [], "bookmarks": {}}
    for batch in loader:
        assert loader.state_dict()["step"] == batch.step + 1
        if batch.step == 4:
            break
    assert [batch.step for batch, _ in zip(loader, range(3), strict=False)] == [5, 6, 7]


def test_a_state_is_small_and_does_not_grow(corpora: Path) -> None:
    loader = build(corpora)
    sizes = []
    for number in (1, 60):
        take([loader], number)
        sizes.append(len(json.dumps(loader.state_dict() | {"phases": []})))
        assert len(json.dumps(loader.state_dict())) < 4096
    assert sizes[1] <= sizes[0] + 2


def test_a_bounded_loader_has_a_length_and_an_end(corpora: Path) -> None:
    loader = build(corpora, num_steps=7)
    assert len(loader) == 7
    assert [batch.step for batch in loader] == list(range(7))
    assert not list(loader)
    with pytest.raises(TypeError, match="give num_steps"):
        len(build(corpora))


def test_documents_are_kept_apart_and_packed_as_asked(corpora: Path) -> None:
    assert all(micro.position_ids is None for micro in next(iter(build(corpora))).micro_batches)
    masked = next(iter(build(corpora, sequence_length=40, mask_documents=True))).micro_batches
    assert any(micro.position_ids is not None for micro in masked)
    for packing in ("concat", "best_fit"):
        found = {tuple(row) for one in take([build(corpora, sequence_length=90, packing=packing)], 3)
                 for row in one[:, 0].tolist()}  # fmt: skip
        whole = set(range(200, 289))  # a document that windows cut
        assert any(whole & set(row) and not whole <= set(row) for row in found) == (packing == "concat")


def test_each_seed_has_an_order_of_its_own_within_a_shard(corpora: Path) -> None:
    orders = set()
    for seed in range(8):
        [batch] = take([build(corpora, weights={"code": 1.0}, seed=seed, global_size=11)], 1, 11)
        firsts = batch[:, 0, 0].tolist()
        orders.add(tuple(token for token in firsts if token < 21_000))
    assert len(orders) == 8


def test_a_split_is_read_as_asked(tmp_path: Path) -> None:
    write_corpus(tmp_path / "web", {"web": [[range(30)]]}, split="validation")
    loader = build(tmp_path, weights={"web": 1.0}, split="validation")
    assert set(read(take([loader], 1))) <= set(range(30))
    with pytest.raises(CorpusError, match="source 'web' is not in the corpus"):
        build(tmp_path, weights={"web": 1.0})


def test_a_state_goes_on_where_shards_were_appended(corpora: Path, tmp_path: Path) -> None:
    loader = build(corpora)
    take([loader], 2)
    for number, (name, shards) in enumerate(SIZES.items()):
        documents = [[[20_000 * number + 1000 * s + 100 * d + n for n in range(size)] for d, size in enumerate(sizes)]
                     for s, sizes in enumerate([*shards, [25]])]  # fmt: skip
        write_corpus(tmp_path / name, {name: documents})
    grown = build(tmp_path)
    grown.load_state_dict(loader.state_dict())
    assert next(iter(grown)).step == 2


def test_a_loop_ends_where_another_begins_or_a_state_is_loaded(corpora: Path) -> None:
    loader = build(corpora)
    one = iter(loader)
    assert [next(one).step for _ in range(3)] == [0, 1, 2]
    other = iter(loader)
    assert next(other).step == 3
    assert not list(one)
    state = loader.state_dict()
    assert next(other).step == 4
    loader.load_state_dict(state)
    assert not list(other)
    assert next(iter(loader)).step == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sequence_length": 0}, r"sequence_length (0) must be an integer from 1 on"),
        ({"micro_size": 2.0}, "micro_size (2.0) must be an integer from 1 on"),
        ({"rank": 2, "world_size": 2}, "rank (2) must be an integer from 0 to world_size - 1, 1"),
        ({"num_steps": -1}, "num_steps (-1) must be an integer from 0 on"),
        ({"weights": {"web": "x"}}, "weights (['x']) must be at least 0, and one of them above"),
        ({"packing": "bestfit"}, "packing ('bestfit') must be concat or best_fit"),
        ({"split": "training"}, "split ('training') must be train, validation or test"),
        ({"weights": {"web": 0.0}}, "weights ([0.0]) must be at least 0, and one of them above"),
        ({"weights": {"web": -1.0, "code": 2.0}}, "weights ([-1.0, 2.0]) must be at least 0, and one of them above"),
    ],
)
def test_an_argument_that_cannot_be_is_named(corpora: Path, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        build(corpora, **arguments)


def test_a_state_of_something_else_is_refused(corpora: Path, tmp_path: Path) -> None:
    loader = build(corpora)
    take([loader], 2)
    state = loader.state_dict()
    with pytest.raises(CheckpointError, match=r"seed \(5\) differs from the state's \(4\); give that one"):
        build(corpora, seed=5).load_state_dict(state)
    with pytest.raises(CheckpointError, match="the state is none that state_dict returned"):
        build(corpora).load_state_dict({"seed": 4, "steps": 5})
    with pytest.raises(CheckpointError, match="source 'code' of the state is not among sources; add it, with weight 0"):
        build(corpora, weights={"web": 1.0}).load_state_dict(state)
    for name in SIZES:
        write_corpus(tmp_path / name, {name: [[range(50)], [range(60)]]})
    with pytest.raises(CheckpointError, match="data of source 'web' changed since the state was saved; restore it"):
        build(tmp_path).load_state_dict(state)


def test_a_source_that_ends_keeps_its_place(corpora: Path) -> None:
    loader = build(corpora)
    before = take([loader], 2)
    later = build(corpora, weights={"web": 1.0, "code": 0.0})
    later.load_state_dict(loader.state_dict())
    without = take([later], 1)
    assert all(token < 20_000 for token in read(without))
    back = build(corpora, weights={"web": 0.0, "code": 1.0})
    back.load_state_dict(later.state_dict())
    code = {token for token in read(before) if token >= 20_000}
    assert code
    assert not code & set(read(take([back], 1)))


def test_a_name_that_two_corpora_have_gets_a_number() -> None:
    keys = [("a", "web"), ("b", "web"), ("a", "web"), ("b", "code")]
    assert source_names(keys) == {("a", "web"): "web", ("b", "web"): "web#1", ("b", "code"): "code"}


def test_the_documentation_runs(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpora.parent)
    [block] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len([line for line in block.splitlines() if line]) <= 20
    values: dict[str, Any] = {}
    exec(block, values)
    assert values["batch"].step == 19
