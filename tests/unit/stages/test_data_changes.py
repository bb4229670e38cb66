"""What one phase of a config leaves of those before it, and what a resumed run makes of phases right at its step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.corpus import Corpus
from pipeline.data.cuts import Cuts
from pipeline.data.holes import read_withdrawn
from pipeline.data.order import Order
from pipeline.data.phases import DamagedChunk, Setting
from pipeline.errors import CheckpointError, ConfigError
from pipeline.stages.data.feed import End
from pipeline.stages.data.plan import order_after, planned
from tests.unit.corpus.build import write_corpus
from tests.unit.stages.test_data_plan import (
    NOTHING,
    SHARDS,
    config_of,
    corpus,
    ends,
    grown,
    past_of,
    shares_of,
    source_of,
)  # fmt: skip

__all__ = ["corpus"]


def settings_at(corpus: Corpus, steps: list[int], **data: Any) -> list[Setting]:
    order = order_after(config_of(corpus, **data), source_of(corpus), NOTHING)
    return [order.phase(step).setting for step in steps]


def test_a_source_may_be_named_by_a_later_phase_only(corpus: Corpus) -> None:
    phases = [{"at_step": 3, "sources": {"web": {}, "code": {"weight": 3}}}]
    table = past_of(corpus, config_of(corpus, sources={"web": {}}, phases=phases), 8).phases
    assert [shares_of(phase) for phase in table] == [{"web": 1}, {"web": 0.25, "code": 0.75}]


def test_the_seed_is_that_of_the_config(corpus: Corpus) -> None:
    config, source = config_of(corpus).model_copy(update={"seed": 11}), source_of(corpus)
    first, changes = planned(config, source)
    expected = Order(Cuts(source.shards, 11), 11, [first], changes)
    past = past_of(corpus, config, 4)
    for order in (order_after(config, source, NOTHING), order_after(config, source, past)):
        assert [order.batch(step) for step in range(6)] == [expected.batch(step) for step in range(6)]


def test_each_phase_keeps_what_it_does_not_name(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text(f"{0:032x}\n")
    one, two, three, four = settings_at(
        corpus, [2, 4, 6, 8], mask_documents=True, temperature=1,
        phases=[
            {"at_step": 3, "withdrawn": str(tmp_path / "ids")},
            {"at_step": 5, "mask_documents": False, "sources": {"web": {"weight": 2}, "code": {}}},
            {"at_step": 7, "global_size": 3},
        ],
    )  # fmt: skip
    digest = read_withdrawn(tmp_path / "ids")[0]
    assert [setting.holes.withdrawn for setting in (one, two, three, four)] == ["", digest, digest, digest]
    assert [setting.mask_documents for setting in (one, two, three, four)] == [True, True, False, False]
    web = round(2 * 199 / (2 * 199 + 50), 4)  # the temperature still holds
    assert round(three.sources[0].weight / 2**32, 4) == web
    assert four == replace(three, global_batch=3)


def test_a_skip_at_the_step_of_a_phase_passes_over_samples_of_the_one_before(corpus: Corpus) -> None:
    config = config_of(corpus, phases=[{"at_step": 3, "global_size": 2}], skip=[[3, 5]])
    order = order_after(config, source_of(corpus), NOTHING)
    assert order.first_sample(3) == 4 * 5
    assert len(order.batch(3)) == 2


def test_phases_to_come_build_on_each_other_and_on_what_was_left_out(corpus: Corpus, tmp_path: Path) -> None:
    """Of a run that resumes at the step of the first of them, with shards that were appended."""
    (tmp_path / "ids").write_text(f"{0:032x}\n")
    data: dict[str, Any] = {"on_damage": "skip", "phases": [
        {"at_step": 3, "sequence_length": 6}, {"at_step": 6, "sequence_length": 7},
        {"at_step": 8, "sequence_length": 9}, {"at_step": 10, "global_size": 3},
        {"at_step": 12, "withdrawn": str(tmp_path / "ids")},
    ]}  # fmt: skip
    lost = DamagedChunk("web", 1, 0)
    order = order_after(config_of(corpus, **data), source_of(corpus), NOTHING).without([lost], 6)
    assert [phase.first_step for phase in order.phases(30)] == [0, 3, 6, 6, 8, 10, 12]
    assert [order.phase(step).setting.sequence_length for step in (2, 3, 6, 8, 12)] == [5, 6, 7, 9, 9]
    past, more = order.past(8), grown(tmp_path / "more")
    again = order_after(config_of(more, **data), source_of(more), past)
    settings = [again.phase(step).setting for step in (7, 8, 10, 12)]
    assert [setting.sequence_length for setting in settings] == [7, 9, 9, 9]
    assert [setting.global_batch for setting in settings] == [4, 4, 3, 3]
    assert [setting.sources[0].num_shards for setting in settings] == [2, 3, 3, 3]
    assert [setting.holes.quarantined for setting in settings] == [(lost,)] * 4
    assert [bool(setting.holes.withdrawn) for setting in settings] == [False, False, False, True]


def test_a_mixture_named_where_a_run_resumes_has_the_sizes_of_now(corpus: Corpus, tmp_path: Path) -> None:
    past, more = past_of(corpus, config_of(corpus), 8), grown(tmp_path / "more")
    config = config_of(more, phases=[{"at_step": 8, "temperature": 1}])
    assert shares_of(past_of(more, config, 9, past).phases[-1]) == {"web": round(598 / 648, 4), "code": 0.0772}


@pytest.mark.parametrize(("phase", "first"), [({"web": {}}, None), ({"web": {}, "code": {}}, {"web": {}})])
def test_shards_of_a_source_that_not_all_phases_had_are_compared_too(
    corpus: Corpus, tmp_path: Path, phase: Any, first: Any
) -> None:
    data = {"sources": first} if first else {}
    config = {**data, "phases": [{"at_step": 3, "sources": phase}]}
    past = past_of(corpus, config_of(corpus, **config), 8)
    changed = write_corpus(tmp_path / "changed", {**SHARDS, "code": [[range(52)]]})
    with pytest.raises(CheckpointError, match="data of source 'code' changed since step 8"):
        order_after(config_of(changed, **config), source_of(changed), past)


def test_packing_and_withdrawn_documents_are_compared_with_the_past(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text(f"{0:032x}\n")
    past = past_of(corpus, config_of(corpus), 8)
    for data, fault in (
        ({"packing": "best_fit"}, r"data.packing was concat, is best_fit; .*\{at_step: 8, packing: best_fit\}"),
        ({"withdrawn": str(tmp_path / "ids")}, r"data.withdrawn was none, is \w{12}; "),
    ):
        with pytest.raises(ConfigError, match=fault):
            order_after(config_of(corpus, **data), source_of(corpus), past)


def test_a_run_whose_data_just_suffice_is_complete(corpus: Corpus) -> None:
    known, made, _ = ends(corpus, at_end="stop")
    assert list(ends(corpus, at_end="stop", steps=made)) == [known, made, "complete"]


def test_what_a_later_phase_packs_is_found_step_by_step(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    """And nobody is warned of epochs before which the run stops."""
    phases = [{"at_step": 2, "packing": "best_fit"}]
    assert next(iter(ends(corpus, at_end="stop", phases=phases))) == 40
    for data, told in (({"phases": phases}, "web about 1.8 times, code about 8.7 times"), ({"at_end": "stop"}, "")):
        caplog.clear()
        config = config_of(corpus, **data)
        End(config, order_after(config, source_of(corpus), NOTHING)).warn()
        assert told in caplog.text if told else not caplog.text
