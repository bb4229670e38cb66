"""From configs to phases, and which configs go on with what was trained."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import validate
from pipeline.config.optimization import Schedule
from pipeline.config.run import RunConfig
from pipeline.corpus.corpus import Corpus
from pipeline.data.corpora import Corpora
from pipeline.data.holes import read_withdrawn
from pipeline.data.mixture import WEIGHT_TOTAL
from pipeline.data.phases import DamagedChunk, Past, Phase
from pipeline.errors import CheckpointError, ConfigError
from pipeline.stages.data.feed import End
from pipeline.stages.data.history import changes_between
from pipeline.stages.data.plan import order_after, planned
from tests.unit.corpus.build import write_corpus
from tests.unit.small import LLAMA

SHARDS = {"web": [[range(60), range(41)], [range(100)]], "code": [[range(51)]]}
"""100 and 99 positions, and 50."""


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "corpus", SHARDS)


def grown(folder: Path) -> Corpus:
    """The corpus with another shard in web."""
    return write_corpus(folder, {**SHARDS, "web": [*SHARDS["web"], [range(400)]]})


def config_of(corpus: Corpus, steps: int = 40, global_size: int = 4, **data: Any) -> RunConfig:
    sources = [{"corpus": str(corpus.folder), "source": name} for name in ("web", "code")]
    values = {"type": "corpus", "sources": sources, "sequence_length": 5, **data}
    for owner in (values, *values.get("phases", [])):
        if isinstance(owner.get("sources"), dict):
            owner["sources"] = [
                {"corpus": str(corpus.folder), "source": name, **share} for name, share in owner["sources"].items()
            ]
    return validate(RunConfig, {
        "stage": "pretrain", "output": "runs/one", "model": LLAMA, "data": values,
        "batch": {"global_size": global_size, "micro_size": 1}, "duration": {"steps": steps},
        "optimizer": {"type": "adamw", "lr": 1e-3},
    }, "test")  # fmt: skip


def source_of(corpus: Corpus) -> Corpora:
    return Corpora({name: (corpus, name) for name in ("web", "code")}, "train")


NOTHING = Past(0, ())


def past_of(corpus: Corpus, config: RunConfig, step: int, past: Past = NOTHING) -> Past:
    """What a checkpoint after `step` steps says, through JSON; of a run that went on from another one."""
    order = order_after(config, source_of(corpus), past)
    return Past.from_json(json.loads(json.dumps(order.past(step).to_json())))


def shares_of(phase: Phase) -> dict[str, float]:
    return {share.name: round(share.weight / WEIGHT_TOTAL, 4) for share in phase.setting.sources}


@pytest.mark.parametrize(
    ("data", "shares"),
    [
        ({}, {"web": 0.5, "code": 0.5}),
        ({"sources": {"web": {"weight": 3}, "code": {}}}, {"web": 0.75, "code": 0.25}),
        ({"sources": {"web": {"epochs": 1}, "code": {"epochs": 2}}}, {"web": round(199 / 299, 4), "code": 0.3344}),
        ({"temperature": 1}, {"web": round(199 / 249, 4), "code": 0.2008}),
        ({"temperature": 2}, {"web": round(199**0.5 / (199**0.5 + 50**0.5), 4), "code": 0.3339}),
        ({"sources": {"web": {"weight": 2}, "code": {}}, "temperature": 1}, {"web": 0.8884, "code": 0.1116}),
    ],
)
def test_forms_of_a_mixture(corpus: Corpus, data: dict[str, Any], shares: dict[str, float]) -> None:
    assert shares_of(planned(config_of(corpus, **data), source_of(corpus))[0]) == shares


def test_a_config_tells_its_phases_beforehand(corpus: Corpus, tmp_path: Path) -> None:
    """Each keeps what it does not name; a number of tokens is rounded up to a whole step."""
    (tmp_path / "ids").write_text(f"{0:032x}\n")
    config = config_of(corpus, phases=[
        {"at_step": 2, "sequence_length": 10, "sources": {"web": {"weight": 3}, "code": {}}},
        {"at_tokens": 41, "global_size": 2, "mask_documents": True},
        {"at_step": 9, "packing": "best_fit", "temperature": 1},
        {"at_step": 12, "withdrawn": str(tmp_path / "ids")},
    ], skip=[[1, 4]])  # fmt: skip
    table = past_of(corpus, config, 20).phases
    assert [(phase.first_step, phase.skipped_steps) for phase in table] == [
        (0, 0),
        (1, 3),
        (2, 0),
        (3, 0),
        (9, 0),
        (12, 0),
    ]
    lengths = [(phase.setting.sequence_length, phase.setting.global_batch, phase.setting.packing) for phase in table]
    assert lengths == [(5, 4, "concat"), (5, 4, "concat"), (10, 4, "concat"), (10, 2, "concat"),
                       (10, 2, "best_fit"), (10, 2, "best_fit")]  # fmt: skip
    assert [phase.setting.mask_documents for phase in table] == [False, False, False, True, True, True]
    assert [shares_of(phase)["web"] for phase in table] == [
        0.5,
        0.5,
        0.75,
        0.75,
        round(597 / 647, 4),
        round(597 / 647, 4),
    ]
    assert [phase.first_sample for phase in table] == [0, 16, 20, 24, 36, 42]
    assert table[-1].setting.holes.withdrawn == read_withdrawn(tmp_path / "ids")[0]
    assert table[-1].setting.comes_as(table[-2].setting)
    assert changes_between(table[1].setting, table[2].setting) == {
        "sources": [{"web": 0.5, "code": 0.5}, {"web": 0.75, "code": 0.25}], "sequence_length": [5, 10],
    }  # fmt: skip


PAST = {"phases": [{"at_step": 3, "sequence_length": 10}], "skip": [[5, 7]]}

CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "length": ({**PAST, "sequence_length": 6}, r"data.sequence_length was 5, is 6; restore that, and to change it from"
               r" here on add to data.phases: \{at_step: 8, sequence_length: 6\}"),
    "length of a phase": ({**PAST, "phases": [{"at_step": 3, "sequence_length": 9}]},
                          r"data.sequence_length was 10, is 9 from step 3 on; restore that"),
    "batch": ({**PAST, "global_size": 5}, r"batch.global_size was 4, is 5; .*\{at_step: 8, global_size: 5\}"),
    "mixture": ({**PAST, "sources": {"web": {"weight": 3}, "code": {}}},
                r"data.sources was \{web: 0.5, code: 0.5\}, is \{web: 0.75, code: 0.25\}; .*: 8, sources: …\}"),
    "two keys": ({**PAST, "sequence_length": 6, "mask_documents": True},
                 "data.sequence_length was 5, is 6; data.mask_documents was false, is true; restore"),
    "phase gone": ({"skip": PAST["skip"]}, "a phase began at step 3, which the config lacks; put it back, and change"
                   " what comes from step 8 on"),
    "phase moved": ({**PAST, "phases": [{"at_step": 2, "sequence_length": 10}]},
                    "data.phases has one at step 2, and steps up to 8 are trained without it; let it begin at step 8"),
    "phase slipped in": ({**PAST, "phases": [*PAST["phases"], {"at_step": 7, "global_size": 3}]},
                         "data.phases has one at step 7, and steps up to 8 are trained without it"),
    "skip gone": ({"phases": PAST["phases"]}, "data.skip had a range from step 5 on, which the config lacks"),
    "skip slipped in": ({**PAST, "skip": [[5, 7], [6, 9]]}, "data.skip begins at step 6, and steps up to 8 are"),
    "skip longer": ({**PAST, "skip": [[5, 8]]}, "data.skip passed over 2 steps at step 5, and is 3; restore it"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_config_that_contradicts_the_past_is_refused(corpus: Corpus, name: str) -> None:
    data, sentence = CONTRADICTIONS[name]
    past = past_of(corpus, config_of(corpus, **PAST), 8)
    with pytest.raises(ConfigError, match=f"^run runs/one is at step 8: {sentence}") as error:
        order_after(config_of(corpus, **data), source_of(corpus), past)
    assert "\n" not in str(error.value)


def test_a_source_that_is_gone_is_told_also_where_phases_are_to_come(corpus: Corpus) -> None:
    past = past_of(corpus, config_of(corpus), 8)
    config = config_of(corpus, sources={"web": {}}, phases=[{"at_step": 10, "sequence_length": 7}])
    with pytest.raises(ConfigError, match=r"data.sources was \{web: 0.5, code: 0.5\}, is \{web: 1\}; restore that"):
        order_after(config, Corpora({"web": (corpus, "web")}, "train"), past)


@pytest.mark.parametrize(("temperature", "web"), [(1e-6, 1.0), (1e9, 0.5)])
def test_any_temperature_gives_weights(corpus: Corpus, temperature: float, web: float) -> None:
    order = order_after(config_of(corpus, temperature=temperature), source_of(corpus), NOTHING)
    assert shares_of(order.phase(0))["web"] == web


def test_a_withdrawn_file_that_changed_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text(f"{0:032x}\n")
    config = config_of(corpus, withdrawn=str(tmp_path / "ids"))
    past = past_of(corpus, config, 8)
    (tmp_path / "ids").write_text(f"{1:032x}\n")
    with pytest.raises(ConfigError, match=r"data.withdrawn was \w{12}, is \w{12}; .*\{at_step: 8, withdrawn: …\}"):
        order_after(config, source_of(corpus), past)


def batches(corpus: Corpus, config: RunConfig, past: Past, last: int) -> list[Any]:
    order = order_after(config, source_of(corpus), past)
    return [order.batch(step) for step in range(past.step, last)]


def test_what_comes_may_change_freely(corpus: Corpus) -> None:
    """A resumed run with other phases to come is the run that was always going to have them."""
    past = past_of(corpus, config_of(corpus, **PAST, at_end="repeat"), 8)
    later = {"at_step": 8, "global_size": 6, "packing": "best_fit"}
    other = config_of(corpus, **{**PAST, "phases": [*PAST["phases"], later], "skip": [[5, 7], [10, 13]],
                                 "at_end": "stop", "on_damage": "skip"})  # fmt: skip
    assert batches(corpus, other, past, 20) == batches(corpus, other, NOTHING, 20)[8:]
    with_later = past_of(corpus, other, 8)
    assert with_later == past
    again = config_of(corpus, **PAST)
    assert batches(corpus, again, with_later, 20) == batches(corpus, again, NOTHING, 20)[8:]


@pytest.mark.parametrize(
    "mixture", [{}, {"temperature": 2}, {"sources": {"web": {"epochs": 1}, "code": {"epochs": 2}}}]
)
def test_appended_shards_are_a_phase_and_weights_stay(corpus: Corpus, tmp_path: Path, mixture: dict[str, Any]) -> None:
    """Also where weights come from sizes, and however often the run is resumed after that."""
    data = {**mixture, "phases": [{"at_step": 4, "sequence_length": 7}, {"at_step": 15, "sequence_length": 9}]}
    past = past_of(corpus, config_of(corpus, **data), 8)
    more = grown(tmp_path / "more")
    for shift, last in enumerate([12, 18, 25]):
        past = past_of(more, config_of(more, **data), last, past)
        table = past.phases
        assert [phase.first_step for phase in table] == [0, 4, 8] + [15] * bool(shift)
    assert [phase.setting.sources[0].num_shards for phase in table] == [2, 2, 3, 3]
    assert {tuple(shares_of(phase).items()) for phase in table} == {tuple(shares_of(table[0]).items())}
    assert changes_between(table[1].setting, table[2].setting) == {
        "shards": [{"web": 2, "code": 1}, {"web": 3, "code": 1}]
    }


def test_a_mixture_that_is_named_later_has_the_sizes_of_then(corpus: Corpus, tmp_path: Path) -> None:
    data = {"phases": [{"at_step": 10, "temperature": 1}]}
    past = past_of(corpus, config_of(corpus, **data), 8)
    more = grown(tmp_path / "more")
    past = past_of(more, config_of(more, **data), 12, past)
    assert shares_of(past.phases[-1]) == {"web": round(598 / 648, 4), "code": round(50 / 648, 4)}
    past_of(more, config_of(more, **data), 14, past)  # and is no contradiction later


def test_shards_that_changed_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    config = config_of(corpus)
    past = past_of(corpus, config, 8)
    for other in ([[range(61), range(40)], SHARDS["web"][1]], [SHARDS["web"][0]], SHARDS["web"][::-1]):
        changed = write_corpus(tmp_path / "changed", {**SHARDS, "web": other})
        with pytest.raises(CheckpointError, match="data of source 'web' changed since step 8; restore it, or choose"):
            order_after(config_of(changed), source_of(changed), past)


def test_a_corpus_that_moved_is_the_same(corpus: Corpus, tmp_path: Path) -> None:
    past = past_of(corpus, config_of(corpus), 8)
    moved = Corpus(corpus.folder.rename(tmp_path / "elsewhere"))
    assert order_after(config_of(moved), source_of(moved), past).phases(30) == past.phases


def test_chunks_left_out_stay_out_in_all_phases_to_come(corpus: Corpus) -> None:
    config = config_of(corpus, on_damage="skip", phases=[{"at_step": 10, "sequence_length": 7}])
    lost = [DamagedChunk("web", 1, 0)]
    order = order_after(config, source_of(corpus), NOTHING)
    plain = [order.batch(step) for step in range(20)]  # the loader, too, is some steps ahead
    order = order.without(lost, 6)
    assert [order.batch(step) for step in range(20)] == plain
    past = order.past(8)
    assert [phase.first_step for phase in past.phases] == [0, 6]
    again = order_after(config, source_of(corpus), past)
    for one in (order, again):
        assert [len(one.phase(step).setting.holes.quarantined) for step in (0, 5, 6, 9, 10, 19)] == [0, 0, 1, 1, 1, 1]
    assert again.phases(19) == order.phases(19)
    more = order.without([*lost, DamagedChunk("code", 0, 0)], 6).phases(6)[-1].setting
    assert more.holes.quarantined == (DamagedChunk("code", 0, 0), DamagedChunk("web", 1, 0))
    assert changes_between(order.phase(5).setting, more) == {"quarantined": [[], [["code", 0, 0], ["web", 1, 0]]]}


def ends(corpus: Corpus, **data: Any) -> Iterator[Any]:
    config = config_of(corpus, **data)
    order = order_after(config, source_of(corpus), NOTHING)
    end = End(config, order)
    made = next(made for made in range(100) if end.is_last(made))
    yield from (end.num_steps, made, end.reason(made))


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_a_run_stops_before_the_first_step_that_repeats(corpus: Corpus, packing: str) -> None:
    """10 sequences of code, two of them in each step: sizes tell it beforehand, or packing as it goes."""
    config = config_of(corpus, packing=packing, at_end="stop")
    order = order_after(config, source_of(corpus), NOTHING)
    seen: set[tuple[Any, ...]] = set()
    fresh = 0
    for step in range(40):
        batch = {(one.at.source, one.at.shard, one.sequence) for one in order.batch(step)}
        if batch & seen or len(batch) < 4:
            break
        seen, fresh = seen | batch, step + 1
    known, made, reason = ends(corpus, packing=packing, at_end="stop")
    assert made == fresh
    assert known == (fresh if packing == "concat" else 40)
    assert reason == "end of data: the next step would repeat code"
    assert list(ends(corpus, packing=packing)) == [40, 40, "complete"]
    assert list(ends(corpus, packing=packing, at_end="stop", steps=3)) == [3, 3, "complete"]


def warning(corpus: Corpus, caplog: pytest.LogCaptureFixture, **data: Any) -> str:
    """What is said of epochs when a run starts."""
    config, source = config_of(corpus, **data), source_of(corpus)
    caplog.clear()
    with caplog.at_level("WARNING"):
        End(config, order_after(config, source, NOTHING)).warn()
    return caplog.text


def test_a_warning_says_how_often_each_source_comes(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    """Also a source that has left, and about, without opening a shard, where packing would have to be done to know."""
    assert "sources are seen again: by step 40 web 1.8 times, code 8.7 times" in warning(corpus, caplog)
    assert not warning(corpus, caplog, steps=2)
    left = [{"at_step": 15, "sources": {"web": {}}}]
    assert "sources are seen again: by step 40 web 3.2 times, code 3.1 times" in warning(corpus, caplog, phases=left)
    for shard in corpus.folder.rglob("*.tar"):
        shard.unlink()
    packed = warning(corpus, caplog, packing="best_fit")
    assert "sources are seen again: by step 40 web about 1.8 times, code about 8.7 times" in packed
    assert not warning(corpus, caplog, packing="best_fit", at_end="stop")


def test_what_never_comes_is_warned_of(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    late = warning(corpus, caplog, steps=5, phases=[{"at_step": 4, "global_size": 3}, {"at_step": 5, "global_size": 2}])
    assert "data.phases.1 would begin at the run's end, step 5, or later: it never comes" in late
    assert "phases.0" not in late
    assert "data.skip [6, 9) would begin at" in warning(corpus, caplog, steps=5, skip=[[6, 9]])
    config = config_of(corpus, steps=5).model_copy(update={"schedule": Schedule(type="wsd", decay_start=5)})
    End(config, order_after(config, source_of(corpus), NOTHING)).warn()
    assert "schedule.decay_start (5) would begin at" in caplog.text
